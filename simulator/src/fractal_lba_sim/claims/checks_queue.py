"""Claims about the audit queue, which is not built here: what arithmetic says (C066 to C073)."""

from __future__ import annotations

from .. import formulas as f
from .checking import Run, checks
from .models_queue import worst_wait
from .sources import PER_S, QUEUE_LIMIT_S
from .verdicts import CONDITIONAL, REFUTED, Finding, agree, duration, percent


@checks("C066")
def backlog(run: Run) -> Finding:
    """Ask how long the workers may be away, and let them be away that long."""
    window_s, load = 30 * f.DAY_S, 0.5
    most_s = f.outage_s_max(QUEUE_LIMIT_S, 0.01, window_s, load)
    late = f.late_share(most_s, QUEUE_LIMIT_S, window_s, load)
    agree("late share at that outage", found=late, exact=0.01, within=1e-9)
    found = worst_wait(rate_per_s=1.0, drain_per_s=2.0, outage_s=most_s, limit_s=QUEUE_LIMIT_S)
    agree("late items", found=found.late / window_s, exact=0.01, within=0.0005)
    return Finding(
        CONDITIONAL,
        f"99 % within an hour over 30 days survives an outage of {duration(most_s)} with workers "
        f"twice as fast as the load; counted item by item, {percent(found.late / window_s)} are "
        "late then",
        "D <= X - B + q W (1 - load)",
        f"keep the load of the workers at most 50 %, and outages below {duration(most_s)}",
        {"outage_s_max": round(most_s, 1)},
    )


@checks("C067")
def late_alert(run: Run) -> Finding:
    """Ask when an alert at the limit fires."""
    fires = f.alert(QUEUE_LIMIT_S, 15, 15)
    return Finding(
        CONDITIONAL,
        f"an alert at an age of 3,600 s fires {fires.above_s:g} to {fires.to_s:g} s after the item "
        "came: the limit is broken by then",
        f"({fires.above_s:g} s, {fires.to_s:g} s]",
        f"warn at {QUEUE_LIMIT_S / 4:g} s and page at {QUEUE_LIMIT_S / 2:g} s",
        {"fires_s": fires.above_s},
    )


@checks("C069")
def scale_up(run: Run) -> Finding:
    """Ask what twice the workers do to a backlog."""
    work_s = 0.001 * 900
    rate = {count: count / work_s for count in (2, 4, 10)}
    load = 1.9 / work_s
    drains = {count: f.catch_up_s(f.HOUR_S, load, rate[count]) for count in (4, 10)}
    return Finding(
        CONDITIONAL,
        f"a backlog of one hour at 95 % of two workers drains in {duration(drains[4])} with four "
        f"and in {duration(drains[10])} with ten; twice the workers never drain a load above them",
        "B / (c m - l)",
        "scale by the backlog's age, not by a factor: c > l/m + B / (m x time allowed)",
        {"four_s": round(drains[4], 1), "ten_s": round(drains[10], 1)},
    )


@checks("C070")
def workers(run: Run) -> Finding:
    """Size workers by the published formula, and ask how long tasks wait."""
    rate, task_s, parallel = PER_S, 0.05, 10
    formula = round(rate * task_s / parallel)
    at_full = f.wait_s_over(QUEUE_LIMIT_S, formula * parallel, rate, task_s)
    needed = f.workers_needed(rate, task_s, parallel)
    wait = f.wait_s_over(0.01, needed * parallel, rate, task_s)
    return Finding(
        REFUTED,
        f"the formula gives {formula} workers for {PER_S}/s of 50 ms tasks: they are busy 100 % of "
        f"the time and the queue grows without a bound (chance to wait {percent(at_full)}); with "
        f"{needed} a task waits longer than 10 ms with chance {wait:.1g}",
        "Erlang C; the load must stay below 1",
        f"divide by a load of at most 0.7: {needed} workers",
        {"formula": formula, "needed": needed},
    )


@checks("C071")
def capacity(run: Run) -> Finding:
    """Ask how long a queue of a million lasts."""
    lasts_s = 1_000_000 / PER_S
    needed = PER_S * QUEUE_LIMIT_S
    return Finding(
        REFUTED,
        f"a million messages are {lasts_s:g} s of {PER_S}/s; the limit of an hour needs "
        f"{needed:,} of room",
        f"{lasts_s:g} s = {lasts_s / 60:.1f} min",
        f"room for {needed:,} messages, or at most {1_000_000 / QUEUE_LIMIT_S:.0f}/s",
        {"lasts_s": lasts_s, "needed": needed},
    )


@checks("C073")
def drains(run: Run) -> Finding:
    """Ask how long a backlog takes to go."""
    outage_s = 600.0
    texts = ", ".join(
        f"{load:.0%}: {duration(f.catch_up_s(outage_s, load, 1.0))}" for load in (0.5, 0.8, 0.95)
    )
    most = f.largest(
        lambda load: f.catch_up_s(outage_s, load, 1.0) + outage_s <= QUEUE_LIMIT_S, 0, 1
    )
    return Finding(
        CONDITIONAL,
        f"after 10 min without workers the backlog is gone, by load before: {texts}",
        "D l / (m - l)",
        f"for an hour from the beginning of such an outage: load at most {percent(most)}",
        {"load_max": round(most, 4)},
    )
