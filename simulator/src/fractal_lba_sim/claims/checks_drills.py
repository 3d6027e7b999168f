"""Claims that drills decide: C001, C018, C023, C028, C105, C154.

The invariant of this file: each drill has a control, and it must fail.
"""

from __future__ import annotations

from .played import by_drills
from .registry import Run, checks
from .verdicts import Finding


@checks("C001")
def active_active(run: Run) -> Finding:
    """Let two regions write, and kill one."""
    said = "Two regions take writes and ship to each other; one is killed and comes back."
    return by_drills(run, ["region-kill"], said)


@checks("C018")
def durable_first(run: Run) -> Finding:
    """Kill a process while it acknowledges."""
    said = (
        "What was acknowledged is there after a kill; parse and signature come before the append "
        "here, not after."
    )
    return by_drills(run, ["crash-restart"], said)


@checks("C023")
def no_divergence(run: Run) -> Finding:
    """Cut, step a clock, delay, lose and bring back."""
    names = ["partition", "clock-step", "region-kill", "return-from-the-dead", "residency"]
    said = "Digests of all regions are equal after each heal and at the end."
    return by_drills(run, names, said)


@checks("C028")
def one_to_three(run: Run) -> Finding:
    """Move one shard's keys to three while clients write."""
    said = "The keys of one shard move to three while writes go on, without an error."
    return by_drills(run, ["shard-migration"], said)


@checks("C105")
def chaos(run: Run) -> Finding:
    """Lose a shard, delay shipping, flush hot, cut cold off."""
    names = ["shard-loss", "replication-delay", "hot-tier-flush", "cold-outage"]
    said = "Each named fault has a drill."
    return by_drills(run, names, said)


@checks("C154")
def no_foreign_namespace(run: Run) -> Finding:
    """Look for a locked tenant's marks where they may not be."""
    said = "A locked tenant's marks are in no other region's files or traffic."
    return by_drills(run, ["residency"], said)
