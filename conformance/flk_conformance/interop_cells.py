"""What an SDK and a server are put through together: one cell for each status and each mishap.

A cell prepares the server, gives the arguments of a testee's `client.*` operation, and says what
must come out of every SDK alike. What no two exchanges share, as a request id or a new outcome's
clock, is masked before answers are compared.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from .server.features import Features, Key, Tenant
from .server.records import OFF_D_HAT, OFF_REGIME, Records, Tokens, signed, text_of
from .server.trial import JSON, SUBMIT
from .server.wire import Client

U: Final = "3fe0000000000000"
"""Every random draw: one half."""

NOW_MS: Final = "1770000000000"
MASKED: Final = "*"
Answer = dict[str, Any]


@dataclass(frozen=True, slots=True)
class World:
    """The server of a run, and a way to it past the proxy."""

    features: Features
    direct: Client
    control: Callable[[str], None]

    @property
    def tenant(self) -> Tenant:
        """Give the tenant that clients belong to."""
        return self.features.ordinary[0]

    @property
    def key(self) -> Key:
        """Give its HMAC key."""
        found = self.tenant.key("HMAC")
        assert found is not None
        return found

    def submit(self, body: bytes) -> int:
        """Submit past the proxy; give the status."""
        return self.direct.ask("POST", SUBMIT, [JSON], body).status


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell: what is asked, what must come out, what is masked, which faults are scripted."""

    name: str
    calls: Callable[[World, Records], Sequence[Mapping[str, Any]]]
    expect: Mapping[str, Any]
    mask: frozenset[str] = frozenset()
    options: Mapping[str, str] = field(default_factory=dict)
    identity: Callable[[World], Mapping[str, Any]] = lambda _: {}
    before: Callable[[World], None] = lambda _: None
    after: Callable[[World], None] = lambda _: None
    faults: Sequence[Mapping[str, Any]] = ()
    op: str = "client.submit"
    shared: bool = True
    """Whether every SDK is given the same records, so that their answers are equal throughout."""

    def arguments(self, world: World, records: Records, url: str) -> Answer:
        """Give the arguments for a testee whose client goes to `url`."""
        return {
            "endpoints": [{"url": url}],
            "tenant": world.tenant.id,
            "kid": world.key.kid,
            "key": world.key.secret.hex(),
            "sig_v": "2",
            "u": U,
            "now_ms": NOW_MS,
            "options": dict(self.options),
            "calls": list(self.calls(world, records)),
            **self.identity(world),
        }


def masked(answer: Any, names: frozenset[str]) -> Any:
    """Copy an answer with the values of some members masked."""
    if isinstance(answer, dict):
        return {n: MASKED if n in names else masked(v, names) for n, v in answer.items()}
    if isinstance(answer, list):
        return [masked(item, names) for item in answer]
    return answer


def subset(expected: Any, actual: Any, place: str = "") -> list[str]:
    """Say where an answer lacks what is expected of it; it may have more."""
    if isinstance(expected, Mapping):
        if not isinstance(actual, Mapping):
            return [f"{place or '/'}: expected members, got {json.dumps(actual)}"]
        return [
            text
            for name, value in expected.items()
            for text in subset(value, actual.get(name), f"{place}/{name}")
        ]
    if isinstance(expected, list):
        if not isinstance(actual, list) or len(actual) != len(expected):
            return [f"{place}: expected {len(expected)} items, got {json.dumps(actual)}"]
        pairs = enumerate(zip(expected, actual, strict=True))
        return [text for i, (a, b) in pairs for text in subset(a, b, f"{place}/{i}")]
    return [] if expected == actual else [f"{place}: expected {expected}, got {actual}"]


# --- calls ---------------------------------------------------------------------------------------


def _hex(tokens: Tokens) -> str:
    return text_of(tokens).hex()


def _submit(tokens: Tokens) -> list[Answer]:
    return [{"call": "submit", "json": _hex(tokens)}]


def _fresh(**changes: str) -> Callable[[World, Records], list[Answer]]:
    return lambda _, records: _submit(records.members(**changes))


def _known(status: int, **changes: str) -> Callable[[World, Records], list[Answer]]:
    """Submit what the server knows already."""

    def calls(world: World, records: Records) -> list[Answer]:
        tokens = records.members(**changes)
        found = world.submit(signed(tokens, world.key).body)
        assert found == status, found
        return _submit(tokens)

    return calls


def _conflict(world: World, records: Records) -> list[Answer]:
    tokens = records.members()
    world.submit(signed(tokens, world.key).body)
    return _submit({**tokens, "budget": "0.352"})


def _read(**changes: str) -> Callable[[World, Records], list[Answer]]:
    def calls(world: World, records: Records) -> list[Answer]:
        one = signed(records.members(**changes), world.key)
        world.submit(one.body)
        return [{"call": "get", "pcs_id": one.pcs_id}]

    return calls


def _unknown(_: World, records: Records) -> list[Answer]:
    return [{"call": "get", "pcs_id": records.root()}]


def _many(world: World, records: Records) -> list[Answer]:
    rows = [records.members() for _ in range(4)]
    world.submit(signed(rows[1], world.key).body)
    rows[1] = {**rows[1], "budget": "0.353"}
    return [{"call": "submit_many", "json": [_hex(row) for row in rows], "concurrency": "4"}]


# --- who and when --------------------------------------------------------------------------------


def _bounded(world: World) -> Mapping[str, str]:
    tenant = world.features.bounded
    assert tenant is not None
    key = tenant.key("HMAC")
    assert key is not None
    return {"tenant": tenant.id, "kid": key.kid, "key": key.secret.hex()}


def _use_up(world: World) -> None:
    tenant = world.features.bounded
    assert tenant is not None
    key = tenant.key("HMAC")
    assert key is not None
    one = Records(f"quota {id(world)} {world.direct.target.port}").fresh(key)
    while world.submit(one.body) != 429:
        pass


def _restart(world: World) -> None:
    world.control("stop")
    world.direct.forget()
    world.control("start")


def _token(world: World) -> Mapping[str, Any]:
    return {"options": {"token": world.tenant.token or ""}}


NEW: Final = frozenset({"request_id", "hlc", "pcs_id", "position"})
OLD: Final = frozenset({"request_id"})


def _ok(status: str = "accepted", **members: str) -> Answer:
    outcome = {"accepted": "false" if status == "refused" else "true"}
    outcome["escalated"] = "false" if status == "accepted" else "true"
    return {"calls": [{"ok": {"outcome": outcome, **members}}]}


def _err(code: str, status: str, **members: str) -> Answer:
    return {"calls": [{"err": {"code": code, "status": status, **members}}]}


_GET: Final = "client.get"
CELLS: Final[tuple[Cell, ...]] = (
    Cell("200-new", _fresh(), _ok(replayed="false", attempts="1"), NEW, shared=False),
    Cell("200-again", _known(200), _ok(replayed="true", attempts="1"), OLD),
    Cell("202-new", _fresh(**OFF_D_HAT), _ok("refused", replayed="false"), NEW, shared=False),
    Cell("202-again", _known(202, **OFF_D_HAT), _ok("refused", replayed="true"), OLD),
    Cell("202-accepted", _known(202, **OFF_REGIME), _ok("remarked", replayed="true"), OLD),
    Cell("401-kid", _fresh(), _err("kid_unknown", "401", stop="not_retryable", attempts="1"), OLD,
         identity=lambda _: {"kid": "nobody-knows-me"}),
    Cell("401-signature", _fresh(), _err("signature_invalid", "401", attempts="1"), OLD,
         identity=lambda _: {"key": "ab" * 32}),
    Cell("403-tenant", _fresh(), _err("tenant_mismatch", "403", attempts="1"), OLD,
         identity=lambda world: {"tenant": world.features.ordinary[1].id}),
    Cell("409-conflict", _conflict, _err("pcs_id_conflict", "409", attempts="1"), OLD),
    Cell("429-quota", _fresh(), _err("rate_limited", "429", stop="attempts_exhausted"),
         OLD | {"retry_after_ms"}, {"max_attempts": "1"}, _bounded, _use_up, shared=False),
    Cell("503-level", _known(200), _err("unavailable", "503", attempts="3"), OLD,
         {"durability": "witnessed"}),
    Cell("503-drain", _fresh(),
         _err("unavailable", "503", stop="attempts_exhausted", attempts="3", retry_after_ms="1000"),
         OLD, before=lambda world: world.control("drain"), after=_restart),
    Cell("get-200", _read(), _ok(), OLD, identity=_token, op=_GET),
    Cell("get-202", _read(**OFF_D_HAT), _ok("refused"), OLD, identity=_token, op=_GET),
    Cell("get-404", _unknown, _err("not_found", "404", attempts="1"), OLD, identity=_token,
         op=_GET),
    Cell("get-401", _unknown, _err("unauthorized", "401", attempts="1"), OLD,
         identity=lambda _: {"options": {"token": "x" * 43}}, op=_GET),
    Cell("many", _many,
         {"calls": [{"items": [{"index": "0"}, {"index": "1", "err": {"code": "pcs_id_conflict"}},
                               {"index": "2"}, {"index": "3"}]}]},
         NEW, op="client.submit_many", shared=False),
    Cell("lost-reply", _fresh(), _ok(replayed="true", attempts="2"), NEW, shared=False,
         faults=[{"do": "lost", "operation": "submitPcs", "nth": [1]}]),
    Cell("cut-reply", _fresh(), _ok(replayed="true", attempts="2"), NEW, shared=False,
         faults=[{"do": "cut", "bytes": 10, "operation": "submitPcs", "nth": [1]}]),
    Cell("503-once", _fresh(),
         {"calls": [{"ok": {"replayed": "false", "attempts": "2"}, "waited_ms": "2250"}]}, NEW,
         shared=False, faults=[{"do": "status", "status": 503, "retry_after": 2, "nth": [1]}]),
    Cell("delayed", _fresh(), _ok(replayed="false", attempts="1"), NEW, shared=False,
         faults=[{"do": "delay", "ms": 50}]),
)  # fmt: skip
"""Every cell. 503-drain comes after those that need a server which takes records."""
