"""Claims about regional shards, of which routing and quorums are not built here (C142 to C158)."""

from __future__ import annotations

from math import comb
from typing import Final

from fractal_lba_server.core.regions import ACTIVE_ACTIVE, Placement, RegionInfo, Registry
from fractal_lba_server.core.residency import (
    POSITION,
    WITHIN_PLACEMENT,
    may_leave,
    shows_tenant_label,
    successors,
)

from .. import formulas as f
from .checking import Run, checks
from .models_shipping import stream
from .verdicts import CONDITIONAL, HOLDS, REFUTED, Finding, percent, share_agrees, share_text

RTT_MS: Final = {("us", "eu"): 75.0, ("us", "ap"): 200.0, ("eu", "ap"): 120.0}
"""Declared round trips between three regions; inside one it is a millisecond."""
LOCAL_MS: Final = 1.0


@checks("C142")
def three_nodes(run: Run) -> Finding:
    """Draw nodes, and hold the share with a majority against the formula."""
    trials, up = run.trials(1_000_000, 200_000), 0.99
    chance = stream("quorum/nodes")
    good = sum(sum(chance.random() < up for _ in range(3)) >= 2 for _ in range(trials))
    exact = f.quorum(3, up)
    share_agrees("majority up", hits=good, of=trials, exact=exact)
    return Finding(
        CONDITIONAL,
        f"three nodes of 99 % have a majority {percent(exact)} of the time (drawn: "
        f"{share_text(good, trials)}), of 99.9 % {100 * f.quorum(3, 0.999):.7f} %; one may fail",
        "3 p^2 - 2 p^3, less elections; nodes fail independently",
        "consensus itself is not built here: this is its arithmetic",
        {"three": round(exact, 6)},
    )


@checks("C144")
def commit_latency(run: Run) -> Finding:
    """Ask how long a commit takes in one region and over three."""
    leaders = {
        leader: min(ms for pair, ms in RTT_MS.items() if leader in pair)
        for leader in ("us", "eu", "ap")
    }
    least = min(leaders.values())
    texts = ", ".join(f"{leader} {ms:g} ms" for leader, ms in leaders.items())
    return Finding(
        CONDITIONAL if least > 10 * LOCAL_MS else REFUTED,
        f"a commit waits for the nearest of two others: {LOCAL_MS:g} ms in one region; stretched, "
        f"with the leader in {texts}",
        "the round trip to the second of three, with declared round trips of 75, 120 and 200 ms",
        "consensus itself is not built here: this is its arithmetic",
        {"least_ms": least},
    )


@checks("C145")
def partition_is_loss(run: Run) -> Finding:
    """Cut every set of regions off, and count majorities."""
    regions = 3
    lost = [cut for cut in range(regions + 1) if max(cut, regions - cut) < regions // 2 + 1]
    split = comb(regions, 1)
    return Finding(
        HOLDS if lost else REFUTED,
        f"with one node in each of {regions} regions all {split} partitions of one region leave 2 "
        "of 3: the majority goes on, the region alone stops. Nobody has a majority only where all "
        "three are cut from each other",
        "one region of three may be cut off",
        "'a partition that leaves no two regions together loses the quorum'",
        {"two_sided_losses": len(lost)},
    )


def _registry() -> Registry:
    codes = ("eu1", "eu2", "us1")
    regions = {
        code: RegionInfo(code, rank, f"https://{code}.example", f"https://{code}.example", b"")
        for rank, code in enumerate(codes)
    }
    eu = Placement("eu", ("eu1", "eu2"), ACTIVE_ACTIVE)
    everywhere = Placement("open", codes, ACTIVE_ACTIVE)
    return Registry(regions, {"eu": eu, "open": everywhere})


@checks("C153")
def residency(run: Run) -> Finding:
    """Ask the core's table for every kind of thing and every region."""
    registry = _registry()
    kinds = sorted(WITHIN_PLACEMENT)
    leaks = [kind for kind in kinds if may_leave(registry, "eu", kind, "us1")]
    kept = all(may_leave(registry, "eu", kind, "eu2") for kind in kinds)
    unknown = may_leave(registry, "eu", "something else", "eu2")
    gone = successors(registry, "eu", frozenset({"eu1", "eu2"}))
    good = not leaks and kept and not unknown and not gone and not shows_tenant_label("eu")
    return Finding(
        HOLDS if good else REFUTED,
        f"core.residency lets none of {len(kinds)} kinds of a placement (frames, mirrors, digests, "
        "secrets, policies, objects, exports, traffic) out to another region, and nothing that it "
        "does not know; with both EU regions lost nobody takes over. Numbers without content "
        f"({POSITION}) may go",
        f"{len(leaks)} of {len(kinds)} rows leak; the whole table",
        facts={"leaks": len(leaks)},
    )


@checks("C147")
def region_down_rule(run: Run) -> Finding:
    """Evaluate the published expression on what Prometheus would hold."""
    series = {"all up": [1, 1, 1], "one down": [1, 1, 0], "all down": [0, 0, 0], "gone": []}
    fires = {name: bool(up) and len(up) < 2 for name, up in series.items()}
    fixed = {name: not up or sum(up) < 2 for name, up in series.items()}
    found = f.alert(300, 15, 15)
    return Finding(
        REFUTED if not fires["all down"] and not fires["gone"] else HOLDS,
        "count() counts series whatever their value: with three dead targets it is 3, with none "
        "left the result is empty, and the rule fires for neither",
        f"sum() with absent() fires for both ({sum(fixed.values())} of 4 cases), "
        f"{found.above_s:g} to {found.to_s:g} s after the fact",
        "sum(up) by (region) < 2 or absent(up)",
        {"fires_all_down": fires["all down"], "fixed_all_down": fixed["all down"]},
    )


@checks("C148")
def p99_panel(run: Run) -> Finding:
    """Compare a quantile of counters with one of their rates."""
    old, new = {0.1: 1_000_000, 1.0: 1_000_000}, {0.1: 1_000_000, 1.0: 1_010_000}
    all_time = 0.1 if new[0.1] >= 0.99 * new[1.0] else 1.0
    recent = {bound: new[bound] - old[bound] for bound in new}
    now = 0.1 if recent[0.1] >= 0.99 * recent[1.0] else 1.0
    return Finding(
        REFUTED if all_time != now else HOLDS,
        f"over counters the quantile is that of all time: after a million fast writes ten thousand "
        f"slow ones leave the panel at {all_time:g} s while every write takes {now:g} s",
        "",
        "histogram_quantile over rate(..._bucket[5m])",
        {"panel_s": all_time, "true_s": now},
    )


@checks("C151")
def reconnects(run: Run) -> Finding:
    """Ask when a router that caches routes sees a new one."""
    cached = f.poll(60, 1)
    return Finding(
        CONDITIONAL,
        f"a route that is cached for 60 s is followed {cached.mean_s:g} s later in the mean, "
        f"{cached.to_s:g} s at worst; one that is cached for ever never",
        "time to live + connect",
        "a time to live on routes, or an epoch that the old region refuses (as 421 here)",
        {"most_s": cached.to_s},
    )


@checks("C152")
def namespace_move(run: Run) -> Finding:
    """Write while a namespace is exported, and count what the target lacks."""
    rate, export_s, routing_s = 50, 600, 120
    missing = f.lost_records(rate, export_s + routing_s)
    return Finding(
        REFUTED,
        f"what is written between the export's snapshot and the new route is in neither: "
        f"{missing:,.0f} writes at {rate}/s, {export_s} s of export and {routing_s} s of routing",
        "rate x (time of the new route - time of the snapshot)",
        "freeze writes first, or ship what follows the snapshot, then route under a new epoch",
        {"missing": missing},
    )


@checks("C155")
def cost(run: Run) -> Finding:
    """Add up a bill of three regions, region by region."""
    regions = [(3, 200.0, 500.0, 40.0), (3, 220.0, 500.0, 40.0), (5, 250.0, 900.0, 70.0)]
    each = [nodes * price + storage + backup for nodes, price, storage, backup in regions]
    literal = len(each) * each[0]
    return Finding(
        CONDITIONAL,
        f"summed over regions, nodes x price + storage + backup is {sum(each):,.0f} for 3, 3 and 5 "
        f"nodes at declared prices; three times the first region's bracket is {literal:,.0f}",
        "arithmetic with declared prices, not a bill",
        "a sum of each region's own bracket; the product holds for equal regions alone",
        {"total": sum(each), "literal": literal},
    )


@checks("C156")
def nodes(run: Run) -> Finding:
    """Ask what each number of nodes buys."""
    bears = {count: count - (count // 2 + 1) for count in range(3, 6)}
    up = {count: f.quorum(count, 0.99) for count in bears}
    good = bears[3] == 1 and bears[5] == 2 and up[4] < up[3]
    texts = ", ".join(
        f"{count}: bears {bears[count]}, {percent(up[count])} up" for count in sorted(bears)
    )
    return Finding(
        HOLDS if good else REFUTED,
        f"nodes x price; of nodes that are up 99 %, {texts}. Four cost more than three and are up "
        "less",
        "arithmetic of majorities",
        facts={"bears_5": bears[5]},
    )


@checks("C157")
def egress(run: Run) -> Finding:
    """Price the replication of snapshots."""
    size_gb, price, each_s = 50.0, 0.02, f.HOUR_S
    month = size_gb * price * f.MONTH_S / each_s
    return Finding(
        CONDITIONAL,
        f"true of live traffic; the same page copies snapshots to another region, which is egress: "
        f"50 GB each hour are ${month:,.0f} a month at a declared ${price}/GB",
        "size x price x month / interval",
        f"count it, or copy increments; once a day it is ${month / 24:,.0f}",
        {"dollars": month},
    )


@checks("C158")
def any_region(run: Run) -> Finding:
    """Ask what a read from any region costs if it is to be current."""
    far = max(RTT_MS.values())
    return Finding(
        CONDITIONAL,
        f"a namespace is reachable everywhere, and a linearizable read waits for the leader: up to "
        f"{far:g} ms at the declared round trips; a read that does not wait may be old",
        "round trip to the leader, or a lease",
        "the stretched cluster is not built here: this is its arithmetic",
        {"most_ms": far},
    )
