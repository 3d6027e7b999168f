"""The catalogue of faults: what each kind does, the counter that proves it, who can play it.

The invariant of this file: every kind of spec/schemas/scenario.json is in it once, and an engine
that plays a kind counts its effect under the name given here. A run in which the counter of an
injected fault stays at zero is not valid.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Final, NamedTuple

from fractal_lba_server.drill.kinds import ALWAYS_TAKEN, FAMILIES, FAULT_KINDS

LIVE: Final = frozenset({
    "partition", "one-way-cut", "flapping", "loss", "delay", "reorder", "bandwidth", "reset",
    "refuse",
    "process-kill", "process-pause", "process-restart",
    "disk-full", "disk-slow", "disk-lost", "disk-stale", "sync-error",
    "clock-step", "region-down", "hot-flush", "cold-down", "shard-down", "shard-flush",
})  # fmt: skip
"""What the drill does to real processes; a test holds it against the drill's own table."""

NOT_IN_PLAN: Final = frozenset({
    "disk-torn", "bit-flip", "reorder", "duplicate", "hot-flush", "cold-down", "cancel-cutover",
})  # fmt: skip
"""What changes bytes, order or places, and no fate: plan carries runs of records, not bytes."""

LIVE_COUNTERS: Final[Mapping[str, tuple[str, ...]]] = {
    "disk-lost": ("stalled", "files_lost"),
    "disk-stale": ("stalled", "restored"),
    "disk-full": ("fail-open", "fail-zeros"),
    "disk-slow": ("slow-fdatasync",),
    "sync-error": ("fail-fdatasync",),
    "clock-step": ("clock-ms",),
    "cold-down": ("objects",),
    "shard-down": ("killed",),
}
"""Where the drill counts under other names: those of links, of switches, of what it took away."""


class Kind(NamedTuple):
    """One kind of fault, for people and for engines."""

    name: str
    family: str
    needs: tuple[tuple[str, ...], ...]
    takes: tuple[str, ...]
    counter: str
    """The effect counter of exact and plan."""

    said: str
    engines: tuple[str, ...]

    @property
    def members(self) -> str:
        """Name what it needs, and in brackets what it may have."""
        needed = " or ".join(", ".join(each) for each in self.needs if each)
        return " ".join(filter(None, (needed, f"[{', '.join(self.takes)}]" if self.takes else "")))


_SAID: Final[Mapping[str, tuple[str, str]]] = {
    "partition": ("stalled", "Nothing passes between two ends, in either direction."),
    "one-way-cut": ("stalled", "Nothing passes from one end to the other; the way back works."),
    "flapping": ("stalled", "A link is cut for a part of every period and works for the rest."),
    "loss": ("lost", "A share of the messages between two ends never arrives."),
    "delay": ("delayed", "Every message between two ends takes longer."),
    "reorder": ("reordered", "A share of the messages between two ends overtakes the one before."),
    "duplicate": ("duplicated", "A share of the messages between two ends arrives twice."),
    "bandwidth": ("squeezed", "A link carries fewer bytes a second."),
    "reset": ("resets", "Every connection between two ends is ended in the middle of what it did."),
    "refuse": ("refused", "Every new connection between two ends is refused."),
    "process-kill": ("killed", "A process ends without a word; its machine and its disk stay."),
    "process-pause": ("paused", "A process stands still, then goes on as if no time had passed."),
    "process-restart": ("killed", "A process ends and is started again."),
    "rolling-restart": ("killed", "The nodes of a region are restarted one after another."),
    "unsynced-lost": ("bytes_lost", "The power fails: what no fsync had confirmed is gone."),
    "disk-torn": ("torn", "The power fails in the middle of a write; a part of it is on disk."),
    "bit-flip": ("flipped", "One bit of a file is another one when it is read again."),
    "disk-full": ("writes_refused", "Nothing more can be written."),
    "disk-slow": ("slow_syncs", "Every fsync takes long."),
    "disk-lost": ("files_lost", "A machine comes back with an empty disk, or not at all."),
    "disk-stale": ("restored", "A machine comes back with its disk as it was some time ago."),
    "sync-error": ("failed_syncs", "An fsync fails; what it was to keep may be gone."),
    "clock-offset": ("clock_reads", "The wall clock is wrong by the same amount all the time."),
    "clock-drift": ("clock_reads", "The wall clock goes faster or slower than time."),
    "clock-step": ("clock_reads", "The wall clock jumps."),
    "clock-back": ("clock_reads", "The wall clock is set back under a running process."),
    "region-down": ("stalled", "A region vanishes: nothing answers, not even with a refusal."),
    "region-gray": ("requests_failed", "Probes pass and requests fail."),
    "probe-path-down": ("probes_lost", "Requests pass, and checkers cannot reach the region."),
    "stale-return": ("records_behind", "A region returns with an old state and its old role."),
    "key-rotated": ("old_key_used", "A key has a successor; what the old one signed is under way."),
    "key-wrong": ("signatures_refused", "A client signs with a key that is not its own."),
    "key-revoked": ("signatures_refused", "A key is revoked while records that it signed wait."),
    "hot-flush": ("keys_flushed", "The hot tier loses everything."),
    "cold-down": ("reads_failed", "The cold store denies every request."),
    "upload-reply-lost": ("replies_lost", "An object is stored; the uploader never hears of it."),
    "listing-stale": ("stale_listings", "A listing does not show what was stored last."),
    "shard-down": ("claims_refused", "A dedup shard does not answer."),
    "shard-flush": ("keys_flushed", "A dedup shard has lost its keys and does not know it."),
    "double-promote": ("promotions", "An operator promotes a region while another one writes."),
    "cancel-cutover": ("cancelled", "An operator breaks off a cutover in its middle."),
    "wrong-region-drained": ("drained", "An operator takes the traffic from the healthy region."),
    "nobody-answers": ("pages_missed", "Nobody answers a page for as long as this lasts."),
    "expert-absent": ("waited", "Somebody answers who has to find the one who knows."),
    "stale-runbook": ("steps_repeated", "A step of the runbook is out of date and is found anew."),
}  # fmt: skip


def _kinds() -> Iterator[Kind]:
    for name, about in FAULT_KINDS.items():
        counter, said = _SAID[name]
        engines = ["exact"]
        if name not in NOT_IN_PLAN:
            engines.append("plan")
        if name in LIVE:
            engines.append("live")
        yield Kind(name, about.family, about.needs, about.takes, counter, said, tuple(engines))


CATALOGUE: Final[Mapping[str, Kind]] = {kind.name: kind for kind in _kinds()}


def counter_of(kind: str) -> str:
    """Give the effect counter of a kind."""
    return CATALOGUE[kind].counter


def refusal(kind: str, engine: str) -> str:
    """Say that an engine cannot play a kind, and which ones can."""
    return f"the {engine} engine has no fault {kind!r}; {' and '.join(CATALOGUE[kind].engines)} can"


def table() -> Iterator[str]:
    """Write the catalogue as the rows of a Markdown table, for spec/drills.md 6."""
    yield "| kind | family | needs [may have] | effect counter | engines | what happens |"
    yield "|---|---|---|---|---|---|"
    for kind in CATALOGUE.values():
        members = f"`{kind.members}`" if kind.members else ""
        yield (
            f"| `{kind.name}` | {kind.family} | {members} | `{kind.counter}` "
            f"| {', '.join(kind.engines)} | {kind.said} |"
        )


__all__ = ["ALWAYS_TAKEN", "CATALOGUE", "FAMILIES", "Kind", "counter_of", "refusal", "table"]
