"""Small worlds of storage tiers: what still knows an id, and what reads find where.

Lifetimes are those of `core.tiering`, rows those of `core.dedup`. The wrong design keeps an
outcome in the hot tier alone, as the published `Set` does.
"""

from __future__ import annotations

from random import Random
from typing import Final, NamedTuple

from fractal_lba_server.core.dedup import Claimed
from fractal_lba_server.core.tiering import COLD, HOT, WARM, TierPolicy, hot_until_ms, warm_until_ms

from .models_shards import TENANT, World

DAY_MS: Final = 86_400_000
DEDUP_DAYS: Final = 14
AGES_S: Final = (0, 59 * 60, 61 * 60, int(6.9 * 86_400), int(7.1 * 86_400), int(13.9 * 86_400))
"""Ages at which a duplicate is sent: around the end of each tier."""

HOT_ONLY: Final = "hot only"
WRITE_THROUGH: Final = "warm decides"


def duplicate_is_known(age_s: float, design: str, policy: TierPolicy) -> bool:
    """Say whether an id that was taken `age_s` ago is known to the tier that decides."""
    world = World.of([HOT, WARM])
    key = (TENANT, "0" * 64)
    if design == HOT_ONLY:
        tier, expires_at_ms = HOT, hot_until_ms(policy, 0, 0)
    else:
        tier, expires_at_ms = WARM, DEDUP_DAYS * DAY_MS
    world.put(tier, key, now_ms=0, expires_at_ms=expires_at_ms)
    return not isinstance(world.put(tier, key, now_ms=int(age_s * 1_000)), Claimed)


class Forgotten(NamedTuple):
    """How many duplicates of a workload were taken as new."""

    duplicates: int
    taken_as_new: int


def forgotten(count: int, mean_gap_s: float, design: str, policy: TierPolicy) -> Forgotten:
    """Send each id twice, with exponential gaps, and count the second ones taken as new."""
    chance = Random(f"gaps/{mean_gap_s}")
    gaps = [chance.expovariate(1 / mean_gap_s) for _ in range(count)]
    new = sum(not duplicate_is_known(gap_s, design, policy) for gap_s in gaps)
    return Forgotten(count, new)


class Payload:
    """Where one payload is, as its policy says; promotion goes one tier up."""

    def __init__(self, policy: TierPolicy, *, written_ms: int) -> None:
        self._policy, self._written_ms = policy, written_ms
        self._hot_ms = hot_until_ms(policy, written_ms, written_ms) or 0
        self._warm_ms = written_ms + policy.warm_ttl_s * 1_000

    def read(self, now_ms: int, *, promotes: bool = True) -> str:
        """Give the tier that answers; its payload is offered to the one above afterwards."""
        tier = HOT if now_ms < self._hot_ms else WARM if now_ms < self._warm_ms else COLD
        if promotes and tier == WARM:
            self._hot_ms = hot_until_ms(self._policy, self._written_ms, now_ms) or 0
        if promotes and tier == COLD:
            self._warm_ms = warm_until_ms(self._policy, self._written_ms, now_ms) or 0
        return tier


def hits_after_ttl_change(seconds_after: int, *, before_s: int, after_s: int, age_s: int) -> bool:
    """Say whether a payload of this age is hot, so long after its tenant's hot TTL was raised.

    A payload that is in hot keeps the expiry that it was written with (spec/tiers.md 5.1).
    """
    written_ms = (seconds_after - age_s) * 1_000
    rule = TierPolicy(hot_ttl_s=after_s if written_ms >= 0 else before_s)
    until_ms = hot_until_ms(rule, written_ms, written_ms)
    return until_ms is not None and seconds_after * 1_000 < until_ms


def resident(rate_per_s: float, ttl_s: int, *, hit_share: float, for_s: float) -> int:
    """Count what hot holds at the end: each write stays for its TTL, a hit changes nothing.

    Records come evenly, and after a share of them one that is still held is read.
    """
    chance = Random(f"resident/{rate_per_s}/{ttl_s}/{hit_share}")
    policy, held = TierPolicy(hot_ttl_s=ttl_s), int(rate_per_s * ttl_s)
    payloads: list[Payload] = []
    for number in range(int(rate_per_s * for_s)):
        at_ms = round(number * 1_000 / rate_per_s)
        payloads.append(Payload(policy, written_ms=at_ms))
        if chance.random() < hit_share:
            payloads[chance.randrange(max(0, number - held + 1), number + 1)].read(at_ms)
    end_ms = round(for_s * 1_000)
    return sum(payload.read(end_ms, promotes=False) == HOT for payload in payloads)
