"""Judge one first-write-wins register in linear time (spec/drills.md 4.5).

The invariant of this file: `fault_of` is right about every history, which a search over all
orders confirms on random ones. It needs no search because the register changes once: everything
that saw a value bounds the moment of the write from above, everything that saw none from below.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

ACCEPTED: Final = "accepted"
"""A put that was told that it is the first write."""

SEEN: Final = "seen"
"""An answer that showed a value: of a duplicate, of a conflict, or of a read."""

ABSENT: Final = "absent"
"""A read that showed none."""

UNKNOWN: Final = "unknown"
"""A put without an answer: it may have taken effect, now or later, or never."""


class Operation(NamedTuple):
    """One operation on the register; `returned_ns` of one without an answer is not looked at."""

    kind: str
    value: str | None
    invoked_ns: int
    returned_ns: int


def fault_of(history: Iterable[Operation]) -> str | None:
    """Say why a history is not linearizable; None if it is."""
    operations = list(history)
    accepted = [one for one in operations if one.kind == ACCEPTED]
    observers = accepted + [one for one in operations if one.kind == SEEN]
    values = {one.value for one in observers}
    if len(accepted) > 1:
        return f"{len(accepted)} writes were each told that they are the first"
    if len(values) > 1:
        return f"{len(values)} different values were seen"
    if not observers:
        return None
    writes = accepted or [one for one in operations if one.kind == UNKNOWN and one.value in values]
    if not writes:
        return "a value was seen that nobody wrote"
    low = max((one.invoked_ns for one in operations if one.kind == ABSENT), default=0)
    high = min(one.returned_ns for one in observers)
    for write in writes:
        # An accepted write is an observer as well, so `high` bounds it by its own return; one
        # without an answer may take effect at any time after its call.
        if max(low, write.invoked_ns) <= high:
            return None
    if low > high:
        return "a read showed no value after one had been shown"
    return "a value was seen before its write began"
