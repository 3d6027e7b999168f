"""Reading: outcomes and the tenant itself, with a token and without one."""

from __future__ import annotations

import json
from collections.abc import Callable

from .. import judge
from ..features import Tenant
from ..judge import require
from ..records import OFF_D_HAT, signed
from ..trial import REGION, SELF, Case, Trial, add, case
from ..wire import Reply


def _own(trial: Trial, **changes: str) -> tuple[Tenant, str, Reply]:
    """Record something as a tenant that can read; give the tenant, the id and the answer."""
    tenant = trial.reader()
    one = trial.records.fresh(next(tenant.keys_with()), changes)
    return tenant, one.pcs_id, trial.send(one)


@case("reads/2.11/1", "formats 2.11", needs="submit get")
def outcome_is_read(trial: Trial) -> None:
    """GET answers the stored outcome, byte for byte, with the headers of a duplicate."""
    tenant, pcs_id, first = _own(trial)
    read = trial.get(pcs_id, tenant)
    judge.recorded(read, again=True)
    require(read.body == first.body, "GET has another body")
    require(read.header("pcs-position") == first.header("pcs-position"), "another position")


@case("reads/2.11/2", "formats 2.11", needs="submit get default-policy")
def escalated_outcome_is_read(trial: Trial) -> None:
    """GET answers with the status of the first answer, also 202."""
    tenant, pcs_id, first = _own(trial, **OFF_D_HAT)
    read = trial.get(pcs_id, tenant)
    judge.recorded(read, 202, again=True)
    require(read.body == first.body, "GET has another body")


@case("reads/2.11/3", "formats 2.11", needs="submit get")
def outcome_is_there_at_once(trial: Trial) -> None:
    """What was acknowledged can be read at once."""
    for _ in range(30):
        tenant, pcs_id, first = _own(trial)
        require(trial.get(pcs_id, tenant).body == first.body, "it is not there yet")


@case("reads/10.6/1", "formats 10.6", needs="get")
def unknown_id(trial: Trial) -> None:
    """An id that nobody submitted is 404 not_found."""
    judge.refused(trial.get(trial.records.root(), trial.reader()), 404, "not_found")


@case("reads/10.7/1", "formats 10.7", needs="submit get")
def id_of_another_tenant(trial: Trial) -> None:
    """An id of another tenant is 404, as an unknown one is, but for the request id."""
    mine, theirs = trial.two_tenants()
    trial.reader(mine)
    one = trial.records.fresh(next(theirs.keys_with()))
    judge.recorded(trial.send(one))
    hidden = trial.get(one.pcs_id, mine)
    unknown = trial.get(trial.records.root(), mine)
    judge.refused(hidden, 404, "not_found")
    judge.refused(unknown, 404, "not_found")
    same = [_without_id(reply.body, judge.request_id(reply)) for reply in (hidden, unknown)]
    require(same[0] == same[1], f"the two can be told apart: {same}")
    names = [sorted(name for name, _ in reply.headers) for reply in (hidden, unknown)]
    require(names[0] == names[1], f"the headers tell them apart: {names}")


def _without_id(body: bytes, text: str) -> bytes:
    return body.replace(text.encode(), b"")


@case("reads/10.7/2", "formats 10.7", needs="submit get")
def same_id_of_two_tenants(trial: Trial) -> None:
    """Of one id that two tenants recorded each reads its own outcome."""
    mine, theirs = trial.two_tenants()
    for tenant in (mine, theirs):
        trial.reader(tenant)
    tokens = trial.records.members()
    rows = [signed(tokens, next(tenant.keys_with())) for tenant in (mine, theirs)]
    firsts = [trial.send(one) for one in rows]
    for tenant, one, first in zip((mine, theirs), rows, firsts, strict=True):
        judge.recorded(first)
        require(trial.get(one.pcs_id, tenant).body == first.body, "it reads the other's outcome")


@case("reads/9.1/1", "openapi", needs="get")
def malformed_id(trial: Trial) -> None:
    """A pcs_id that is malformed is 404 not_found."""
    tenant = trial.reader()
    for text in ("x", "A" * 64, "a" * 63, "a" * 65, "%61" * 64 + "b", "a%2Fb", "%00", "..%2f"):
        judge.refused(trial.get(text, tenant), 404, "not_found")


@case("reads/9.1/2", "openapi", needs="submit get")
def head_of_an_outcome(trial: Trial) -> None:
    """HEAD answers as GET does, without the body."""
    tenant, pcs_id, first = _own(trial)
    head = trial.get(pcs_id, tenant, method="HEAD")
    require(head.status == first.status, f"HEAD answers {head.status}")
    length = head.header("content-length")
    require(length in (None, str(len(first.body))), f"Content-Length {length}")


@case("reads/9.1/3", "openapi", needs="tenant")
def tenant_reads_itself(trial: Trial) -> None:
    """A tenant reads its key ids, quota and signing policy, and no secret."""
    tenant = trial.reader()
    reply = trial.ask("GET", SELF, [("Authorization", f"bearer {tenant.token}")])
    require(reply.status == 200, f"expected 200, got {reply.status}")
    require(reply.media_type == "application/json", "no JSON")
    members = json.loads(reply.body)
    need = {"tenant", "keys", "signing", "quota", "policy_version"}
    require(need <= set(members) <= need | {"v1_default_kid"}, f"members {sorted(members)}")
    require(members["tenant"] == tenant.id, "another tenant")
    require(members["signing"] == {"min_version": tenant.min_version}, f"{members['signing']}")
    rows = {row["kid"]: row for row in members["keys"]}
    for key in tenant.keys:
        row = rows.get(key.kid, {})
        require(row.get("alg") == key.alg, f"{key.kid}: {row}")
        require(row.get("status") == key.status, f"{key.kid}: {row}")
        require(key.secret.hex() not in reply.body.decode(), "the key is in the answer")
    require(f"{tenant.token}" not in reply.body.decode(), "the token is in the answer")


@case("reads/9.1/5", "openapi", needs="region")
def region_says_how_far_it_is(trial: Trial) -> None:
    """The status of the region has the stream of the tenant's placement, in exactly its members."""
    tenant = trial.reader()
    reply = trial.ask("GET", REGION, [("Authorization", f"Bearer {tenant.token}")])
    require(reply.status == 200, f"expected 200, got {reply.status}")
    require(reply.media_type == "application/json", "no JSON")
    members = json.loads(reply.body)
    require(set(members) == {"region", "streams"}, f"members {sorted(members)}")
    for stream in members["streams"]:
        need = {"placement", "region_epoch", "durable", "replicated", "closed"}
        require(set(stream) == need, f"members {sorted(stream)}")
        require(stream["replicated"] <= stream["durable"], "more is replicated than is durable")


@case("reads/10.6/90", "formats 10.6", needs="region")
def region_says_nothing_to_strangers(trial: Trial) -> None:
    """The status of the region needs a read token."""
    judge.refused(trial.ask("GET", REGION), 401, "unauthorized")


@case("reads/9.1/4", "openapi", needs="tenant")
def tenant_is_the_tokens(trial: Trial) -> None:
    """The token names the tenant, whatever a header says."""
    mine, theirs = trial.two_tenants()
    headers = [("Authorization", f"Bearer {trial.reader(mine).token}"), ("X-Tenant-Id", theirs.id)]
    reply = trial.ask("GET", SELF, headers)
    require(reply.status == 200, f"expected 200, got {reply.status}")
    require(json.loads(reply.body)["tenant"] == mine.id, "the header won")


_WRONG_TOKENS: dict[str, Callable[[str], str | None]] = {
    "none": lambda _: None,
    "empty": lambda _: "",
    "scheme alone": lambda _: "Bearer",
    "no token": lambda _: "Bearer ",
    "basic": lambda token: "Basic " + token,
    "unknown": lambda token: "Bearer " + "x" * len(token),
    "longer": lambda token: f"Bearer {token}0",
    "shorter": lambda token: f"Bearer {token[:-1]}",
    "other case": lambda token: f"Bearer {token.swapcase()}",
    "not ascii": lambda token: f"Bearer \xe9{token[1:]}",
    "twice": lambda token: f"Bearer {token}, Bearer {token}",
}


def _wrong_token(name: str, path: str, make: Callable[[str], str | None]) -> None:
    def run(trial: Trial) -> None:
        token = trial.reader().token
        assert token is not None
        text = make(token)
        headers = [] if text is None else [("Authorization", text)]
        reply = trial.ask("GET", path.format(root=trial.records.root()), headers)
        judge.refused(reply, 401, "unauthorized")
        require(reply.header("www-authenticate"), "401 without WWW-Authenticate")

    number = len(_WRONG_TOKENS) * (path == SELF) + list(_WRONG_TOKENS).index(name) + 2
    what = "the tenant" if path == SELF else "an outcome"
    text = f"A read of {what} with a wrong token ({name}) is 401 unauthorized."
    needs = frozenset({"tenant" if path == SELF else "get"})
    add(Case(f"reads/10.6/{number}", "formats 10.6", text, run, needs))


for _path in ("/v1/pcs/{root}", SELF):
    for _name, _make in _WRONG_TOKENS.items():
        _wrong_token(_name, _path, _make)
