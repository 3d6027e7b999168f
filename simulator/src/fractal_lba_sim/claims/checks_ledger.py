"""Claims about the receipts ledger, which is not built here: C107 to C141.

The invariant of this file: nothing of the ledger is played; what stands here is arithmetic, two
lines of a patch, and the leases of the server.
"""

from __future__ import annotations

from hashlib import sha256
from itertools import pairwise
from typing import Final

from .. import formulas as f
from .checking import Run, checks
from .models_queue import worst_wait
from .models_roles import Cut, partition
from .played import agrees
from .verdicts import (
    CONDITIONAL,
    HOLDS,
    REFUTED,
    Finding,
    agree,
    duration,
    percent,
    share_agrees,
    share_text,
)

ANCHORS_PER_S: Final = 2.0
"""An anchor each 500 ms."""
PREFIX: Final = 3
DIGITS: Final = 13


def listed_id(anchor_hash: str, region: str) -> str:
    """Make an id as the patch does: it is judged here, and used nowhere."""
    return (region[:PREFIX] or "r1").ljust(PREFIX, "x") + anchor_hash[:DIGITS]


@checks("C107")
def id_length(run: Run) -> Finding:
    """Make ids of whole and of short hashes."""
    whole = {len(listed_id("0123456789abcdef", region)) for region in ("r1", "usw", "eu", "")}
    short = len(listed_id("abc", "r1"))
    return Finding(
        CONDITIONAL if whole == {16} and short != 16 else REFUTED,
        f"16 characters for hashes of 13 digits or more; a hash of 3 digits gives {short}",
        f"{DIGITS} hex digits carry {4 * DIGITS} bits",
        "check the hash (64 hex digits) and the region (ASCII) before",
        {"short": short},
    )


@checks("C108")
def id_collision(run: Run) -> Finding:
    """Ask when two anchors share 52 bits; and let shorter ids collide to test the formula."""
    bits = 4 * DIGITS
    month, year = (
        f.collision(ANCHORS_PER_S * length_s, bits) for length_s in (f.MONTH_S, f.YEAR_S)
    )
    trials, count, small = run.trials(2_000, 400), 400, 16
    hits = 0
    for trial in range(trials):
        seen = {
            int.from_bytes(sha256(f"{trial}/{item}".encode()).digest()[:2]) for item in range(count)
        }
        hits += len(seen) < count
    share_agrees("collisions of 16 bits", hits=hits, of=trials, exact=f.collision(count, small))
    need_bits = bits
    while f.collision(ANCHORS_PER_S * f.YEAR_S, need_bits) > 1e-6:
        need_bits += 4
    return Finding(
        REFUTED,
        f"two anchors a second share an id with chance {percent(month)} in a month and "
        f"{percent(year)} in a year",
        f"1 % at {f.items_for_collision(0.01, bits):.2g} anchors, 50 % at "
        f"{f.items_for_collision(0.5, bits):.2g}; the formula was held against {trials} draws of "
        "16 bits",
        f"{need_bits // 4} digits for one in a million a year, or the whole hash",
        {"year": round(year, 4), "digits": need_bits // 4},
    )


@checks("C109")
def region_code(run: Run) -> Finding:
    """Make ids of regions whose names begin alike."""
    pairs = (("us-east", "us-west"), ("eu-west", "eu-north"), ("r100", "r101"), ("", "r1"))
    alike = [pair for pair in pairs if listed_id("0" * 16, pair[0]) == listed_id("0" * 16, pair[1])]
    texts = "; ".join(f"{a or 'none'} and {b}: {listed_id('', a)}" for a, b in alike)
    return Finding(
        REFUTED if alike else HOLDS,
        f"of {len(pairs)} pairs of names {len(alike)} give one code ({texts})",
        "",
        "codes of exactly three characters in a registry that never reuses one (spec/regions.json)",
        {"alike": len(alike)},
    )


@checks("C110")
def minute_rto(run: Run) -> Finding:
    """Ask what the drill would measure if somebody had to notice."""
    ttl_s = f.ttl_s_max(60, 10, 3, 2, 0)
    found = f.reroute(10, 3, 2, 0, ttl_s)
    return Finding(
        CONDITIONAL,
        f"the drill stops one service and calls the other by its address: nothing detects and "
        f"nothing reroutes. With probes 10 s x 3 and DNS, clients need {found.least_s:g} to "
        f"{found.most_s:g} s at TTL {ttl_s:g} s",
        f"below 60 s while TTL < {ttl_s:g} s",
        f"TTL < {ttl_s:g} s and a standby that is promoted by itself; live here: flk-server drill "
        "standby-promotion",
        {"ttl_s_max": ttl_s},
    )


@checks("C111")
def no_proof_lost(run: Run) -> Finding:
    """Count anchors that were acknowledged and not yet published when the primary dies."""
    publish_s, outage_s = 0.25, 60.0
    queued = f.lost_records(ANCHORS_PER_S, publish_s)
    during = f.lost_records(ANCHORS_PER_S, outage_s)
    return Finding(
        REFUTED,
        f"the anchor is answered before it is published: at 2/s and 250 ms {queued:g} on average "
        f"are on the way when the primary dies, {during:g} when the notary was away for a minute; "
        "'95 % within 60 s' allows one in twenty for longer",
        "rate x (time to publish + outage)",
        "answer after the notary has it, or promise what the disk gives back",
        {"queued": queued, "during": during},
    )


@checks("C112")
def drill_verifies(run: Run) -> Finding:
    """Read what the script asserts."""
    steps = ("up", "sleep", "harness on A", "stop A", "sleep", "harness on B", "echo")
    asserts = [step for step in steps if step.startswith(("test", "assert", "verify"))]
    databases = {"ledger.db", "ledger-standby.db"}
    return Finding(
        HOLDS if asserts and len(databases) == 1 else REFUTED,
        f"the script has {len(steps)} steps and {len(asserts)} assertions, over {len(databases)} "
        "separate database files: nothing made on A is looked for on B",
        change="read on B what A acknowledged; the drills here judge each acknowledged record",
        facts={"assertions": len(asserts)},
    )


@checks("C114")
def batcher(run: Run) -> Finding:
    """Ask how full batches get and how long receipts wait."""
    rates = {rate: f.batch(rate, 0.5, 64) for rate in (10, 128, 400)}
    texts = ", ".join(
        f"{rate}/s: fill {percent(found.fill)}, wait p95 {1000 * found.wait_p95_s:.0f} ms"
        for rate, found in rates.items()
    )
    return Finding(
        CONDITIONAL,
        f"{texts}; below 128/s the timer decides, above it the size",
        "in fluid; Poisson arrivals blur it near 128/s",
        "nothing to change: the batcher itself is not built here",
        {"p95_s": rates[10].wait_p95_s},
    )


@checks("C115")
def anchor_budget(run: Run) -> Finding:
    """Ask what the smallest budget is."""
    wait_ms = 1_000 * f.batch(10, 0.5, 64).wait_p95_s
    return Finding(
        CONDITIONAL,
        f"no budget is given; below 128/s the wait alone has a p95 of {wait_ms:.0f} ms, so a "
        "smaller budget fires always",
        f"budget >= {wait_ms:.0f} ms + commit",
        "750 ms",
        {"wait_ms": wait_ms},
    )


@checks("C117")
def dual_published(run: Run) -> Finding:
    """Ask how long the notary may be away, and let it be away that long."""
    rate, drain = ANCHORS_PER_S, 10.0
    load = rate / drain
    most = {window: f.outage_s_max(60, 0.05, window, load) for window in (f.HOUR_S, f.DAY_S)}
    found = worst_wait(
        rate_per_s=rate, drain_per_s=drain, outage_s=most[f.HOUR_S], limit_s=60, step_s=0.25
    )
    agree("late anchors", found=found.late / (rate * f.HOUR_S), exact=0.05, within=0.001)
    return Finding(
        CONDITIONAL,
        f"95 % within 60 s over an hour survives {most[f.HOUR_S]:.0f} s without the notary, over a "
        f"day {most[f.DAY_S]:.0f} s (2/s, drain 10/s, no backoff); counted item by item "
        f"{percent(found.late / (rate * f.HOUR_S))} are late",
        "D <= X - B + q W (1 - load)",
        "name the window and cap the backoff",
        {"hour_s": round(most[f.HOUR_S], 1), "day_s": round(most[f.DAY_S], 1)},
    )


@checks("C119")
def toggles(run: Run) -> Finding:
    """Ask how often a flag must be polled."""
    fetch_s = 0.1
    most_s = 1.0 - fetch_s
    found = f.poll(most_s, fetch_s)
    return Finding(
        CONDITIONAL,
        f"a flag that is polled each {most_s:g} s is seen {found.mean_s:g} s later in the mean, "
        f"{found.to_s:g} s at worst",
        "interval + fetch",
        f"poll each {most_s:g} s or push, and cache for less",
        {"poll_s_max": most_s},
    )


@checks("C120")
def sticky_ramp(run: Run) -> Finding:
    """Draw buckets of tenants by hash, and ask for sets that grow."""
    tenants = run.trials(20_000, 4_000)
    bucket = [int.from_bytes(sha256(f"flag|{n}".encode()).digest()[:4]) % 10_000
              for n in range(tenants)]  # fmt: skip
    steps = [{n for n, b in enumerate(bucket) if b < 100 * share} for share in (0, 10, 50, 100)]
    grows = all(one <= other for one, other in pairwise(steps))
    share_agrees("enabled at 10 %", hits=len(steps[1]), of=tenants, exact=0.1)
    return Finding(
        CONDITIONAL if grows else REFUTED,
        f"buckets by hash give sets that grow: {', '.join(f'{len(step):,}' for step in steps)} of "
        f"{tenants:,}; of five tenants none is in the 10 % with chance "
        f"{percent(f.none_of(5, 0.1))}",
        share_text(len(steps[1]), tenants),
        "choose the first tenants by name where there are few; the flags themselves are not built "
        "here",
        {"none_of_five": round(f.none_of(5, 0.1), 4)},
    )


@checks("C121")
def error_budget(run: Run) -> Finding:
    """Ask what a ramp spends before its guard stops it."""
    share, rate, seen_s = 0.1, 2_000, 60.0
    over = share * rate * seen_s
    return Finding(
        CONDITIONAL,
        f"no budget is named; a guard that needs {seen_s:g} s lets up to {over:,.0f} requests of a "
        "10 % step fail",
        "overshoot <= share x rate x time to detect",
        "name a budget above the overshoot of one step",
        {"overshoot": over},
    )


@checks("C128")
def export_rate(run: Run) -> Finding:
    """Ask what an export of 10,000 operations allows each of them."""
    rate = 10_000 / 30
    return Finding(
        CONDITIONAL,
        f"30 s for 10,000 operations are {rate:.1f}/s: {1000 / rate:.1f} ms for each, one after "
        f"the other; {8 * 1000 / rate:.0f} ms with eight at a time",
        "",
        f"at most {1000 / rate:.1f} ms an operation, or more at a time; the exporter is not built "
        "here",
        {"ms_each": round(1000 / rate, 3)},
    )


@checks("C133")
def queued_retry(run: Run) -> Finding:
    """Ask when a queue is empty after an outage."""
    outage_s, backoff_s = 60.0, 30.0
    empty_s = backoff_s + f.catch_up_s(outage_s, ANCHORS_PER_S, 10)
    return Finding(
        CONDITIONAL,
        f"after a minute without the notary the queue is empty {duration(empty_s)} after its "
        "return, with a backoff of up to 30 s and a drain of 10/s",
        "B + D l / (m - l)",
        "any drain above the rate; the sink is not built here",
        {"empty_s": empty_s},
    )


@checks("C141")
def two_primaries(run: Run) -> Finding:
    """Promote a standby behind a partition, with and without a lease."""
    cut = Cut(60_000, decided_ms=12_000, rate_per_s=ANCHORS_PER_S)
    wild = partition(cut, fenced=False, drift=0.0)
    agree("forked anchors", found=wild.forked, exact=ANCHORS_PER_S * 48, within=2)
    # The lease is asked the hardest question: a promotion while the old writer may still trust it.
    hasty, trials = cut._replace(decided_ms=1_000), run.trials(200, 40)
    drifts = (-0.045, 0.0, 0.045)
    kept = [
        partition(hasty, fenced=True, drift=drifts[n % 3], phase_ms=10 * (n * 37 % 100))
        for n in range(trials)
    ]
    forks = sum(one.both_ms > 0 for one in kept)
    agree("promotions with two writers under a lease", found=forks, exact=0, within=0)
    return Finding(
        REFUTED,
        f"two unrelated databases agree on nothing; and a promotion without fencing lets both "
        f"write for {wild.both_ms / 1000:.0f} s of a 60 s partition: {wild.forked} anchors fork. "
        f"With the core's lease, clocks up to 4.5 % off and a promotion after 1 s, "
        f"{share_text(forks, trials)} of promotions have two writers. "
        f"{agrees(run, 'standby-promotion')}",
        f"writes pause for at most {max(one.pause_ms for one in kept) / 1000:.2f} s instead",
        "one writer under a lease, and an epoch that the other side refuses (core.lease, "
        "core.roles)",
        {"forked": wild.forked, "two_writers": forks},
    )
