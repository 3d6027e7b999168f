"""The wrong servers: the reference server with exactly one rule wrong each.

A function named after its id replaces parts of the server before it starts. What the rule should
have been, and which cases notice, stands in `mutants/servers.toml`.
"""

from __future__ import annotations

import base64
import dataclasses
import itertools
import json
from collections.abc import Callable
from typing import Any, Final

from fractal_lba.canonical import jcs
from fractal_lba.errors import ValidationError
from fractal_lba_server import ingest as shell
from fractal_lba_server.core import ingest as machine
from fractal_lba_server.core.verify import outcome_bytes, verify
from fractal_lba_server.net import app as wire

LATE_S: Final = 1.0
"""How long after its answer X15 writes a record."""

RULES: Final[dict[str, Callable[[], None]]] = {}


def wrong(rule: Callable[[], None]) -> Callable[[], None]:
    """Enter a wrong server under the name of its function, in capitals."""
    RULES[rule.__name__.upper()] = rule
    return rule


def wrapped(owner: Any, name: str, around: Callable[..., Any]) -> None:
    """Replace a function by one that gets it as its first argument."""
    right = getattr(owner, name)

    def call(*arguments: Any, **named: Any) -> Any:
        return around(right, *arguments, **named)

    setattr(owner, name, call)


@wrong
def x01() -> None:
    """Look the id up first: the signature of a known one is not checked."""
    known: set[Any] = set()

    def on_synced(right: Any, self: Any, event: Any, now_ns: int) -> Any:
        effects = right(self, event, now_ns)
        known.update(effect.key for effect in effects if isinstance(effect, machine.Apply))
        return effects

    def check_now(right: Any, candidate: Any) -> None:
        if candidate.key not in known:
            right(candidate)

    def on_signature(right: Any, self: Any, event: Any, now_ns: int) -> Any:
        if self._checking[event.token].key in known:
            event = event._replace(error=None)
        return right(self, event, now_ns)

    wrapped(machine.Ingest, "_on_synced", on_synced)
    wrapped(machine, "_check_now", check_now)
    wrapped(machine.Ingest, "_on_signature", on_signature)


@wrong
def x02() -> None:
    """Answer every duplicate 200, whatever the first status was."""

    def settle(
        right: Any, self: Any, waiter: Any, key: Any, stored: Any, now_ns: int, **named: Any
    ) -> Any:
        said = stored._replace(status=200) if waiter.replayed else stored
        return right(self, waiter, key, said, now_ns, **named)

    wrapped(machine.Ingest, "_settle", settle)


@wrong
def x03() -> None:
    """Let a later body take the place of the first."""
    later: dict[Any, Any] = {}
    candidates: dict[Any, Any] = {}
    hlc = itertools.count(1)

    def waiter_of(right: Any, self: Any, candidate: Any, **named: Any) -> Any:
        candidates[candidate.token] = candidate
        return right(self, candidate, **named)

    def settle(
        right: Any, self: Any, waiter: Any, key: Any, stored: Any, now_ns: int, **named: Any
    ) -> Any:
        candidate = candidates.pop(waiter.token)
        stored = later.get(key, stored)
        if waiter.content == stored.content:
            return right(self, waiter, key, stored, now_ns, **named)
        policy = machine.PolicyBook().for_tenant(candidate.key[0])
        verdict = verify(candidate.record, candidate.canonical.nanos, policy)
        outcome = outcome_bytes(
            verdict, pcs_id=candidate.key[1], policy_version=policy.version, region="loc",
            hlc=f"{next(hlc):016x}",
        )  # fmt: skip
        content = candidate.canonical.content
        new = stored._replace(content=content, status=verdict.status, outcome=outcome)
        later[key] = new
        return [machine.Answer(waiter.token, new, False, key)]

    def read_answer(right: Any, self: Any, event: Any, entry: Any, stored: Any) -> Any:
        new = later.get((event.tenant, event.pcs_id))
        if new is not None:
            return right(self, event, None, new)
        return right(self, event, entry, stored)

    wrapped(machine.Ingest, "_waiter", waiter_of)
    wrapped(machine.Ingest, "_settle", settle)
    wrapped(machine.Ingest, "_read_answer", read_answer)


@wrong
def x04() -> None:
    """Answer a conflict 200, with the first outcome."""

    def settle(
        right: Any, self: Any, waiter: Any, key: Any, stored: Any, now_ns: int, **named: Any
    ) -> Any:
        same = waiter._replace(content=stored.content)
        return right(self, same, key, stored, now_ns, **named)

    wrapped(machine.Ingest, "_settle", settle)


@wrong
def x05() -> None:
    """Know outcomes by their id alone, whoever the tenant is."""

    def read(right: Any, self: Any, event: Any, now_ns: int) -> Any:
        candidate = right(self, event, now_ns)
        return candidate._replace(key=("everybody", candidate.key[1]))

    def on_read(right: Any, self: Any, event: Any, now_ns: int) -> Any:
        return right(self, event._replace(tenant="everybody"), now_ns)

    wrapped(machine.Ingest, "_read", read)
    wrapped(machine.Ingest, "_on_read", on_read)


@wrong
def x06() -> None:
    """Take the algorithm from the message: an HMAC under an Ed25519 key is an HMAC."""

    def check_key(right: Any, self: Any, record: Any, key_record: Any) -> None:
        right(self, record, dataclasses.replace(key_record, alg=_said(record, key_record)))

    def read(right: Any, self: Any, event: Any, now_ns: int) -> Any:
        candidate = right(self, event, now_ns)
        alg = _said(candidate.record, candidate.key_record)
        return candidate._replace(key_record=dataclasses.replace(candidate.key_record, alg=alg))

    wrapped(machine.Ingest, "_check_key", check_key)
    wrapped(machine.Ingest, "_read", read)


def _said(record: Any, key_record: Any) -> Any:
    return "HMAC" if record.get("alg") == "HMAC" else key_record.alg


@wrong
def x07() -> None:
    """Take a record whose algorithm is `none`, unsigned."""

    def check_key(right: Any, self: Any, record: Any, key_record: Any) -> None:
        named = {**record, "alg": key_record.alg} if record.get("alg") == "none" else record
        right(self, named, key_record)

    def read(right: Any, self: Any, event: Any, now_ns: int) -> Any:
        candidate = right(self, event, now_ns)
        if candidate.record.get("alg") != "none":
            return candidate
        return candidate._replace(key_record=dataclasses.replace(candidate.key_record, alg="HMAC"))

    def check_now(right: Any, candidate: Any) -> None:
        if candidate.record.get("alg") != "none":
            right(candidate)

    wrapped(machine.Ingest, "_check_key", check_key)
    wrapped(machine.Ingest, "_read", read)
    wrapped(machine, "_check_now", check_now)


@wrong
def x08() -> None:
    """Take version 1 of a tenant that requires version 2."""

    def check_key(right: Any, self: Any, record: Any, key_record: Any) -> None:
        right(self, {**record, "sig_v": 2}, key_record)

    wrapped(machine.Ingest, "_check_key", check_key)


class _Anything(str):
    """Is unequal to nothing."""

    __slots__ = ()

    def __eq__(self, other: object) -> bool:
        return True

    def __ne__(self, other: object) -> bool:
        return False

    __hash__ = str.__hash__


@wrong
def x09() -> None:
    """Believe the pcs_id of a record."""
    wrapped(machine, "derive_pcs_id", lambda _right, *_members: _Anything())


@wrong
def x10() -> None:
    """Let the last of two members of one name win."""

    def parse(right: Any, body: bytes) -> Any:
        try:
            return right(body)
        except ValidationError as error:
            if error.code != "member_duplicate":
                raise
            return right(json.dumps(json.loads(body)).encode())

    wrapped(machine, "parse", parse)


@wrong
def x11() -> None:
    """Read base64 leniently: other alphabets, white space, any padding."""

    def check_signature(right: Any, alg: Any, key: Any, digest: Any, sig: str) -> Any:
        letters = sig.replace("-", "+").replace("_", "/")
        bare = "".join(c for c in letters if c.isascii() and (c.isalnum() or c in "+/"))
        try:
            raw = base64.b64decode(bare + "=" * (-len(bare) % 4))
        except ValueError:
            return right(alg, key, digest, sig)
        return right(alg, key, digest, base64.b64encode(raw).decode())

    wrapped(machine, "check_signature", check_signature)
    wrapped(shell, "check_signature", check_signature)


@wrong
def x12() -> None:
    """Take a record for new when the store cannot say."""

    def on_store_failure(right: Any, self: Any, event: Any, now_ns: int) -> Any:
        del right
        return self._on_store_answer(machine.StoreAnswered(event.key, None), now_ns)

    wrapped(machine.Ingest, "_on_store_failure", on_store_failure)


@wrong
def x13() -> None:
    """Say 429 without saying when to come back."""

    def problem(right: Any, self: Any, refusal: Any, request_id: str) -> Any:
        status, body, lines = right(self, refusal, request_id)
        return status, body, b"" if status == 429 else lines

    wrapped(wire.App, "problem", problem)


@wrong
def x14() -> None:
    """Send problems as plain text."""
    setattr(wire, "_PROBLEM", b"content-type: text/plain\r\n")  # noqa: B010 - it is final


@wrong
def x15() -> None:
    """Acknowledge a record, and write it a second later."""

    def flush(right: Any, self: Any) -> None:
        del right
        waiting, self._frames = self._frames, {}
        for placement, frames in waiting.items():
            self._loop.call_later(LATE_S, self._wals[placement].append, frames)
            self.feed(machine.FrameSynced(frames[-1][0], placement))

    def apply(right: Any, self: Any, effect: Any) -> None:
        self._loop.call_later(2 * LATE_S, right, self, effect)  # the index never leads the log

    wrapped(shell.Driver, "_flush", flush)
    wrapped(shell.Driver, "_apply", apply)


@wrong
def x16() -> None:
    """Decide about a duplicate once more, and answer with that outcome."""
    hlc = itertools.count(1)

    def settle(
        right: Any, self: Any, waiter: Any, key: Any, stored: Any, now_ns: int, **named: Any
    ) -> Any:
        if waiter.replayed:
            outcome = json.loads(stored.outcome)
            outcome["first_seen"]["hlc"] = f"{next(hlc):016x}"
            stored = stored._replace(outcome=jcs(outcome))
        return right(self, waiter, key, stored, now_ns, **named)

    wrapped(machine.Ingest, "_settle", settle)
