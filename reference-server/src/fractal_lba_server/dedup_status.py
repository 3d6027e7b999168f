"""Say how far a migration is, and what of it is inconsistent, with the command that mends it.

Everything here reads and changes nothing. Progress is that of the ranges that were passed, so it
stays true while the ranges grow.
"""

from __future__ import annotations

import json
from typing import Any, NamedTuple

from .core.dedup import DedupShard, ShardUnavailable
from .core.migration import (
    CLEANED,
    CLOSED,
    CLOSING,
    CUTTING,
    LISTED,
    OPEN,
    PREPARING,
    REVERTING,
    ROLLED_BACK,
    Migration,
)
from .core.ring_document import STEADY, RingDocument
from .dedup_leftovers import strange_spans
from .dedup_migration import ALARMS
from .dedup_transfer import CopyPlace, Fleet, pairs_of
from .store.control import ControlStore

NEXT: dict[str, str] = {
    "planned": "dual-write", "dual": "copy", "copied": "verify", "verified": "cutover",
    OPEN: "cleanup, once the window is over (or rollback)", CLOSED: "cleanup", LISTED: "cleanup",
    ROLLED_BACK: "cleanup", CLEANED: "none: it is finished",
}  # fmt: skip
"""What the operator does after each step; the others are left by `repair`."""


class Finding(NamedTuple):
    """One inconsistency, and what mends it."""

    problem: str
    fix: str


async def status(control: ControlStore, now_ms: int) -> dict[str, Any]:
    """Give document, step, progress and time left, as one JSON object."""
    held = await control.read()
    if held is None:
        return {"document": None}
    document = held.document
    answer: dict[str, Any] = {
        "document": {
            "phase": document.phase,
            "ring_epoch": document.ring_epoch,
            "shards": [dedup_shard.name for dedup_shard in document.shards],
        },
        "repairs": await control.count_repairs(),
        "migration": None,
    }
    kept = await control.migration()
    if kept is not None:
        places = await control.checkpoints(kept.state.id)
        answer["migration"] = _migration(kept.state, document, places, now_ms)
    return answer


def _migration(
    state: Migration, document: RingDocument, places: dict[str, bytes], now_ms: int
) -> dict[str, Any]:
    left_ms = max((state.window_until_ms or 0) - now_ms, 0) if state.step == OPEN else None
    return {
        "id": state.id,
        "step": state.step,
        "next": NEXT.get(state.step, "repair: a process ended in the middle of this step"),
        "note": state.note or None,
        "alarms": json.loads(places.get(ALARMS, b"0")),
        "copy": _copy(state, document, places),
        "reverse_tested": state.reverse_tested,
        "window_left_s": None if left_ms is None else left_ms // 1000,
    }


def _copy(
    state: Migration, document: RingDocument, places: dict[str, bytes]
) -> dict[str, Any] | None:
    """Say which share of the ranges the copy has passed, and how long the rest takes."""
    if document.phase != "dual" or document.migration != state.id:
        return None
    passed, whole, keys, per_s = 0, 0, 0, 0.0
    for pair in pairs_of(document):
        place = CopyPlace.read(places.get(f"copy {pair.name}"))
        passed += place.hashes(pair.spans)
        whole += pair.hashes
        keys += place.keys
        per_s = place.per_s or per_s
    share = passed / whole
    left = max(state.keys_to_move * (1 - share), 0)
    return {
        "keys": keys,
        "keys_planned": state.keys_to_move,
        "share": round(share, 4),
        "per_s": per_s,
        "eta_s": 0 if share == 1 else round(left / per_s) if per_s else None,
    }


async def doctor(control: ControlStore, fleet: Fleet, now_ms: int) -> list[Finding]:
    """Find what is inconsistent between document, state and dedup shards."""
    held = await control.read()
    if held is None:
        return [Finding("there is no ring document", "`dedup init` writes the first one")]
    fleet.know(held.document.everyone())
    found = await _of_state(control, held.document, now_ms)
    for name in fleet.names:
        try:
            found += await _of_shard(await fleet.get(name), held.document)
        except ShardUnavailable as error:
            found.append(Finding(str(error), "start it, or mend its url in the ring document"))
    if repairs := await control.count_repairs():
        found.append(Finding(f"{repairs} entries wait for repair", "`dedup repair`"))
    return found


async def _of_state(control: ControlStore, document: RingDocument, now_ms: int) -> list[Finding]:
    kept = await control.migration()
    state = kept.state if kept else None
    if document.migration and (state is None or state.id != document.migration):
        what = f"the ring document names migration {document.migration}, and nothing is kept of it"
        return [Finding(what, "restore the control store from its backup")]
    if state is None:
        return []
    if state.step in (PREPARING, CUTTING, REVERTING, CLOSING):
        what = f"a process ended while the migration was {state.step}"
        return [Finding(what, "`dedup repair` goes on or goes back, whichever is safe")]
    if state.step in (ROLLED_BACK, CLOSED, LISTED):
        return [Finding("dedup shards hold what others own now", "`dedup cleanup`")]
    if state.step == OPEN and now_ms >= (state.window_until_ms or 0):
        return [Finding("the window for a rollback is over", "`dedup cleanup`")]
    return []


async def _of_shard(dedup_shard: DedupShard, document: RingDocument) -> list[Finding]:
    found = []
    fence = await dedup_shard.fence()
    if fence > document.ring_epoch:
        what = f"{dedup_shard.name} is fenced at {fence}, the document is at {document.ring_epoch}"
        found.append(Finding(f"{what}: writes wait", "`dedup repair` lets them go on"))
    if fence < document.ring_epoch:
        what = f"{dedup_shard.name} takes writes from ring_epoch {fence} on"
        found.append(Finding(f"{what}: one is older", "`dedup repair` raises its fence"))
    if document.phase == STEADY:
        sums = await dedup_shard.digest(strange_spans(dedup_shard.name, document))
        if count := sum(each[0] for each in sums):
            fix = "`dedup cleanup` if a migration is not finished; else `dedup repair --misplaced`"
            found.append(Finding(f"{dedup_shard.name} holds {count} entries that others own", fix))
    return found
