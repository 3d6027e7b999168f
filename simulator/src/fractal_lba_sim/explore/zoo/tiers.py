"""Planted: a tier that may forget is asked as if it could not, or a payload is moved carelessly."""

from __future__ import annotations

from typing import Final

from fractal_lba_server.core import mover, tiering
from fractal_lba_server.core.first_write import Apply, Key
from fractal_lba_server.core.mover import Mover

from ...exact.tiers import HOT_NS, Answered, Tiers
from .bug import bug

LOSSES: Final = ("hot-flush", "cold-down", "process-kill", "upload-reply-lost")
HOT_TTL_MS: Final = 1_000


@bug(
    "hot-only-with-ttl", "an id is written to the hot tier alone, which forgets it after a while",
    hazard="H22", base="tiers", part="tiers", kinds=LOSSES, found_by=("linearizable", "canary"),
)  # fmt: skip
class HotOnly(Tiers):
    """Writes to hot alone, with a time to live, and asks nobody else."""

    def follow(self, row: Apply) -> None:
        super().follow(row)
        self.hot.put(row.key, row.stored, self._now_ms() + HOT_TTL_MS)

    def ask(self, key: Key, answered: Answered) -> None:
        self.world.agenda.after(HOT_NS, answered, self.hot.get(key, self._now_ms()))


@bug(
    "cold-error-is-a-miss", "an error of the cold store is read as if the id were new",
    hazard="H24", base="tiers", part="tiers", kinds=LOSSES, found_by=("linearizable", "canary"),
)  # fmt: skip
class ErrorIsAMiss(Tiers):
    """Takes an error of the cold store for an absence."""

    def failed(self, key: Key, answered: Answered) -> None:
        answered(None)


@bug(
    "demotion-after-expiry",
    "a payload is to be demoted when its time is over, and is gone by then", hazard="H23",
    base="tiers", part="tiers", kinds=LOSSES, found_by=("linearizable", "canary"),
)  # fmt: skip
class ExpiresFirst(Tiers):
    """Lets warm forget a payload at its age; whoever demotes comes afterwards."""

    def ask(self, key: Key, answered: Answered) -> None:
        stored = self.region.index.lookup(key)
        if stored is not None and stored.outcome:
            age_ms = self._now_ms() - tiering.written_ms(stored.hlc)
            if age_ms >= self.book.for_tenant(key[0]).warm_ttl_s * 1_000:
                answered(None)
                return
        super().ask(key, answered)


@bug(
    "move-deletes-before-the-upload", "a payload leaves warm before its upload is confirmed",
    hazard="H23", base="tiers-served", part="mover", kinds=("cold-down", "process-kill"),
    found_by=("success_share_min",),
)  # fmt: skip
class PointsFirst(Mover):
    """Puts references in the place of payloads before the object is there."""

    def on_event(self, event: mover.Event) -> mover.Effect:
        plan = self._plan
        if isinstance(event, mover.PlanKept) and plan is not None:
            return mover.Point(plan)
        if isinstance(event, mover.Pointed) and plan is not None:
            return mover.Write(plan)
        if isinstance(event, mover.Written | mover.Failed | mover.Changed):
            return mover.Finish("moved")
        return super().on_event(event)
