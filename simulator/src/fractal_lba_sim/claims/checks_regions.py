"""Claims about regions that follow from a formula or from a table: C004, C009 to C022."""

from __future__ import annotations

from typing import Final

from fractal_lba_server.core.ramp import DONE, STEPS, Ramp, RampRule
from fractal_lba_server.core.segment import (
    GENESIS,
    HEADER_BYTES,
    Header,
    SegmentError,
    encode_frame,
    frames,
)

from .. import formulas as f
from .checking import Run, checks
from .models_roles import Cut, partition
from .sources import PER_S, RESIDENT, RPO_S, RTO_S
from .verdicts import (
    CONDITIONAL,
    HOLDS,
    REFUTED,
    Finding,
    agree,
    duration,
    percent,
    share_text,
)

REBUILD_PER_S: Final = 50_000
"""Keys a second that a dedup store takes when it is built anew: a generous guess."""
CUT_S: Final = 43
"""The partition of 2018-10-21: 43 seconds."""


@checks("C004")
def headroom(run: Run) -> Finding:
    """Ask how busy each of two regions may be, so that one alone keeps p95 below 200 ms."""
    workers, task_s, limit_s = 16, 0.02, 0.2

    def keeps(load: float) -> bool:
        rate = 2 * load * workers / task_s
        return f.sojourn_quantile_s(0.95, workers, rate, task_s) < limit_s

    most = f.largest(keeps, 0.01, 1.0)
    return Finding(
        CONDITIONAL,
        f"one region alone keeps p95 < 200 ms only while each of two was busy below "
        f"{percent(most)} before (M/M/16, 20 ms a request); above 50 % no p95 exists",
        "2 x load < 1 is necessary whatever the latencies",
        f"keep each region below {percent(most)}",
        {"load_max": round(most, 6)},
    )


@checks("C009")
def lag_alert(run: Run) -> Finding:
    """Ask when an alert at the bound itself fires."""
    scrape_s, evaluate_s, act_s = 15, 15, 30
    fires = f.alert(RPO_S, scrape_s, evaluate_s)
    latest_s = RPO_S - act_s - scrape_s - evaluate_s
    return Finding(
        CONDITIONAL,
        f"an alert at 120 s of lag fires {fires.above_s:g} to {fires.to_s:g} s after shipping "
        "stopped (scrape 15 s, evaluation 15 s): the RPO of 120 s is broken by then",
        f"({fires.above_s:g} s, {fires.to_s:g} s]",
        f"alert at {latest_s:g} s, which leaves 30 s to act; the core's governor refuses writes at "
        "the bound itself",
        {"threshold_s_max": latest_s},
    )


@checks("C010")
def error_rate(run: Run) -> Finding:
    """Ask what a region's share of an hour's traffic fails while its clients are rerouted."""
    share, window_s, limit = 0.5, f.HOUR_S, 0.01
    cut_s = f.reroute(10, 3, 2, 0, 60)
    most_s = limit * window_s / share
    found = share * 90 / window_s
    return Finding(
        CONDITIONAL,
        f"half the traffic fails for 90 s of an hour: {percent(found)}; with TTL 60 s and probes "
        f"10 s x 3 the cut lasts {cut_s.least_s:g} to {cut_s.most_s:g} s",
        f"below 1 % while the cut is shorter than {most_s:g} s",
        f"reroute within {most_s:g} s, or let clients try the other region themselves, as the SDK "
        "does",
        {"found": round(found, 6), "cut_s_max": most_s},
    )


@checks("C011")
def ramp(run: Run) -> Finding:
    """Step the core's ramp through a good hour."""
    rule, seen = RampRule(), []
    machine, now_ns = Ramp(rule), 0
    machine.begin(now_ns, caught_up=True)
    seen.append(machine.percent)
    while machine.state != DONE:
        now_ns += rule.hold_ms * 1_000_000
        if machine.observe(healthy=True, now_ns=now_ns):
            seen.append(machine.percent)
    within = f.share_error(0.1, 10_000)
    verdict = HOLDS if tuple(seen) == STEPS == (10, 50, 100) else REFUTED
    return Finding(
        verdict,
        f"core.ramp gives {' -> '.join(map(str, seen))} % of the weight, one step each "
        f"{rule.hold_ms // 1000} s",
        f"over 10,000 requests 10 % is 10 % +- {100 * within:.2f} points (95 %)",
        facts={"steps": len(seen)},
    )


@checks("C013")
def four_nines(run: Run) -> Finding:
    """Ask what two regions of 99 % leave for the time of a failover."""
    single, target = 0.99, 0.9999
    both = 1 - f.two_regions(single)
    budget_s = f.budget_s(target)
    failures, rto_s = 12, RTO_S
    needed = f.largest(
        lambda down: down * down * f.YEAR_S + failures * rto_s / 2 <= budget_s, 0.0, 1.0
    )
    return Finding(
        REFUTED,
        f"'two nines better' means 99 % for one region; two of them are down together "
        f"{percent(both)} of the time, which is all of the {budget_s / 60:.2f} min of a year that "
        "99.99 % leaves: nothing is left for one failover",
        f"budget {budget_s / 60:.2f} min a year = "
        f"{budget_s / rto_s:.1f} failovers of 5 min of all traffic",
        f"regions of {percent(1 - needed)} each, with 12 failovers a year of 5 min that hit half "
        "the traffic",
        {"both_down": round(both, 9), "single_min": round(1 - needed, 6)},
    )


@checks("C017")
def segment_order(run: Run) -> Finding:
    """Take each frame out of a segment, and swap each with the next: the core must refuse it."""
    count = 50
    header = Header(1, GENESIS, 0, 1).to_bytes()
    parts = [encode_frame(seq, seq << 16, b"", b"{}") for seq in range(1, count + 1)]
    wrong = [header + b"".join(parts[:at] + parts[at + 1 :]) for at in range(count - 1)]
    wrong += [
        header + b"".join([*parts[:at], parts[at + 1], parts[at], *parts[at + 2 :]])
        for at in range(count - 1)
    ]
    refused = sum(_is_refused(data) for data in wrong)
    whole = sum(1 for _ in frames(header + b"".join(parts), 1))
    verdict = HOLDS if refused == len(wrong) and whole == count else REFUTED
    return Finding(
        verdict,
        f"core.segment reads {whole} frames in order and refuses {refused} of {len(wrong)} "
        "segments with a frame missing inside or two swapped",
        "every single gap and every swap of neighbours in 50 frames",
        facts={"refused": refused, "header_bytes": HEADER_BYTES},
    )


def _is_refused(data: bytes) -> bool:
    try:
        list(frames(data, 1))
    except SegmentError:
        return True
    return False


@checks("C019")
def divergence_alert(run: Run) -> Finding:
    """Ask how long a full partition lasts before a fifth of all keys differs."""
    steady_s = f.divergence_s(0.2, RESIDENT, PER_S)
    young_s = f.divergence_s(0.2, PER_S * f.DAY_S, PER_S)
    five_min = PER_S * 300 / (RESIDENT + PER_S * 300)
    agree("divergence after that time", found=_differs(steady_s), exact=0.2, within=1e-9)
    return Finding(
        REFUTED,
        f"with {RESIDENT:.3g} resident keys and {PER_S} new ones a second a full partition shows "
        f"20 % after {duration(steady_s)}, in a store of one day after {duration(young_s)}; "
        "compared by counts, equal load never shows it",
        f"after 5 min: {percent(five_min)}",
        f"alert at {percent(five_min)} of keys, or on any age of replication and any conflict > 0",
        {"hours": round(steady_s / 3600, 3)},
    )


def _differs(after_s: float) -> float:
    new = PER_S * after_s
    return new / (RESIDENT + new)


@checks("C020")
def divergence_confirmed(run: Run) -> Finding:
    """Ask the same of a tenth."""
    hours = f.divergence_s(0.1, RESIDENT, PER_S) / f.HOUR_S
    return Finding(
        REFUTED,
        f"10 % of the keys differ after {hours:.1f} h of full partition; the alert that calls for "
        "this check waits for 20 %",
        change="one threshold for both, in conflicting outcomes > 0 and in age",
        facts={"hours": round(hours, 3)},
    )


@checks("C022")
def day_of_43_s(run: Run) -> Finding:
    """Cut a writer off for 43 s, with and without fencing, and ask what it costs to mend."""
    cut = Cut(CUT_S * 1_000, decided_ms=2_000, rate_per_s=PER_S)
    wild = partition(cut, fenced=False, drift=0.0)
    agree("forked records", found=wild.forked, exact=PER_S * (CUT_S - 2), within=PER_S * 0.5)
    phases = range(0, 1_000, 100)
    drifts = (-0.045, 0.0, 0.045)
    kept = [
        partition(cut, fenced=True, drift=drift, phase_ms=phase)
        for drift in drifts
        for phase in phases
    ]
    forks = sum(one.forked > 0 for one in kept)
    agree("cuts that fork under a lease", found=forks, exact=0, within=0)
    rebuild_s = RESIDENT / REBUILD_PER_S
    drain_s = f.catch_up_s(rebuild_s, PER_S, 2 * PER_S)
    keys_max = RTO_S * REBUILD_PER_S
    pause_ms = max(one.pause_ms for one in kept)
    return Finding(
        CONDITIONAL,
        f"a {CUT_S} s cut without fencing forks {wild.forked:,} records; mended offline as the "
        f"runbook says, {RESIDENT:.3g} keys at {REBUILD_PER_S:,}/s keep both regions at 503 "
        f"for {duration(rebuild_s)}, and the backlog drains {duration(drain_s)} more at twice the "
        f"rate: {duration(rebuild_s + drain_s)} for {CUT_S} s. With the core's lease "
        f"{share_text(forks, len(kept))} of such cuts fork, and writes pause for at most "
        f"{pause_ms / 1000:.2f} s",
        f"the RTO of 5 min holds up to {keys_max:,} keys",
        "fence before promoting, and merge by conflicts alone: both are what the core does",
        {
            "forked_unfenced": wild.forked, "forks_fenced": forks,
            "hours": round((rebuild_s + drain_s) / 3600, 2), "keys_max": keys_max,
        },
    )  # fmt: skip
