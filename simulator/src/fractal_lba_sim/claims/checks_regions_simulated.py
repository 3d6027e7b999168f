"""Claims about regions that are simulated with the server's core: C002 to C007, C014 to C021.

Each figure of a model is held against its closed form before it says anything.
"""

from __future__ import annotations

from functools import partial
from typing import Final

from fractal_lba_server.core.dedup import GRACE_MS, Claimed
from fractal_lba_server.core.health import ProbeRule, detection

from .. import formulas as f
from . import planned
from .checking import Run, checks
from .models_roles import shuffled_outcomes, split, taken_twice
from .models_shards import TENANT, World
from .models_shipping import (
    bring_back,
    cold_standby_rpos,
    detections,
    gap_allowed,
    largest_gap,
    losses,
    lost_at_level,
    reroutes,
    stream,
)
from .played import agrees
from .sources import RPO_S, RTO_S
from .verdicts import (
    CONDITIONAL,
    HOLDS,
    REFUTED,
    DisagreementError,
    Finding,
    agree,
    duration,
    percent,
    share_agrees,
    share_text,
)

RULE: Final = ProbeRule(interval_ms=10_000, timeout_ms=2_000, failures=3, hold_down_ms=0)
PROPAGATION_S: Final = 60.0
UPLOAD_S: Final = 10.0
TRANSFER_S: Final = 20.0
RATE_PER_S: Final = 2.0


@checks("C002")
def recovery_time(run: Run) -> Finding:
    """Let clients of a dead region follow the DNS, and look for the longest time to live."""
    trials = run.trials(20_000, 4_000)
    exact_s = f.ttl_s_max(RTO_S, 10, 3, 2, PROPAGATION_S)

    def worst_s(ttl_s: float) -> float:
        return max(reroutes(trials, RULE, propagation_s=PROPAGATION_S, ttl_s=ttl_s))

    found_s = f.largest(lambda ttl_s: worst_s(round(ttl_s)) <= RTO_S, 1.0, 400.0)
    form = f.reroute(10, 3, 2, PROPAGATION_S, exact_s)
    times_s = reroutes(trials, RULE, propagation_s=PROPAGATION_S, ttl_s=exact_s)
    agree(
        "mean reroute", found=sum(times_s) / trials, exact=form.mean_s, within=4 * 60 / trials**0.5
    )
    agree("longest TTL", found=found_s, exact=exact_s, within=5.0)
    plan = planned.edge_told(
        "rto-by-dns", "rto_s", _plan_runs(run), "settings.probe.dns_ttl_s", exact_s,
        low=60, high=360, above=6, within=8,
    )  # fmt: skip
    long = f.reroute(10, 3, 2, PROPAGATION_S, 300)
    late = 1 - f.reroute_cdf(RTO_S, f.detection(10, 3, 2), PROPAGATION_S, 300)
    return Finding(
        CONDITIONAL,
        f"with probes 10 s x 3, timeout 2 s and 60 s of propagation the recovery takes "
        f"{form.least_s:g} to {form.most_s:g} s at TTL {exact_s:g} s ({max(times_s):.1f} s the "
        f"worst of {trials:,}); at TTL 300 s up to {long.most_s:g} s, and {percent(late)} of "
        "clients come later than 5 min; no measured '2-5 minutes' exists in the source. " + plan,
        f"TTL <= {exact_s:g} s by the formula",
        f"DNS TTL <= {exact_s:g} s (by halves over {trials:,} simulated reroutes: {found_s:.0f} s)",
        {"ttl_s_max": exact_s},
    )


PLAN_RUNS: Final = 60
PLAN_RUNS_QUICK: Final = 20


def _plan_runs(run: Run) -> int:
    return run.trials(PLAN_RUNS, PLAN_RUNS_QUICK)


@checks("C003")
def recovery_point(run: Run) -> Finding:
    """Lose a region at many phases of its segments, and look for the longest close interval."""
    trials = run.trials(2_000, 300)
    exact_s = f.interval_s_max(RPO_S, UPLOAD_S, TRANSFER_S)

    def rpos(interval_s: float) -> list[float]:
        lost = losses(
            trials, interval_s=interval_s, upload_s=UPLOAD_S, transfer_s=TRANSFER_S,
            rate_per_s=RATE_PER_S,
        )  # fmt: skip
        return [one.rpo_s for one in lost]

    span = f.rpo_shipping(exact_s, UPLOAD_S, TRANSFER_S)
    found = rpos(exact_s)
    within = 4 * exact_s / (12 * trials) ** 0.5 + 1 / RATE_PER_S
    agree("mean RPO", found=sum(found) / trials, exact=span.mean_s, within=within)
    low, high = exact_s - 5, exact_s + 5
    for _ in range(run.trials(8, 5)):
        middle = (low + high) / 2
        if max(rpos(middle)) <= RPO_S:
            low = middle
        else:
            high = middle
    agree("longest interval", found=low, exact=exact_s, within=exact_s * 20 / trials + 1)
    over = max(rpos(exact_s + 5))
    plan = planned.edge_told(
        "rpo-by-segments", "rpo_s", _plan_runs(run), "settings.shipping.segment_age_s", exact_s,
        low=30, high=200, above=2, within=4,
    )  # fmt: skip
    return Finding(
        CONDITIONAL,
        f"with upload {UPLOAD_S:g} s and transfer {TRANSFER_S:g} s a region that closes every "
        f"{exact_s:g} s loses at most {max(found):.1f} s of work in {trials} deaths, one that "
        f"closes every {exact_s + 5:g} s up to {over:.1f} s; rotation by size alone has no bound "
        "at low load, and the named bucket replication commits to 15 min at best. " + plan,
        f"({span.above_s:g} s, {span.to_s:g} s], mean {span.mean_s:g} s",
        f"close interval + upload + transfer <= 120 s: here interval <= {exact_s:g} s "
        f"(by halves over simulated deaths: {low:.1f} s)",
        {"interval_s_max": exact_s},
    )


@checks("C005")
def loss_within_rpo(run: Run) -> Finding:
    """Lose a region at many phases; each lost record must be younger than the bound."""
    trials = run.trials(2_000, 300)
    found = losses(
        trials, interval_s=30, upload_s=UPLOAD_S, transfer_s=TRANSFER_S, rate_per_s=RATE_PER_S
    )
    bound_s = f.rpo_shipping(30, UPLOAD_S, TRANSFER_S).to_s
    older = sum(one.oldest_s > bound_s for one in found)
    records = sum(one.records for one in found)
    agree(
        "records lost in a death", found=records / trials,
        exact=f.lost_records(RATE_PER_S, f.rpo_shipping(30, UPLOAD_S, TRANSFER_S).mean_s),
        within=RATE_PER_S * (4 * 30 / (12 * trials) ** 0.5 + 1 / RATE_PER_S),
    )  # fmt: skip
    return Finding(
        HOLDS if older == 0 else REFUTED,
        f"in {trials} deaths {records:,} acknowledged records were lost, none of them older than "
        f"the {bound_s:g} s of interval, upload and transfer; a bound one interval smaller is "
        f"broken in {sum(one.oldest_s > bound_s - 30 for one in found)} deaths. What keeps "
        f"a stated RPO when the link gets slow is the governor, which refuses writes. "
        f"{agrees(run, 'replication-delay')}",
        share_text(older, trials),
        facts={"older": older, "records": records},
    )


@checks("C006")
def no_loss(run: Run) -> Finding:
    """Destroy a region, and bring one back from its peer's copy over what it had not shipped."""
    count, behind = run.trials(20_000, 2_000), 240
    lost = lost_at_level(count, behind, waits=False)
    kept = lost_at_level(count, behind, waits=True)
    agree("lost at level replicated", found=kept, exact=0, within=0)
    agree("records in the pipe", found=lost, exact=f.lost_records(2_000, 0.12), within=0)
    over = bring_back(count, count - behind, behind // 2, ships_tail=False)
    first = bring_back(count, count - behind, behind // 2, ships_tail=True)
    agree("records of the tail", found=over.lost, exact=behind, within=0)
    agree("lost where the tail goes first", found=first.lost, exact=0, within=0)
    return Finding(
        REFUTED,
        f"a region destroyed 120 ms of shipping ahead of its peer at 2,000/s loses {lost} "
        f"acknowledged records. One that comes back with its disk, and is restored from its peer's "
        f"snapshot as the runbook says, loses the same {over.lost} and numbers {over.renumbered} "
        f"positions anew; if its tail is shipped first it loses {first.lost}. "
        f"{agrees(run, 'return-from-the-dead')}",
        f"with answers that wait for the level 'replicated': {share_text(kept, count)}",
        "ship the tail before a restore, and acknowledge at level 'replicated' or promise only "
        "what a recovered disk gives back",
        {"lost": lost, "lost_replicated": kept, "lost_by_restore": over.lost,
         "renumbered": over.renumbered, "lost_tail_first": first.lost},
    )  # fmt: skip


@checks("C007")
def probes(run: Run) -> Finding:
    """Let a region die at random moments, and hold the core's checker against the formula."""
    trials = run.trials(20_000, 4_000)
    bounds = detection(RULE)
    span = f.detection(10, 3, 2)
    agree("bounds of core.health", found=bounds.to_ms / 1_000, exact=span.to_s, within=0)
    found = detections(trials, RULE)
    gap = largest_gap(found, span.above_s, span.to_s)
    if gap > gap_allowed(trials):
        message = f"detection is not uniform: distance {gap:.4f}"
        raise DisagreementError(message)
    is_inside = span.above_s <= min(found) and max(found) <= span.to_s
    return Finding(
        HOLDS if is_inside else REFUTED,
        f"a dead region is called down after {min(found):.2f} to {max(found):.2f} s in {trials:,} "
        f"deaths (probe timeout 2 s); distance from uniform {gap:.4f} (allowed "
        f"{gap_allowed(trials):.4f})",
        f"({span.above_s:g} s, {span.to_s:g} s], mean {span.mean_s:g} s; a false alarm at 1 % of "
        f"lost probes: {f.false_alarm(0.01, 3):.2g} an interval",
        facts={"above_s": span.above_s, "to_s": span.to_s},
    )


@checks("C014")
def dedup_horizon(run: Run) -> Finding:
    """Replay a record at ages around its time to live."""
    ttl_ms = 14 * 86_400_000
    key = (TENANT, "0" * 64)

    def is_suppressed(age_ms: int) -> bool:
        world = World.of(["s"])
        world.put("s", key, now_ms=0, expires_at_ms=ttl_ms)
        return not isinstance(world.put("s", key, now_ms=age_ms), Claimed)

    edge_ms = ttl_ms + GRACE_MS
    exact = is_suppressed(edge_ms - 1) and not is_suppressed(edge_ms)
    outbox_days = 16
    return Finding(
        CONDITIONAL if exact else REFUTED,
        f"core.dedup suppresses a replay until 14 days + {GRACE_MS} ms of clock skew and not 1 ms "
        f"longer; an outbox that was away for {outbox_days} days is younger than no replication "
        "lag and yet new: "
        + ("suppressed" if is_suppressed(outbox_days * 86_400_000) else "taken"),
        "replication lag alone is not the bound",
        "TTL >= the largest of replication lag, log replay horizon, age of a client's outbox and "
        "cleanup delay of a migration; the server's default is for ever",
        {"edge_ms": edge_ms},
    )


@checks("C015")
def replay_is_equal(run: Run) -> Finding:
    """Apply the same frames in random orders."""
    shuffles, count = run.trials(1_000, 200), 200
    states = shuffled_outcomes(shuffles, count)
    return Finding(
        HOLDS if states == 1 else REFUTED,
        f"{shuffles} random orders of the same {count} frames, half of them in conflict, give "
        f"{states} end state by SHA-256 (core.first_write); region and clock of the first write "
        "are part of the outcome, those of the reader are not",
        share_text(states - 1, shuffles),
        facts={"states": states},
    )


@checks("C016")
def single_writer(run: Run) -> Finding:
    """Resubmit ids in the other region before replication told it."""
    count, share, lag_s, gap_s = run.trials(1_000_000, 100_000), 0.01, 2.0, 5.0
    twice = taken_twice(count, resubmitted=share, lag_s=lag_s, gap_s=gap_s)
    exact = f.conflict_share(share, lag_s, gap_s)
    share_agrees("ids taken twice", hits=twice, of=count, exact=exact)
    met = split(stream("merge"), count=2_000, shared=0.1, skew_ms=0.0, gap_ms=1_000.0)
    return Finding(
        REFUTED,
        f"two regions that both take writes both accept {share_text(twice, count)} of the ids when "
        f"1 % are resubmitted elsewhere, 5 s later on average, with 2 s of lag; after the merge "
        f"one of each of {met.conflicts} conflicts stands, the same in both regions. "
        f"{agrees(run, 'partition')}",
        f"{percent(exact)} by the formula",
        "one writer for each placement (warm standby), or promise the same winner everywhere "
        "instead of one acceptance",
        {"share": round(twice / count, 6)},
    )


@checks("C021")
def reconciliation(run: Run) -> Finding:
    """Write on both sides of a partition, with skewed clocks, and merge."""
    count, skew_ms = run.trials(20_000, 4_000), 400.0
    met = split(stream("merge/skew"), count=count, shared=0.1, skew_ms=skew_ms, gap_ms=1_000.0)
    equal = met.digests[0] == met.digests[1]
    none_gone = met.held == count and met.acked == met.held + met.conflicts
    # A conflict is told wrongly if the region ahead wrote second, within the skew.
    exact = 0.5 * f.conflict_share(1.0, skew_ms, 1_000.0)
    share_agrees("wrong order", hits=met.wrong_first, of=met.conflicts, exact=exact)
    return Finding(
        CONDITIONAL if equal and none_gone else REFUTED,
        f"of {met.acked:,} acknowledged writes every id stands ({met.held:,}), each of "
        f"{met.conflicts} conflicts has one winner, {met.displaced} overridden records are kept, "
        "and both regions end equal. Which write was first no clock can tell: with 400 ms of skew "
        f"the later of two stands in {percent(met.wrong_first / met.conflicts)} of conflicts",
        f"{percent(exact)} by the formula: half of those within the skew",
        "promise the same winner everywhere, first by the hybrid clock, and bound the skew",
        {"conflicts": met.conflicts, "displaced": met.displaced},
    )


@checks("C150")
def cold_standby(run: Run) -> Finding:
    """Restore a cold standby from the newest snapshot that reached it."""
    trials = run.trials(100_000, 20_000)
    span = f.rpo_cold_standby(300, 60, 10, 15)
    lose = partial(cold_standby_rpos, trials, snapshot_s=300, sync_s=60, taking_s=10, copy_s=15)
    found, locked = lose(), lose(locked=True)
    agree("mean RPO", found=sum(found) / trials, exact=span.mean_s, within=4 * 90 / trials**0.5)
    agree("mean RPO, locked", found=sum(locked) / trials, exact=225, within=4 * 90 / trials**0.5)
    runs = _plan_runs(run)
    plan = planned.mean_told(
        "rpo-of-snapshots", "rpo_s", runs, exact_s=span.mean_s, within_s=4 * 90 / runs**0.5
    )
    down_s = f.restore_s(50e9, 100e6, 300 + 15, 300, 120, 60)
    return Finding(
        CONDITIONAL,
        f"snapshots every 300 s (10 s long), synced every 60 s (15 s): a lost region costs "
        f"{min(found):.0f} to {max(found):.0f} s of acknowledged writes, {sum(found) / trials:.0f} "
        f"in the mean; where one scheduler starts both, {min(locked):.0f} to {max(locked):.0f}, "
        f"{sum(locked) / trials:.0f}. Back after {duration(down_s)} with the source's own alert "
        "(5 min), 5 min to decide, 2 min to start, 50 GB at 100 MB/s, 1 min to route. " + plan,
        f"[{span.above_s:g} s, {span.to_s:g} s), mean {span.mean_s:g} s",
        "promise the formula: the source names no RPO and no RTO",
        {"mean_s": round(sum(found) / trials, 1)},
    )
