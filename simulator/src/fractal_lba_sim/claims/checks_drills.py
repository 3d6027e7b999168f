"""Claims that drills decide: C001, C018, C023, C028, C105, C154.

The invariant of this file: each drill has a control, and it must fail.
"""

from __future__ import annotations

from typing import Final, NamedTuple

from .checking import Check, Run, checks
from .played import by_drills
from .verdicts import CONDITIONAL, HOLDS, Finding


class Drilled(NamedTuple):
    """A claim that holds as far as drills hold."""

    drills: tuple[str, ...]
    said: str
    held: str = HOLDS
    change: str = ""


DRILLED: Final = {
    "C001": Drilled(
        ("region-kill",),
        "Two regions take writes and ship to each other; one is killed and comes back.",
    ),
    "C018": Drilled(
        ("crash-restart",),
        "What was acknowledged is there after the process is killed. The order is another one: "
        "parse and signature come before the append here (C101).",
        CONDITIONAL,
        "say 'append and fsync before the acknowledgement'; a loss of power cannot be had here, "
        "only simulated (scenario power-failure)",
    ),
    "C023": Drilled(
        ("partition", "clock-step", "region-kill", "return-from-the-dead", "residency"),
        "Digests of all regions are equal after each heal and at the end.",
    ),
    "C028": Drilled(
        ("shard-migration",),
        "The keys of one shard move to three while writes go on, without an error. A stampede "
        "needs misses, and no known duplicate was missed before, during or after the move.",
    ),
    "C105": Drilled(
        ("shard-loss", "replication-delay", "hot-tier-flush", "cold-outage"),
        "A lost shard, a slow link (which is the delay and the lag), a flushed hot tier and a cold "
        "one that is cut off: each has a drill.",
    ),
    "C154": Drilled(
        ("residency",),
        "A locked tenant's marks are in no other region's files or traffic.",
    ),
}  # fmt: skip


def _check(asked: Drilled) -> Check:
    def by_its_drills(run: Run) -> Finding:
        return by_drills(run, asked.drills, asked.said, held=asked.held, change=asked.change)

    return by_its_drills


for _id, _asked in DRILLED.items():
    checks(_id)(_check(_asked))
