"""Tell a trace as a timeline that a person reads from top to bottom.

The invariant of this file: every line is one observation of the trace, or says how many alike it
stands for; nothing that concerns the keys in question is left out.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

Event = Mapping[str, Any]

LINES_MAX: Final = 400
"""Longest timeline; what is more is counted at the end."""

KEY_CHARS: Final = 6
"""Last characters of an id that are shown."""

QUIET: Final = frozenset({"lag", "held", "watermark", "run", "end"})
"""Events that a timeline counts and does not show."""

ALIKE: Final = frozenset({"put", "get", "call", "flow", "calls", "span"})
"""Events of which the ordinary ones are told together."""


def timeline(events: Iterable[Event], *, keys: Sequence[str] = ()) -> list[str]:
    """Give the lines of a timeline; exchanges about `keys` are each shown.

    Without `keys` those are shown whose answers differ: conflicts, losses, what is unknown.
    """
    ordered = sorted(events, key=lambda event: int(event["at_ns"]))
    lines = list(_lines(ordered, frozenset(keys)))
    if len(lines) > LINES_MAX:
        left = len(lines) - LINES_MAX
        lines = [*lines[:LINES_MAX], f"{'':>10}  and {left} more lines"]
    return lines


def keys_in(said: str, events: Iterable[Event]) -> tuple[str, ...]:
    """Find the keys that the words of a verdict name, by id or by frame."""
    found: dict[str, None] = {}
    for event in events:
        key = event.get("key")
        names = (key, str(key).rpartition("/")[2], event.get("frame"))
        if key and any(name and str(name) in said for name in names):
            found[str(key)] = None
    return tuple(found)


def _lines(events: Sequence[Event], keys: frozenset[str]) -> Iterator[str]:
    waiting: dict[str, int] = {}
    since_ns = 0
    for event in events:
        kind = event["event"]
        if kind in QUIET and event.get("key") not in keys:
            continue
        if kind in ALIKE and not _is_worth_a_line(event, keys):
            name = _sort(event)
            since_ns = since_ns if waiting else int(event["at_ns"])
            waiting[name] = waiting.get(name, 0) + int(event.get("count", 1))
            continue
        yield from _together(waiting, since_ns)
        waiting = {}
        yield f"{int(event['at_ns']) / 1e9:>9.3f} s  {_told(event)}"
    yield from _together(waiting, since_ns)


def _together(waiting: Mapping[str, int], since_ns: int) -> Iterator[str]:
    if waiting:
        parts = ", ".join(f"{count} {name}" for name, count in sorted(waiting.items()))
        yield f"{since_ns / 1e9:>9.3f} s  {'...':<8} {parts}"


def _is_worth_a_line(event: Event, keys: frozenset[str]) -> bool:
    if keys:
        return event.get("key") in keys
    return event["event"] in ("put", "get") and event["result"] not in (
        "new", "duplicate", "present",
    )  # fmt: skip


def _sort(event: Event) -> str:
    return f"{event['event']} {event.get('result', '')}".strip()


def _key(event: Event) -> str:
    tenant, _, id = str(event.get("key", "")).rpartition("/")
    return f"{tenant}/..{id[-KEY_CHARS:]}" if id else "-"


def _told(event: Event) -> str:
    teller = TELLERS.get(event["event"])
    words = _any(event) if teller is None else teller(event)
    return f"{event['event']:<8} {words}"


def _any(event: Event) -> str:
    return ", ".join(f"{k} {v}" for k, v in event.items() if k not in ("event", "at_ns"))


def _fault(event: Event) -> str:
    if event["state"] == "effect":
        counts = ", ".join(f"{name} {count}" for name, count in event.get("effects", {}).items())
        return f"{event['id']} {event['kind']} did: {counts}"
    where = f" in {event['region']}" if event.get("region") else ""
    return f"{event['id']} {event['kind']}{where} {event['state']}"


def _put(event: Event) -> str:
    took_ms = (event["at_ns"] - event["call_ns"]) / 1e6
    parts = [f"{event['client']} -> {event['region']} {_key(event)}"]
    if "content" in event:
        parts.append(f"content {event['content'][:4]}")
    parts.append(str(event["result"]))
    parts += [str(event[name]) for name in ("code", "level", "position", "frame") if name in event]
    return f"{' '.join(parts)} ({took_ms:.0f} ms)"


def _held(event: Event) -> str:
    below = ", ".join(f"{one['kind']} {one['frame']}" for one in event["overridden"])
    return f"{event['census']}: {event['region']} holds {_key(event)} as {event['frame']}" + (
        f", below it {below}" if below else ""
    )


def _digest(event: Event) -> str:
    return (
        f"after {event['after']}: {event['region']} {event['placement']} has {event['keys']} keys, "
        f"{event['digest'][:8]}"
    )


TELLERS: Final[dict[str, Callable[[Event], str]]] = {
    "fault": _fault,
    "put": _put,
    "get": _put,
    "held": _held,
    "digest": _digest,
    "process": lambda event: f"{event['who']} {event['state']}",
    "phase": lambda event: f"{event['incident']}: {event['phase']} is over",
    "declared": lambda event: f"{event['incident']} by {event.get('by', 'somebody')}",
    "call": lambda event: f"{event['client']} {_key(event)} {event['result']}",
    "census": lambda event: f"{event['census']}: {event['region']} holds {event['keys']} keys",
    "note": lambda event: str(event["said"]),
    "error": lambda event: str(event["said"]),
}
