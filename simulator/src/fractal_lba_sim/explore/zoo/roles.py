"""Planted: two regions write, or one that may not."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from fractal_lba_server.core import lease, roles
from fractal_lba_server.core.health import Probe
from fractal_lba_server.core.lease import Decision, Mark, Row, Terms
from fractal_lba_server.core.roles import Role

from .bug import bug

ENDS: Final = ("cut-off", "process-pause", "promote", "process-kill", "region-down")
BEHIND: Final = ("promote", "region-down", "delay")
"""A region is behind, and people promote it."""

TWO_WRITERS: Final = ("single_writer", "displaced_max", "no_loss_at_level", "linearizable")


@bug(
    "promoted-without-fencing", "a region serves as soon as it is promoted, and fences nobody",
    hazard="H112", base="trio-behind", part="role", kinds=BEHIND,
    found_by=(*TWO_WRITERS, "digests_equal"),
)  # fmt: skip
class NeverFenced(Role):
    """Serves as soon as it is promoted: nobody is asked, nobody is refused."""

    def _is_fenced(self) -> bool:
        return True

    def _lacking(self) -> roles.Fetch | None:
        return None


@bug(
    "failback-before-catch-up", "a region takes over before it holds what the writer replicated",
    hazard="H96", base="trio-behind", part="role", kinds=BEHIND,
    found_by=("linearizable", "no_loss_at_level", "displaced_max", "accounting"),
)  # fmt: skip
class NeverLearned(Role):
    """Comes back, or takes over, before it holds what the others hold."""

    def _lacking(self) -> roles.Fetch | None:
        return None


@bug(
    "old-primary-keeps-serving", "a region writes on although its lease is over", hazard="H94",
    base="standby-apart", part="role", kinds=("cut-off", "promote"), found_by=TWO_WRITERS,
)  # fmt: skip
class ServesForEver(Role):
    """Takes a lease that was held once for one that is held."""

    def on_event(self, event: object, now_ns: int) -> list[roles.Effect]:
        return [
            one._replace(until_ns=roles.FOR_EVER_NS)
            if isinstance(one, roles.Say) and one.until_ns
            else one
            for one in super().on_event(event, now_ns)
        ]


@bug(
    "old-primary-is-deaf", "a region that hears of its successor does not stop", hazard="H94",
    base="by-hand", part="role", kinds=ENDS, found_by=TWO_WRITERS,
)  # fmt: skip
class DeafWriter(Role):
    """Notes its successor and goes on."""

    def _step_down(self, region_epoch: int, leader: str | None) -> Iterator[roles.Effect]:
        for effect in super()._step_down(region_epoch, leader):
            if not isinstance(effect, roles.Say):
                yield effect


@bug(
    "epoch-not-persisted", "a region is promoted to an epoch that it forgets when it ends",
    base="by-hand", part="role", kinds=ENDS,
    found_by=(*TWO_WRITERS, "digests_equal", "no_loss_end_to_end"),
)  # fmt: skip
class ForgetsItsEpoch(Role):
    """Writes under an epoch that no disk has."""

    def on_event(self, event: object, now_ns: int) -> list[roles.Effect]:
        return [
            one
            for one in super().on_event(event, now_ns)
            if not (
                isinstance(one, roles.Persist) and one.kept.role in (roles.PROMOTING, roles.WRITER)
            )
        ]


@bug(
    "double-promote", "two operators promote two regions to one epoch", hazard="H39",
    base="trio-split", part="role", kinds=("double-promote", "promote", "cut-off"),
    found_by=TWO_WRITERS,
)  # fmt: skip
class EveryFollower(Role):
    """Counts a peer that follows another candidate of the same epoch."""

    def _is_fenced(self) -> bool:
        kept = self.kept
        followers = [s for s in self._said.values() if s.region_epoch >= kept.region_epoch]
        return kept.old_is_stopped or len(followers) == len(self._others)

    def _own_epoch(self) -> int:
        return self.kept.region_epoch + 1


@bug(
    "granted-before-the-lease-is-over", "the arbiter grants a lease while an older one lasts",
    hazard="H39", base="long-lease", part="ask_lease",
    kinds=("cut-off", "promote", "process-pause"), found_by=TWO_WRITERS,
)  # fmt: skip
def grant_at_once(
    row: Row, region: str, epoch: int, mark: Mark, now_ns: int, terms: Terms
) -> Decision:
    """Grant to whoever was promoted, whether or not an older lease still lasts."""
    return lease.ask(row._replace(busy_until_ns=0), region, epoch, mark, now_ns, terms)


@bug(
    "failover-flaps", "one lost probe moves the writer, and the next one moves it back",
    hazard="H59", base="blips", part="probe", kinds=("probe-path-down",),
    found_by=("success_share_min",),
)  # fmt: skip
class Nervous(Probe):
    """Believes the first answer, and the first silence."""

    def heard(self, ok: bool, now_ns: int) -> bool:
        changed, self.up = ok != self.up, ok
        return changed
