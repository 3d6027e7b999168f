"""What a case is, and what it works with.

A case is a function of a `Trial`. It returns if the server is right, raises `Failed` if it is
not, and `Absent` where the server does not claim, or the run was not given, what the case needs.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, Protocol, TypeVar

from . import judge
from .features import Features, Key, Tenant
from .records import Records, Submission
from .wire import Client, Header, Reply, Target

SUBMIT: Final = "/v1/pcs/submit"
BATCH: Final = "/v1/pcs/batch"
SELF: Final = "/v1/tenants/self"
REGION: Final = "/v1/region/status"
JSON: Final = ("Content-Type", "application/json")
NDJSON: Final = ("Content-Type", "application/x-ndjson")

_T = TypeVar("_T")


class Absent(Exception):  # noqa: N818 - a result, not an error
    """Why a case does not apply to this server or this run."""


class Control(Protocol):
    """Starts and hurts the server from outside."""

    def do(self, verb: str) -> None: ...


@dataclass(frozen=True, slots=True)
class Case:
    """One case. `should` is judged with --strict alone; `slow` cases run beside the others."""

    id: str
    cites: str
    text: str
    run: Callable[[Trial], None]
    needs: frozenset[str] = frozenset()
    should: bool = False
    slow: bool = False
    control: bool = False


CASES: Final[dict[str, Case]] = {}


def case(
    name: str,
    cites: str,
    *,
    needs: str = "submit",
    should: bool = False,
    slow: bool = False,
    control: bool = False,
) -> Callable[[Callable[[Trial], None]], Callable[[Trial], None]]:
    """Enter a function into the list of cases; its docstring says what a right server does."""

    def enter(run: Callable[[Trial], None]) -> Callable[[Trial], None]:
        text = (run.__doc__ or "").partition("\n")[0].strip()
        add(Case(name, cites, text, run, frozenset(needs.split()), should, slow, control))
        return run

    return enter


def add(one: Case) -> None:
    """Enter a case; its id must be new."""
    if one.id in CASES:
        raise ValueError(f"{one.id} stands twice")
    CASES[one.id] = one


class Trial:
    """One server, seen by one case: its tenants, records of its own, and a way to ask."""

    def __init__(
        self, features: Features, client: Client, name: str, control: Control | None = None
    ) -> None:
        self.features = features
        self.client = client
        self.records = Records(name)
        self.draw = random.Random(name)  # noqa: S311 - choices that a run can repeat
        self._control = control

    @property
    def target(self) -> Target:
        """Say where the server is."""
        return self.client.target

    # --- tenants

    def tenant(self, alg: str | None = None, *, version: int | None = None) -> Tenant:
        """Give a tenant with a key of this algorithm and this least version."""
        for one in self.features.ordinary:
            if one.key(alg) is not None and version in (None, one.min_version):
                return one
        wanted = f" with an {alg} key" if alg else ""
        wanted += f" and min_sig_version {version}" if version else ""
        raise Absent(f"no tenant{wanted} is listed")

    def key(self, alg: str | None = None, *, version: int | None = None) -> Key:
        """Give a key of such a tenant."""
        found = self.tenant(alg, version=version).key(alg)
        assert found is not None
        return found

    def two_tenants(self) -> tuple[Tenant, Tenant]:
        """Give two tenants."""
        if len(self.features.ordinary) < 2:
            raise Absent("only one tenant is listed")
        first, second = self.features.ordinary[:2]
        return first, second

    def reader(self, tenant: Tenant | None = None) -> Tenant:
        """Give a tenant that has a read token and, unless it is named, a key."""
        rows = [tenant] if tenant is not None else self.features.ordinary
        for one in rows:
            if one.token is not None:
                return one
        raise Absent("no token_file is listed")

    # --- requests

    def ask(
        self, method: str, path: str, headers: Iterable[Header] = (), body: bytes | None = None
    ) -> Reply:
        """Send a request; the answer must keep the rules that hold for all."""
        reply = self.client.ask(method, path, headers, body)
        self.check(reply, method)
        return reply

    def check(self, reply: Reply, method: str = "POST") -> None:
        """Hold an answer to the rules that hold for all."""
        judge.require(not 300 <= reply.status <= 399, f"a redirect: {reply.status}")
        if method == "HEAD":
            judge.require(reply.body == b"", "the answer to HEAD has a body")
        if reply.status < 400 or method == "HEAD":
            judge.request_id(reply)
        elif "problem-json" in self.features.claimed:
            judge.problem(reply)

    def submit(self, body: bytes, *more: Header, path: str = SUBMIT) -> Reply:
        """Submit bytes as a record."""
        return self.ask("POST", path, [JSON, *more], body)

    def send(self, submission: Submission, *more: Header) -> Reply:
        """Submit a record."""
        return self.submit(submission.body, *more)

    def get(self, pcs_id: str, tenant: Tenant, *, method: str = "GET") -> Reply:
        """Read an outcome with the token of a tenant."""
        token = self.reader(tenant).token
        return self.ask(method, f"/v1/pcs/{pcs_id}", [("Authorization", f"Bearer {token}")])

    def owner(self, key: Key) -> Tenant:
        """Give the tenant of a key."""
        return next(one for one in self.features.tenants if one.id == key.tenant)

    def unrecorded(self, submission: Submission) -> None:
        """Require that nothing stands under the id of a record that was refused."""
        tenant = self.owner(submission.key)
        if tenant.token is not None and "get" in self.features.claimed:
            judge.refused(self.get(submission.pcs_id, tenant), 404, "not_found")

    def stands(self, submission: Submission, first: Reply) -> None:
        """Require that a record's first outcome is still the answer, byte for byte."""
        again = self.send(submission)
        judge.recorded(again, first.status, again=True)
        judge.require(again.body == first.body, "a duplicate is not answered byte for byte")
        tenant = self.owner(submission.key)
        if tenant.token is not None and "get" in self.features.claimed:
            read = self.get(submission.pcs_id, tenant)
            same = read.status == first.status and read.body == first.body
            judge.require(same, f"GET answers {read.status} {read.body[:120]!r}, not the outcome")

    def control(self, verb: str) -> None:
        """Start or hurt the server."""
        if self._control is None:
            raise Absent("no --control command is given")
        self._control.do(verb)

    def at_once(self, jobs: Sequence[Callable[[], _T]], *, threads: int = 64) -> list[_T]:
        """Run jobs at the same time; give their results in order."""
        with ThreadPoolExecutor(min(threads, len(jobs))) as pool:
            return [one.result() for one in [pool.submit(job) for job in jobs]]
