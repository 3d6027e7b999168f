"""Have the judge condemn a fixed bad run before it is believed about any other.

The invariant of this file: a harness that is blind to one of the named faults, or that condemns
a run without one, does not start.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, Final

from .anomalies import anomalies
from .check import FAILS, HOLDS, Report, check
from .parts import Event

S: Final = 10**9

PROMISES: Final = {
    "rto_s": 5, "rpo_s": 0.5, "rpo_records": 5, "no_loss_at_level": "durable",
    "linearizable": "strict", "digests_equal": True, "success_share_min": 0.95,
    "stale_read_ms_max": 100, "evidence": {"canaries": 1}, "canary": True,
}  # fmt: skip

SINGLE_FAILS: Final = frozenset(
    {
        "rto_s", "rpo_s", "no_loss_at_level", "linearizable", "digests_equal", "canary",
        "success_share_min", "stale_read_ms_max", "phantom", "resurrected", "answers",
    }
)  # fmt: skip
"""What must be condemned in the bad run that is written record by record."""

RUNS_FAIL: Final = frozenset(
    {
        "rto_s", "rpo_s", "rpo_records", "no_loss_at_level", "digests_equal", "accounting",
        "success_share_min", "phantom",
    }
)  # fmt: skip
"""What must be condemned in the bad run that is written in runs of records."""

SINGLE_COUNTS: Final = {
    "lost": 1, "double_winner": 1, "divergence": 1, "phantom": 1, "stale_read": 1,
    "wrong_duplicate_answer": 1, "resurrected": 1, "equivocation": 1, "residency_breach": 1,
    "audit_gap": 1,
}  # fmt: skip
"""Anomalies of the bad run, and how often each is in it."""


class CanaryError(Exception):
    """The judge does not see what is wrong: nothing that it says can be believed."""


def canary(judge: Callable[[Iterable[Event]], Report] = check) -> None:
    """Judge runs that must fail, and one that must not. Raises CanaryError."""
    single = judge(bad_records())
    for report, names in ((single, SINGLE_FAILS), (judge(bad_runs()), RUNS_FAIL)):
        for name in sorted(names):
            if report.state_of(name) != FAILS:
                raise CanaryError(f"the bad run did not fail {name}: {report.state_of(name)}")
    found = anomalies(single.trace).counts
    for name, count in SINGLE_COUNTS.items():
        if found.get(name) != count:
            raise CanaryError(f"the bad run shows {found.get(name)} {name}, not {count}")
    for verdict in judge(good_records()).verdicts:
        if verdict.state != HOLDS:
            raise CanaryError(f"the good run did not hold {verdict.name}: {verdict.said}")


def _header() -> dict[str, Any]:
    placements = {"open": {"regions": ["euw", "use"]}}
    document = {
        "name": "canary", "promises": PROMISES, "topology": {"placements": placements},
        "faults": [{"id": "kill"}],
    }  # fmt: skip
    return {
        "event": "run", "at_ns": 0, "schema": 1, "engine": "exact", "seed": 0,
        "scenario": document, "scenario_digest": "0" * 64, "started_unix_ns": 0,
        "control": False, "versions": {},
    }  # fmt: skip


def _fault() -> list[dict[str, Any]]:
    base = {"event": "fault", "id": "kill", "kind": "region-down", "region": "euw"}
    return [
        base | {"at_ns": 10 * S, "state": "injected"},
        base | {"at_ns": 10 * S, "state": "effect", "effects": {"killed": 1}},
    ]


def _calls(good_from_s: int) -> list[dict[str, Any]]:
    base = {"event": "calls", "client": "web"}
    return [
        base | {"from_ns": 0, "at_ns": 10 * S, "count": 100, "good": 100},
        base
        | {
            "from_ns": 10 * S,
            "at_ns": good_from_s * S,
            "count": 10 * (good_from_s - 10),
            "good": 0,
        },
        base | {"from_ns": good_from_s * S, "at_ns": 90 * S, "count": 600, "good": 600},
    ]


def _frame(number: int, region: str = "euw") -> str:
    return f"{region}:{number:016x}"


def _content(name: str) -> str:
    return name.encode().hex().ljust(16, "0")


def _put(key: str, at_s: float, number: int, **more: Any) -> dict[str, Any]:
    at_ns = int(at_s * S)
    return {
        "event": "put", "at_ns": at_ns, "client": "web", "region": "euw", "key": key,
        "content": _content(key), "bytes": 800, "call_ns": at_ns - S // 100, "result": "new",
        "frame": _frame(number), "position": f"euw/open/1/{number}", **more,
    }  # fmt: skip


def _get(key: str, at_s: float, result: str, **more: Any) -> dict[str, Any]:
    at_ns = int(at_s * S)
    return {
        "event": "get", "at_ns": at_ns, "client": "web", "region": "euw", "key": key,
        "call_ns": at_ns - S // 100, "result": result, **more,
    }  # fmt: skip


def _census(name: str, at_s: int, region: str, held: dict[str, Any]) -> list[dict[str, Any]]:
    base = {"at_ns": at_s * S, "census": name, "region": region}
    lines: list[dict[str, Any]] = [{"event": "census", "keys": len(held), **base}]
    for key, (frame, *overridden) in held.items():
        others = [{"frame": f, "content": _content(key), "kind": "duplicate"} for f in overridden]
        lines.append(
            {"event": "held", "key": key, "frame": frame, "content": _content(key),
             "overridden": others, **base}
        )  # fmt: skip
    return lines


def _digest(region: str, digest: str) -> dict[str, Any]:
    base = {"event": "digest", "at_ns": 95 * S, "after": "end", "placement": "open", "keys": 1}
    return base | {"region": region, "digest": digest}


def _rest(found: int, root: str, audited: int) -> list[dict[str, Any]]:
    base = {"event": "root", "at_ns": 95 * S, "log": "euw", "by": "euw", "size": 3}
    return [
        base | {"root": "0" * 64},
        base | {"root": root * 64},
        {"event": "residency", "at_ns": 95 * S, "region": "use", "where": "data", "found": found,
         "scanned_bytes": 9, "control_found": 1},
        {"event": "audit", "at_ns": 95 * S, "region": "euw", "placement": "open",
         "region_epoch": 1, "first": 1, "count": audited},
        {"event": "end", "at_ns": 100 * S},
    ]  # fmt: skip


def bad_records() -> list[dict[str, Any]]:
    """Write a run, record by record, in which everything is wrong."""
    frames = {key: _frame(number) for number, key in enumerate("abcd", 1)}
    early = {"a": [frames["a"]], "b": [_frame(2, "use"), frames["b"]]}
    return [
        _header(), *_fault(), *_calls(30),
        *(_put(key, number, number) for number, key in enumerate("abcd", 1)),
        _put("a", 5, 1, region="use", frame=_frame(1, "use"), position="use/open/2/1"),
        _put("a", 6, 1, result="duplicate", outcome="0" * 16),
        _put("a", 7, 1, result="duplicate", outcome="1" * 16),
        _put("c", 8, 3, canary=True),
        _get("a", 8, "absent"),
        *_census("failover", 50, "use", early),
        *_census("end", 90, "euw", {"a": [frames["a"]], "b": [frames["b"]], "ghost": [_frame(8)]}),
        *_census("end", 90, "use", {"a": [_frame(1, "use")], "c": [frames["c"]]}),
        _digest("euw", "0"), _digest("use", "1"), *_rest(1, "1", 4),
    ]  # fmt: skip


def bad_runs() -> list[dict[str, Any]]:
    """Write a run, in runs of records, in which everything is wrong."""
    flow = {
        "event": "flow", "at_ns": 9 * S, "first_ns": 0, "client": "web", "region": "euw",
        "placement": "open", "region_epoch": 1, "first": 1, "count": 901, "bytes": 720_800,
        "result": "new",
    }  # fmt: skip
    census = {"at_ns": 90 * S, "census": "end"}
    span = census | {"event": "span", "of": "euw", "placement": "open", "region_epoch": 1}
    return [
        _header(), *_fault(), *_calls(30), flow, flow | {"count": 2},
        {"event": "census", "region": "euw", "keys": 0, **census},
        {"event": "census", "region": "use", "keys": 800, **census},
        span | {"region": "use", "first": 1, "count": 800, "class": "winner"},
        span | {"region": "use", "first": 2000, "count": 1, "class": "winner"},
        *_rest(0, "0", 1),
    ]  # fmt: skip


def good_records() -> list[dict[str, Any]]:
    """Write the same run as it should be."""
    held = {key: [_frame(number)] for number, key in enumerate("abcd", 1)}
    return [
        _header(), *_fault(), *_calls(12),
        *(_put(key, number, number) for number, key in enumerate("abcd", 1)),
        _put("a", 6, 1, result="duplicate", outcome="0" * 16, canary=True),
        _get("a", 8, "present", frame=_frame(1), outcome="0" * 16),
        *_census("end", 90, "euw", held), *_census("end", 90, "use", held),
        _digest("euw", "0"), _digest("use", "0"), *_rest(0, "0", 4),
    ]  # fmt: skip
