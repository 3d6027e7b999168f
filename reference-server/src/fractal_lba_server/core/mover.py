"""Moves payloads between warm and cold so that none is lost and none is there twice.

This file owns the order of a move (spec/tiers.md 6): a plan is kept, the object is written
create-only, read back and compared, and only then does one transaction of warm put references
in the place of payloads. Ended anywhere, a move goes on from its plan. It asks no tier itself:
effects come out, what they gave comes in as events.
"""

from __future__ import annotations

import json
from typing import Any, Final, NamedTuple, TypeAlias

from fractal_lba.canonical import jcs

from .cold_segment import Place, digest_of_name

DEMOTE: Final = "demote"
"""Payloads of warm become entries of a new object."""
MERGE: Final = "merge"
"""Entries of small objects become those of one new object; the old ones go."""
END: Final = "end"
"""Payloads that have ended are forgotten and their objects go."""

KEPT: Final = "kept"
REPLACED: Final = "replaced"


class Move(NamedTuple):
    """One payload of a plan: its number in warm, and its place in the new object."""

    number: int
    place: Place


class Plan(NamedTuple):
    """What a move is about to do; warm keeps it until the move is done."""

    kind: str
    tenant: str
    placement: str
    object: str | None  # the object to be written; None where payloads end
    size: int
    newest_ms: int  # when the youngest payload was written
    moves: tuple[Move, ...]
    old: tuple[str, ...] = ()  # objects to be removed afterwards

    def to_bytes(self) -> bytes:
        """Write a plan; `from_bytes` gives it back."""
        moves = [
            [m.number, m.place.offset, m.place.length, m.place.sha256.hex()] for m in self.moves
        ]
        return jcs({**self._asdict(), "moves": moves, "old": list(self.old)})

    @classmethod
    def from_bytes(cls, data: bytes) -> Plan:
        """Read what `to_bytes` wrote."""
        document: dict[str, Any] = json.loads(data)
        moves = tuple(
            Move(number, Place(offset, length, bytes.fromhex(sha256)))
            for number, offset, length, sha256 in document.pop("moves")
        )
        return cls(**{**document, "moves": moves, "old": tuple(document["old"])})


# --- what happened


class Begun(NamedTuple):
    """A plan was made now (`stage` None), or found as an earlier mover left it."""

    plan: Plan
    stage: str | None


class PlanKept(NamedTuple):
    """The plan is durable."""


class Written(NamedTuple):
    """The object store took the object, or says that it is there already."""


class Changed(NamedTuple):
    """The payloads of the plan are no longer those of warm."""


class CameBack(NamedTuple):
    """The whole object was read; `sha256` is what it has, as hex."""

    sha256: str


class Pointed(NamedTuple):
    """Warm points to the object now, in one transaction with the end of the plan or its stage."""


class Removed(NamedTuple):
    """The objects are gone, or were not there."""


class PlanDropped(NamedTuple):
    """The plan is gone, and it was this mover that dropped it."""


class Failed(NamedTuple):
    """A tier could not do its part; nothing is known of what it did."""

    reason: str


Event: TypeAlias = (
    Begun | PlanKept | Written | Changed | CameBack | Pointed | Removed | PlanDropped | Failed
)


# --- what is to be done


class KeepPlan(NamedTuple):
    """Make the plan durable in warm."""

    plan: Plan


class Write(NamedTuple):
    """Build the object from its sources; give Changed if it is another now, else write it."""

    plan: Plan


class ReadBack(NamedTuple):
    """Read the whole object."""

    plan: Plan


class Point(NamedTuple):
    """Put references in the place of payloads; give Changed if a row is another now."""

    plan: Plan


class Remove(NamedTuple):
    """Remove objects that warm does not point to; one that it points to stays."""

    names: tuple[str, ...]


class DropPlan(NamedTuple):
    """Forget the plan."""

    plan: Plan


class Finish(NamedTuple):
    """The move ended: `moved`, `given up`, or `stopped` with its plan kept for the next pass."""

    result: str
    reason: str = ""


Effect: TypeAlias = KeepPlan | Write | ReadBack | Point | Remove | DropPlan | Finish


class Mover:
    """One move at a time. `on_event` gives the next effect; its result is the next event."""

    def __init__(self) -> None:
        self._plan: Plan | None = None
        self._left: list[Effect] = []

    def on_event(self, event: Event) -> Effect:
        """Take what happened; give what is to be done now."""
        if isinstance(event, Begun):
            self._plan = event.plan
            return self._begin(event.plan, event.stage)
        plan = self._plan
        if plan is None:
            raise ValueError(f"no move is under way, and yet: {event}")
        match event:
            case PlanKept():
                return self._write(plan)
            case Written():
                return ReadBack(plan)
            case CameBack(sha256):
                return self._compare(plan, sha256)
            case Changed():
                return self._undo(plan, Finish("given up"))
            case Pointed():
                return self._clean(plan) if plan.old else Finish("moved")
            case Removed() | PlanDropped():
                return self._left.pop(0)
            case _:
                return Finish("stopped", event.reason)

    def _begin(self, plan: Plan, stage: str | None) -> Effect:
        if stage is None:
            return KeepPlan(plan)
        return self._write(plan) if stage == KEPT else self._clean(plan)

    def _write(self, plan: Plan) -> Effect:
        return Point(plan) if plan.object is None else Write(plan)

    def _compare(self, plan: Plan, sha256: str) -> Effect:
        assert plan.object is not None
        if sha256 == digest_of_name(plan.object):
            return Point(plan)
        # Create-only cannot mend it: it goes, and the next pass makes it anew.
        return self._undo(plan, Finish("stopped", "the object came back different"))

    def _clean(self, plan: Plan) -> Effect:
        """Remove what nothing points to any more; the plan is there until that is done."""
        self._left = [DropPlan(plan), Finish("moved")]
        return Remove(plan.old)

    def _undo(self, plan: Plan, end: Finish) -> Effect:
        """Drop the plan, and only then its object: without a plan nobody can point to it."""
        objects: list[Effect] = [] if plan.object is None else [Remove((plan.object,))]
        self._left = [*objects, end]
        return DropPlan(plan)
