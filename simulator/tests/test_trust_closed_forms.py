"""The engines, or the parts that they are made of, agree with mathematics where it knows.

Each row plays something and gives the p-value of a test whose null hypothesis is a closed form of
`fractal_lba_sim.formulas`. Seeds are fixed, so a row passes or fails for good. The right form must
not be rejected at ALPHA; a wrong one, put into the same test with the same runs, must be at CAUGHT.
Tests: KS = Kolmogorov and Smirnov, t = Student's of one sample, B = exact binomial.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from functools import cache, partial
from random import Random
from typing import Any, NamedTuple

import numpy as np
import pytest
from scipy import stats
from trust_queues import NETS, Served, served
from trust_worlds import DOWN, judged, played, world

from fractal_lba.ring import Ring, Shard, ring_key
from fractal_lba_server.core.first_write import Origin, Stored, merge
from fractal_lba_server.core.health import Quorum
from fractal_lba_server.core.tiering import TierPolicy
from fractal_lba_server.judge.recovery import zero_bound
from fractal_lba_sim import formulas as f
from fractal_lba_sim.claims.models_shards import keys, names
from fractal_lba_sim.claims.models_tiers import HOT_ONLY, forgotten
from fractal_lba_sim.plan.engine import _prepare as prepare
from fractal_lba_sim.plan.setup import Setup
from fractal_lba_sim.plan.world import World
from fractal_lba_sim.stats import Sample
from fractal_lba_sim.streams import Streams
from fractal_lba_sim.waiting import NS_PER_S, Agenda, Places
from fractal_lba_sim.yearly import YEAR_S, yearly_downtime

ALPHA = 1e-3
CAUGHT = 1e-6
RUNS = 300
"""Of the plan engine, for each row that plays it."""

TRIALS = 20_000
"""Draws of what costs no run."""

Cdf = Callable[[float], float]
P = Callable[..., float]


def ks(values: Sequence[float], cdf: Cdf) -> float:
    return float(stats.kstest(values, np.vectorize(cdf)).pvalue)


def t(values: Sequence[float], mean: float) -> float:
    return float(stats.ttest_1samp(values, mean).pvalue)


def t2(values: Sequence[float], mean: float, variance: float) -> float:
    """Test mean and variance, and give the smaller p-value twice: it is of two tests."""
    spread = [(value - mean) ** 2 for value in values]
    return min(1.0, 2 * min(t(values, mean), t(spread, variance)))


def binomial(count: int, trials: int, share: float) -> float:
    return float(stats.binomtest(count, trials, share).pvalue)


# --- what the plan engine plays


def marks(events: Sequence[dict[str, Any]]) -> dict[str, float]:
    """Give when phases were over and a failover was declared, after the disruption."""
    begin = next(e["at_ns"] for e in events if e["event"] == "fault")
    found = {e["phase"]: (e["at_ns"] - begin) / NS_PER_S for e in events if e["event"] == "phase"}
    declared = [e["at_ns"] for e in events if e["event"] == "declared"]
    return found | {"declared": (declared[0] - begin) / NS_PER_S}


def rows(name: str, changes: dict[str, Any]) -> list[dict[str, float]]:
    scenario = world(name, changes)
    return [marks(played(scenario, seed)) for seed in range(1, RUNS + 1)]


ONE_CHECKER = {
    "settings.probe.checkers": 1, "settings.probe.quorum": 1,
    "faults": [{**DOWN, "for_s": 12, "spread_s": 0}],
}  # fmt: skip
"""The disruption comes at one moment, so that what varies is when a probe was due."""


@cache
def rerouted() -> list[dict[str, float]]:
    return rows("names", {**ONE_CHECKER, "load.clients.named.resolvers": 1})


def detection(timeout_s: float = 0.5) -> float:
    exact = f.detection(1, 3, timeout_s)
    uniform = stats.uniform(exact.above_s, exact.to_s - exact.above_s)
    return ks([row["detect"] for row in rerouted()], uniform.cdf)


def reroute(ttl_s: float = 3) -> float:
    cdf = partial(f.reroute_cdf, found=f.detection(1, 3, 0.5), propagation_s=0.5, ttl_s=ttl_s)
    return ks([row["reroute"] for row in rerouted()], cdf)


@cache
def ages(name: str) -> list[float]:
    scenario = world("burnt", LOSSES[name])
    found = [judged(scenario, seed)["incidents"][0] for seed in range(1, RUNS + 1)]
    return [row["lost"]["rpo_s"] for row in found]


GONE = {**DOWN, "kind": "disk-lost"}
LOSSES: dict[str, dict[str, Any]] = {
    "shipping": {
        "settings.shipping": {"interval_s": 4, "upload_s": 0.3, "transfer_s": 0.7},
        "load.rate_per_s": 200,
        "topology.links.euw-use.delay_ms": 0,
        "faults": [{**GONE, "at_s": 6, "spread_s": 4}],
    },
    "snapshots": {
        "topology.placements.open": {
            "regions": ["euw", "use"], "topology": "cold-standby", "primary": "euw",
        },
        "settings.snapshot": {
            "interval_s": 10, "duration_s": 1, "sync_s": 10, "copy_s": 0.5, "boot_s": 1,
        },
        "load.rate_per_s": 200,
        "load.duration_s": 45,
        "faults": [{**GONE, "at_s": 30, "spread_s": 0, "for_s": 15}],
    },
}  # fmt: skip


def rpo_of_shipping(transfer_s: float = 0.7) -> float:
    exact = f.rpo_shipping(4, 0.3, transfer_s)
    return ks(ages("shipping"), stats.uniform(exact.above_s, exact.to_s - exact.above_s).cdf)


def rpo_of_snapshots(sync_s: float = 10) -> float:
    """Phases are random: the age is s + c + U(0, S) + U(0, Y), whose bounds the table gives.

    S = Y: a phase that is none would be the same in every cycle, and show.
    """
    bounds = f.rpo_cold_standby(10, sync_s, 1, 0.5)
    assert sync_s != 10 or all(bounds.above_s <= age <= bounds.to_s for age in ages("snapshots"))
    cdf = partial(f.reroute_cdf, found=f.Span(1.5, 11.5), propagation_s=0, ttl_s=sync_s)
    return ks(ages("snapshots"), cdf)


@cache
def slow_resolvers() -> list[float]:
    found = rows(
        "names",
        {
            "settings.probe.dns_ttl_s": 0, "settings.probe.ignore_ttl_share": 1,
            "settings.probe.ignore_ttl_for_s": {"exponential": {"mean_s": 2}},
            "load.clients.named.resolvers": 5, "load.duration_s": 60,
            "faults": [{**DOWN, "for_s": 50}],
        },
    )  # fmt: skip
    return [row["reroute"] - row["declared"] - 0.5 for row in found]


def slowest(count: int = 5) -> float:
    return t(slow_resolvers(), f.slowest_of(count, 2))


@cache
def deciding() -> list[float]:
    people = {
        "automatic": False, "page_s": {"exponential": {"mean_s": 1}},
        "decide_s": {"exponential": {"mean_s": 2}}, "act_s": 0,
    }  # fmt: skip
    changes = {
        "settings.people": people, "load.duration_s": 60, "faults": [{**DOWN, "for_s": 50}],
    }  # fmt: skip
    return [row["declared"] - row["detect"] for row in rows("names", changes)]


def sequence(variance: float | None = None) -> float:
    mean, exact = f.in_sequence([(1, 1), (2, 4)])
    return t2(deciding(), mean, variance or exact)


def drain_s(capacity_per_s: float) -> float | None:
    """Give how long an outbox takes to empty after an outage of 5 s; None: it never did."""
    lone = {
        "topology": {"regions": [{"code": "euw", "capacity_per_s": capacity_per_s}]},
        "load.rate_per_s": 40, "load.duration_s": 70, "load.settle_s": 0,
        "load.outbox_until": "durable",
        "faults": [{**DOWN, "at_s": 5, "for_s": 5, "spread_s": 0}],
    }  # fmt: skip
    events = played(world("outage", lone), 1)
    healed = next(e["at_ns"] for e in events if e["event"] == "fault" and e["state"] == "healed")
    # What outboxes had kept is served with the capacity that is left, and has no `took_ns`.
    kept = [e for e in events if e["event"] == "flow" and "took_ns" not in e]
    ends = [e["at_ns"] for e in kept if e["result"] == "new" and e["first_ns"] >= healed]
    waiting = sum(e["waiting"] for e in events if e["event"] == "outbox")
    return None if waiting else (max(ends) - healed) / NS_PER_S


# --- links of both engines as queues


def behind(net: str, pipe_s: float = 1.0) -> float:
    found: Served = served(net, exponential=True)
    return t(found.behind, f.records_behind(50, 100, pipe_s))


def lag(net: str, service_per_s: float = 100) -> float:
    mean_s = f.lag_mm1_s(50, service_per_s)
    return ks(served(net, exponential=True).through_s, stats.expon(scale=mean_s).cdf)


def fixed_size(net: str, factor: float = 1) -> float:
    return t(served(net, exponential=False).wait_s, factor * f.wait_md1_s(50, 100))


# --- parts of the core and of the instruments


def conflicts(*, summed: bool = False) -> float:
    """Both sides of a partition take keys at random moments; the core merges what they took."""
    a, b, long_s = 0.05, 0.03, 20.0
    chance, met = Random("conflicts"), 0
    for number in range(TRIALS // 4):
        at_s = {"euw": chance.expovariate(a), "use": chance.expovariate(b)}
        taken = [
            Stored(
                number + 1, f"of {region}", 200, b"{}", Origin(region, "open", 1),
                int(when_s * 1000) << 16,
            )
            for region, when_s in at_s.items() if when_s < long_s
        ]  # fmt: skip
        met += len(taken) == 2 and merge(*taken, ["euw", "use"].index).kind == "displaced"
    exact = 1 - math.exp(-(a + b) * long_s) if summed else f.conflict_per_key(a, b, long_s)
    return binomial(met, TRIALS // 4, exact)


@cache
def moved() -> list[float]:
    """Add a fourth shard to rings of other names, and count the keys whose owner is another."""
    sent = [ring_key(*key) for key in keys(1_000)]
    found = []
    for number in range(30):
        shards = [f"{name}-{number}" for name in names(4)]
        before, after = (Ring(Shard(one) for one in some) for some in (shards[:3], shards))
        found.append(sum(before.pick(key) != after.pick(key) for key in sent) / len(sent))
    return found


def keys_moved(target: int = 4) -> float:
    return t(moved(), f.moved_share(3, target))


def quorum(nodes: int = 3) -> float:
    chance, up = Random("quorum"), 0
    for _ in range(TRIALS):
        votes = Quorum(names(3), 2)
        for name in names(3):
            votes.vote(name, {"euw": chance.random() < 0.9}, NS_PER_S)
        up += votes.verdict("euw", NS_PER_S) is True
    return binomial(up, TRIALS, f.quorum(nodes, 0.9))


@cache
def both_down_shares(crews: int) -> list[float]:
    return [both_down_share(crews, seed) for seed in range(24)]


def both_down_share(crews: int, seed: int) -> float:
    """Let two regions fail and wait for a crew, and give the share of time that both were down."""
    agenda, chance = Agenda(), Random(f"crews/{seed}")
    places, end_ns = Places(agenda, crews), 2_000 * NS_PER_S
    state = {"down": 0, "since": 0, "both": 0}

    def count(by: int) -> None:
        state["both"] += (state["down"] == 2) * (agenda.now_ns - state["since"])
        state["since"] = agenda.now_ns
        state["down"] += by

    def fail() -> None:
        count(1)
        places.enter(lambda: agenda.after(int(chance.expovariate(1) * NS_PER_S), mend))

    def mend() -> None:
        count(-1)
        places.leave()
        agenda.after(int(chance.expovariate(0.25) * NS_PER_S), fail)

    for _ in range(2):
        agenda.after(int(chance.expovariate(0.25) * NS_PER_S), fail)
    agenda.at(end_ns, agenda.stop)
    agenda.run()
    return state["both"] / end_ns


def both_down(crews: int, formula: int | None = None) -> float:
    return t(both_down_shares(crews), f.both_down(0.25, 1, crews=formula or crews))


def years(*, central: bool = False) -> float:
    """Draw years of outages as long as those that plan played; the instrument draws none."""
    lengths = np.array([row["reroute"] for row in rerouted()])
    chance = np.random.default_rng(1)
    drawn = [chance.choice(lengths, n).sum() for n in chance.poisson(3, TRIALS // 4)]
    second = lengths.var() if central else (lengths**2).mean()
    exact = f.yearly_downtime(3, float(lengths.mean()), float(second))
    said = yearly_downtime([(3, Sample.of(list(lengths)))])
    assert said is not None
    assert central or said.mean.value == pytest.approx(exact.mean_s)
    assert central or said.deviation_s**2 == pytest.approx(exact.variance_s2)
    assert YEAR_S > said.bad_year_s > said.mean.value
    return t2([float(one) for one in drawn], exact.mean_s, exact.variance_s2)


def window(factor: float = 1) -> float:
    found = forgotten(2_000, 3_600, HOT_ONLY, TierPolicy(hot_ttl_s=3_600))
    exact = f.outlives_window(3_600 * factor, 1 / 3_600)
    return binomial(found.taken_as_new, found.duplicates, exact)


def zero_failures(alpha: float = 0.05) -> float:
    """A rate as high as the bound after 40 quiet runs is quiet in 40 runs once in twenty times."""
    assert zero_bound(40) == pytest.approx(f.zero_bound(40))
    quiet = np.random.default_rng(2).binomial(40, zero_bound(40), TRIALS) == 0
    return binomial(int(quiet.sum()), TRIALS, alpha)


class Row(NamedTuple):
    """One row of the table: a test of the right form, and a wrong form for the same test."""

    right: P
    wrong: dict[str, Any]


TABLE = {
    "detection, KS, 300 runs of plan": Row(detection, {"timeout_s": 0}),
    "reroute with DNS, KS, 300 runs of plan": Row(reroute, {"ttl_s": 4.5}),
    "RPO of shipping, KS, 300 runs of plan": Row(rpo_of_shipping, {"transfer_s": 0}),
    "RPO of a cold standby, KS, 300 runs of plan": Row(rpo_of_snapshots, {"sync_s": 0}),
    **{f"records behind, t, a link of {n}": Row(partial(behind, n), {"pipe_s": 0}) for n in NETS},
    **{f"lag M/M/1, KS, a link of {n}": Row(partial(lag, n), {"service_per_s": 150}) for n in NETS},
    **{f"wait M/D/1, t, a link of {n}": Row(partial(fixed_size, n), {"factor": 2}) for n in NETS},
    "conflict per key, B, 5,000 keys": Row(conflicts, {"summed": True}),
    "keys moved, t, 30 rings": Row(keys_moved, {"target": 5}),
    "2-of-3 quorum, B, 20,000 votes": Row(quorum, {"nodes": 1}),
    "two crews, t, 24 lives": Row(partial(both_down, 2), {"formula": 1}),
    "one crew, t, 24 lives": Row(partial(both_down, 1), {"formula": 2}),
    "slowest of 5, t, 300 runs of plan": Row(slowest, {"count": 1}),
    "phases in sequence, t, 300 runs of plan": Row(sequence, {"variance": 1.0}),
    "yearly downtime, t, 5,000 years": Row(years, {"central": True}),
    "dedup window, B, 2,000 duplicates": Row(window, {"factor": 2}),
    "zero failures, B, 20,000 times 40 runs": Row(zero_failures, {"alpha": 0.06}),
}


ROWS = [pytest.param(name, marks=pytest.mark.xdist_group(name)) for name in TABLE]
"""Both tests of a row share its runs, so they are of one process."""


@pytest.mark.parametrize("name", ROWS)
def test_agrees_with_the_closed_form(name: str) -> None:
    assert TABLE[name].right() > ALPHA


@pytest.mark.parametrize("name", ROWS)
def test_the_same_test_rejects_a_wrong_form(name: str) -> None:
    row = TABLE[name]
    assert row.right(**row.wrong) < CAUGHT


# --- fluid: nothing is random, so the bound is one record, not a significance


@pytest.mark.parametrize("capacity_per_s", [45, 60, 100])
def test_catch_up_takes_what_the_free_capacity_takes(capacity_per_s: float) -> None:
    exact = f.catch_up_s(5, 40, capacity_per_s)
    assert drain_s(capacity_per_s) == pytest.approx(exact, abs=2 / (capacity_per_s - 40))
    assert drain_s(capacity_per_s) != pytest.approx(5 * 40 / capacity_per_s, rel=0.2)


@pytest.mark.parametrize("capacity_per_s", [30, 40])
def test_who_has_no_free_capacity_never_catches_up(capacity_per_s: float) -> None:
    assert f.catch_up_s(5, 40, capacity_per_s) == math.inf
    assert drain_s(capacity_per_s) is None


def copied_s(bytes_per_s: float) -> float | None:
    """Cut a link for 20 s, and give how long its backlog takes to go while the load goes on.

    The backlog is S, the link B and the load w: the log is copied while it grows.
    """
    changes = {
        "topology.links.euw-use.bandwidth_bytes_per_s": bytes_per_s,
        "topology.links.euw-use.delay_ms": 0, "load.rate_per_s": 80, "load.duration_s": 90,
        "settings.shipping": {"batch_bytes": 8_130},
        "faults": [{**CUT, "at_s": 5, "for_s": 20}],
    }  # fmt: skip
    scenario = world("cut", changes)
    run = World(Setup(scenario, Streams(1)))
    prepare(run, scenario.faults(1))
    log, ends = run.logs[0], []

    def look() -> None:
        behind = log.count(run.agenda.now_ns) - log.count(max(run.held("use", log), 0))
        if run.agenda.now_ns > 26 * NS_PER_S and behind <= UNDER_WAY:
            ends.append(run.agenda.now_ns / NS_PER_S - 25)
            run.agenda.stop()
        run.agenda.after(LOOK_NS, look)

    run.agenda.after(LOOK_NS, look)
    run.agenda.run()
    return ends[0] if ends else None


CUT = {"id": "cut", "kind": "partition", "from": "euw", "to": "use"}
UNDER_WAY = 12
"""Records of a batch, and two that were written since it left: a copy is never nearer."""

LOOK_NS = NS_PER_S // 20


@pytest.mark.parametrize("copy_per_s", [60, 80, 120])
def test_a_copy_takes_what_the_writes_leave_of_the_link(copy_per_s: float) -> None:
    """S = 20 s x 40 records/s; it ends with what is under way, and is looked at now and then."""
    exact = f.copy_s(20 * 40, copy_per_s, 40)
    off_s = UNDER_WAY / (copy_per_s - 40) + LOOK_NS / NS_PER_S
    assert copied_s(copy_per_s * 813) == pytest.approx(exact, abs=off_s)
    assert copied_s(copy_per_s * 813) != pytest.approx(f.copy_s(20 * 40, copy_per_s), abs=off_s)


def test_a_copy_that_is_slower_than_the_writes_never_ends() -> None:
    assert f.copy_s(20 * 40, 40, 40) == math.inf
    assert copied_s(38 * 813) is None
