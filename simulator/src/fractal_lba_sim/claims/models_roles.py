"""Small worlds of two regions that both may think that they write, and of what they then merge.

Leases are those of `core.lease`, first writes and their order those of `core.first_write`, the
clock that orders them `core.hlc`. The wrong designs promote without a lease, or order by wall
clock.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from hashlib import sha256
from random import Random
from typing import Final, NamedTuple

from fractal_lba_server.core import hlc
from fractal_lba_server.core.first_write import Key, Merge, Origin, Stored, merge, resolve
from fractal_lba_server.core.health import NS_PER_MS
from fractal_lba_server.core.lease import (
    FIRST_EPOCH,
    Granted,
    Holder,
    Mark,
    Row,
    Terms,
    ask,
    founded,
    promote,
)

from .models_shipping import stream

OLD: Final = "euw"
NEW: Final = "use"
RANKS: Final = {OLD: 0, NEW: 1}


def rank(code: str) -> int:
    """Give the rank of one of the two regions."""
    return RANKS[code]


class Promotion(NamedTuple):
    """What a partition and a promotion did."""

    both_ms: int
    """How long two regions took writes at one time."""
    pause_ms: int
    """How long none did."""
    forked: int
    """Records of the old writer that the new one does not have below its own."""


class Cut(NamedTuple):
    """A partition between the old writer and everybody else, and the promotion behind it."""

    length_ms: int
    decided_ms: int
    """From the cut to the decision to promote."""
    rate_per_s: float


STEP_MS: Final = 10
LEAD_MS: Final = 10_000
"""How long the old writer has written before the cut."""
REPEAT_MS: Final = 500
"""How often the candidate asks for its first lease."""


def partition(cut: Cut, *, fenced: bool, drift: float, phase_ms: int = 0) -> Promotion:
    """Cut the writer off, promote the other region, and heal.

    With `fenced` both keep to the lease; without, the old writer goes on and the new one begins
    at once. `drift` is the rate of the old writer's clock less 1; the arbiter's is right.
    """
    terms = Terms()
    row, holder = founded("open", OLD, 0, terms), Holder(terms)
    renewed_ms, numbers, seen = -terms.renew_ms, 0, FIRST_EPOCH
    both_ms = pause_ms = forked_ms = 0
    new_writes = False
    cut_ms = LEAD_MS + phase_ms
    for at_ms in range(0, cut_ms + cut.length_ms, STEP_MS):
        own_ns = int(at_ms * (1 + drift)) * NS_PER_MS
        is_cut = at_ms >= cut_ms
        if not is_cut and at_ms - renewed_ms >= terms.renew_ms:
            renewed_ms, numbers = at_ms, numbers + 1
            row = _renew(row, holder, Mark("old", numbers), own_ns, at_ms, terms)
        if at_ms >= cut_ms + cut.decided_ms and row.lease.holder == OLD:
            row = promote(row, NEW, seen, at_ms * NS_PER_MS, terms).row
        if row.lease.holder == NEW and not new_writes and at_ms % REPEAT_MS == 0:
            mark = Mark("new", numbers)
            decided = ask(row, NEW, row.lease.region_epoch, mark, at_ms * NS_PER_MS, terms)
            new_writes = not fenced or isinstance(decided.answer, Granted)
            row = decided.row
        old_writes = not fenced or holder.left_ns(own_ns) > 0
        both_ms += STEP_MS * (old_writes and new_writes)
        pause_ms += STEP_MS * (is_cut and not old_writes and not new_writes)
        forked_ms += STEP_MS * (is_cut and old_writes and new_writes)
    return Promotion(both_ms, pause_ms, round(forked_ms / 1_000 * cut.rate_per_s))


def _renew(row: Row, holder: Holder, mark: Mark, own_ns: int, at_ms: int, terms: Terms) -> Row:
    number = holder.send(own_ns)
    decided = ask(row, OLD, FIRST_EPOCH, mark, at_ms * NS_PER_MS, terms)
    if isinstance(decided.answer, Granted):
        holder.granted(number, decided.answer, FIRST_EPOCH)
    return decided.row


# --- what two regions make of one another's writes --------------------------------------------


class Met(NamedTuple):
    """What a partition left when it was merged."""

    acked: int
    held: int
    """Ids that stand after the merge."""
    conflicts: int
    """Ids that both had taken as new."""
    displaced: int
    """Of them those with two contents: one acknowledgement is overridden."""
    digests: tuple[str, str]
    """Of the outcomes of each region, after both merged in their own order."""
    wrong_first: int
    """Conflicts of which the later write, in true time, stands."""
    wrong_first_by_wall: int
    """The same if the regions' wall clocks decided."""


class Side(NamedTuple):
    """One region's writes, with the true time of each."""

    frames: dict[Key, Stored]
    true_ms: dict[Key, float]


def split(chance: Random, *, count: int, shared: float, skew_ms: float, gap_ms: float) -> Met:
    """Let both sides of a partition take writes, a share of them under the same ids, and merge.

    A shared id is written by a second client `gap_ms` later, exponential; `skew_ms` is by how much
    the clock of the region with the second rank is behind.
    """
    left, right = Side({}, {}), Side({}, {})
    stamps = {OLD: 0, NEW: 0}
    events = []
    for number in range(count):
        at_ms = 1_000_000 + number * 10.0
        first, second = (OLD, NEW) if number % 2 else (NEW, OLD)
        events.append((at_ms, first, number))
        if chance.random() < shared:
            events.append((at_ms + chance.expovariate(1 / gap_ms), second, number))
    for at_ms, region, number in sorted(events):
        clock_ms = at_ms - (skew_ms if region == NEW else 0)
        stamps[region] = hlc.tick(stamps[region], int(clock_ms * NS_PER_MS))
        side = left if region == OLD else right
        key = ("acme", f"{number:064x}")
        origin = Origin(region, "open", 1)
        content = f"content of {region}" if number % 4 < 2 else "content"
        side.frames[key] = Stored(len(side.frames) + 1, content, 200, b"{}", origin, stamps[region])
        side.true_ms[key] = at_ms
    return _meet(left, right, skew_ms)


def _meet(left: Side, right: Side, skew_ms: float) -> Met:
    both = sorted(left.frames.keys() & right.frames.keys())
    merged: list[Merge] = [merge(left.frames[key], right.frames[key], rank) for key in both]
    wrong = wall = 0
    for key, met in zip(both, merged, strict=True):
        is_left_first = left.true_ms[key] <= right.true_ms[key]
        wrong += (met.winner.origin.region == OLD) != is_left_first
        by_wall = left.true_ms[key] <= right.true_ms[key] - skew_ms
        wall += by_wall != is_left_first
    one = _applied(left.frames, right.frames.items())
    other = _applied(right.frames, left.frames.items())
    return Met(
        acked=len(left.frames) + len(right.frames),
        held=len(one),
        conflicts=len(both),
        displaced=sum(met.kind == "displaced" for met in merged),
        digests=(_digest(one), _digest(other)),
        wrong_first=wrong,
        wrong_first_by_wall=wall,
    )


def _applied(own: Mapping[Key, Stored], others: Iterable[tuple[Key, Stored]]) -> dict[Key, Stored]:
    """Apply frames in their order to what stands here, by the core's rule."""
    standing = dict(own)
    for key, frame in others:
        put = resolve(key, frame, "k1", standing.get(key), rank)
        if put is not None and put.wins:
            standing[key] = put.stored
    return standing


def _digest(standing: dict[Key, Stored]) -> str:
    whole = sha256()
    for key in sorted(standing):
        whole.update(repr((key, standing[key])).encode())
    return whole.hexdigest()


def shuffled_outcomes(shuffles: int, count: int) -> int:
    """Apply the same frames in random orders, and count the different end states."""
    chance = stream("replay/order")
    frames = []
    for number in range(count):
        key = ("acme", f"{number % (count // 2):064x}")
        region = (OLD, NEW)[chance.randrange(2)]
        stored = Stored(
            number + 1, f"content {number}", 200, b"{}", Origin(region, "open", 1),
            (1_000 + chance.randrange(count)) << hlc.COUNTER_BITS,
        )  # fmt: skip
        frames.append((key, stored))
    digests = set()
    for _ in range(shuffles):
        chance.shuffle(frames)
        digests.add(_digest(_applied({}, frames)))
    return len(digests)


def taken_twice(count: int, *, resubmitted: float, lag_s: float, gap_s: float) -> int:
    """Count ids that two regions took as new: resubmitted elsewhere before replication told."""
    chance = stream("conflicts/gaps")
    twice = 0
    for _ in range(count):
        is_again, gap = chance.random() < resubmitted, chance.expovariate(1 / gap_s)
        twice += is_again and gap < lag_s
    return twice
