"""What the simulator costs, as ratios and bounds of one run on this machine.

    python -m bench.simulate [--quick] [NAME ...]

Names: baseline, day, thousand, exact, linear, jobs, dask. Rounds of what is compared are
interleaved and the median counts. A bound that was asked for is printed beside the
figure; what a machine gives is a figure, not a promise.
"""

from __future__ import annotations

import argparse
import json
import platform
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any, Final

import simpy

from fractal_lba_server.drill.scenario import Scenario, scenario_of
from fractal_lba_sim.engine import ENGINES, engine
from fractal_lba_sim.executors import Executor, executor
from fractal_lba_sim.playing import job_of, play
from fractal_lba_sim.runner import Runner, Work

ROUNDS: Final = 3
DAY_S: Final = 86_400
TIMEOUTS: Final = 500_000
LATER_RUNS: Final = 5
"""Runs of the exact engine after the first one."""


def two_regions(*, name: str, rate_per_s: float, duration_s: float, **over: Any) -> Scenario:
    """Make a scenario of two regions, each with clients of its own; one region is gone for a while.

    `over` replaces members of the document.
    """
    document: dict[str, Any] = {
        "version": 1,
        "name": name,
        "title": name,
        "topology": {
            "regions": [{"code": "euw"}, {"code": "use"}],
            "placements": {
                "open": {"regions": ["euw", "use"], "topology": "active-active", "copies": 2}
            },
            "links": [{"from": "euw", "to": "use", "delay_ms": 35}],
        },
        "settings": {"probe": {"interval_s": 10, "timeout_s": 2, "failures": 3, "dns_ttl_s": 60}},
        "load": {"duration_s": duration_s, "rate_per_s": rate_per_s, "outbox_until": "replicated"},
        "faults": [
            {"id": "outage", "kind": "region-down", "region": "euw", "at_s": duration_s / 6,
             "for_s": duration_s / 3}
        ],
        "promises": {"rto_s": 300, "no_loss_end_to_end": True},
    }  # fmt: skip
    return scenario_of({**document, **over}, name)


def seconds(call: Callable[[], object]) -> float:
    """Give how long a call takes."""
    started = time.perf_counter()
    call()
    return time.perf_counter() - started


def medians(calls: Sequence[Callable[[], object]], rounds: int = ROUNDS) -> list[float]:
    """Time calls in turn, round by round; give the median of each."""
    taken: list[list[float]] = [[] for _ in calls]
    for _ in range(rounds):
        for place, call in enumerate(calls):
            taken[place].append(seconds(call))
    return [statistics.median(one) for one in taken]


def acknowledged(outcome: dict[str, Any]) -> int:
    """Count the records of an outcome, each of which is in one class."""
    classes = ("winner", "duplicate", "displaced", "lost")
    rows = outcome["accounts"].values()
    total = sum(int(row["acked"]) for row in rows)
    if total != sum(row[name] for row in rows for name in classes):
        raise SystemExit("the books do not add up: the figure would be worth nothing")
    return total


def baseline(*, quick: bool) -> str:
    """Compare the plan engine with a model of the same scenario, a process for each record."""
    from bench.plan_baseline import play_records  # noqa: PLC0415 - its file may be left out

    scenario = two_regions(name="baseline", rate_per_s=4_000, duration_s=20 if quick else 60)
    job = job_of(scenario, "plan")
    records = [0, 0]

    def one_by_one() -> None:
        records[0] = int(play_records(scenario, seed=1))

    def in_flows() -> None:
        records[1] = acknowledged(json.loads(play(job, 1)))

    slow_s, fast_s = medians([one_by_one, in_flows])
    slow, fast = records[0] / slow_s, records[1] / fast_s
    return (
        f"2,000 records/s in each of two regions: plan, judged: {fast:,.0f} records/s; one process "
        f"for each record: {slow:,.0f} records/s; {fast / slow:,.0f} times (asked: 100)"
    )


DAY: Final = """
import json, resource, sys, time
from bench.simulate import acknowledged, day_scenario
from fractal_lba_sim.playing import job_of, play
started = time.perf_counter()
outcome = json.loads(play(job_of(day_scenario(float(sys.argv[1])), "plan"), 1))
print(json.dumps({
    "seconds": time.perf_counter() - started, "records": acknowledged(outcome),
    "valid": outcome["valid"],
    "rss_mb": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024,
}))
"""


def day_scenario(duration_s: float) -> Scenario:
    """Make a day of 2,000 records/s in each of two regions, with six incidents."""
    length_s = duration_s / 72
    faults = [
        {"id": "outage", "kind": "region-down", "region": "euw", "at_s": duration_s / 12,
         "for_s": length_s, "repeat": {"count": 3, "every_s": duration_s / 4}},
        {"id": "cut", "kind": "partition", "from": "euw", "to": "use", "at_s": duration_s / 5,
         "for_s": length_s, "repeat": {"count": 3, "every_s": duration_s / 4}},
    ]  # fmt: skip
    return two_regions(name="day", rate_per_s=4_000, duration_s=duration_s, faults=faults)


def day(*, quick: bool) -> str:
    """Measure time and memory of a simulated day in a process of its own."""
    duration_s = DAY_S / 12 if quick else DAY_S
    done = subprocess.run(
        [sys.executable, "-c", DAY, str(duration_s)], check=True, capture_output=True, text=True
    )
    found = json.loads(done.stdout)
    return (
        f"{duration_s / 3600:g} h of 2,000 records/s in each of two regions: "
        f"{found['seconds']:.1f} s, {found['rss_mb']:.0f} MB, {found['records']:,} records "
        f"accounted for (asked, for 24 h: 30 s, 500 MB){'' if found['valid'] else ' NOT VALID'}"
    )


def runs(where: Executor, scenario: Scenario, count: int, name: str = "plan") -> None:
    """Play runs and forget them."""
    job = job_of(scenario, name)
    with where:
        Runner(where).play([Work(job, range(count))])


def processes(jobs: int) -> Executor:
    """Start processes as `flk-sim run --jobs` does: what they need is imported before they fork."""
    return executor("processes", jobs=jobs, preload=(ENGINES["plan"],))


def failover() -> Scenario:
    """Make a failover of 30 minutes."""
    return two_regions(name="failover", rate_per_s=4_000, duration_s=1_800)


def thousand(*, quick: bool) -> str:
    """Measure 1,000 runs of a failover of 30 minutes, on two processes."""
    count = 100 if quick else 1_000
    taken_s = seconds(lambda: runs(processes(2), failover(), count))
    return f"{count:,} runs of a 30-minute failover on two: {taken_s:.1f} s (1,000 asked: 60 s)"


def exact(*, quick: bool) -> str:
    """Measure how many events the core is given in a second of the processor.

    The first run signs its records; a later one, of another seed, finds them signed. The best of
    the later ones counts: whatever else runs on the machine only takes from it. The baseline is a
    timeout of SimPy, one after the other, in the same process.
    """
    scenario = two_regions(name="exact", rate_per_s=40, duration_s=60 if quick else 240)
    rates = []
    for seed in range(1, LATER_RUNS + 2):
        playing: Any = engine("exact")
        began_s = time.process_time()
        playing.play(scenario, seed=seed)
        rates.append(playing.steps / (time.process_time() - began_s))
    began_s = time.process_time()
    bare_timeouts(TIMEOUTS)
    timeouts_per_s = TIMEOUTS / (time.process_time() - began_s)
    best = max(rates[1:])
    return (
        f"exact: {best:,.0f} core steps/s of processor time, {min(rates[1:]):,.0f} in the slowest "
        f"of {LATER_RUNS} runs, {rates[0]:,.0f} in the first one (asked: 50,000); a step costs "
        f"{timeouts_per_s / best:.0f} timeouts of SimPy, on Python {platform.python_version()}"
    )


def bare_timeouts(count: int) -> None:
    """Let so many timeouts of SimPy pass."""
    env = simpy.Environment()

    def wait() -> Generator[Any, Any, None]:
        for _ in range(count):
            yield env.timeout(1)

    env.process(wait())
    env.run()


def linear(*, quick: bool) -> str:
    """Compare twice the simulated time, and twice the runs, with once."""
    length_s = 1_800 if quick else 7_200
    job_once, job_twice = (job_of(day_scenario(factor * length_s), "plan") for factor in (1, 2))
    once, twice = medians([lambda: play(job_once, 1), lambda: play(job_twice, 1)], 5)
    count = 10 if quick else 40
    few, many = medians(
        [
            lambda: runs(processes(1), failover(), count),
            lambda: runs(processes(1), failover(), 2 * count),
        ]
    )
    return (
        f"twice the simulated time: {twice / once:.2f} times the cost; twice the runs: "
        f"{many / few:.2f} times (linear: at most 2)"
    )


def jobs(*, quick: bool) -> str:
    """Compare two processes with this one."""
    count = 100 if quick else 1_000
    one, two = medians(
        [
            lambda: runs(processes(1), failover(), count),
            lambda: runs(processes(2), failover(), count),
        ]
    )
    return f"--jobs 2: {one / two:.2f} times as fast as --jobs 1, {count} runs"


@contextmanager
def local_cluster() -> Any:
    """Run a Dask cluster of two processes on this machine."""
    from distributed import LocalCluster  # noqa: PLC0415 - an optional extra

    cluster: Any = LocalCluster(  # type: ignore[no-untyped-call]  # it ships no types
        n_workers=2, threads_per_worker=1, processes=True, dashboard_address=None
    )
    with cluster:
        yield cluster.scheduler_address


def dask(*, quick: bool) -> str:
    """Compare a Dask cluster of two processes with two processes."""
    count = 100 if quick else 1_000
    with local_cluster() as address:
        plain, clustered = medians(
            [
                lambda: runs(processes(2), failover(), count),
                lambda: runs(executor("dask", scheduler=address), failover(), count),
            ]
        )
    return f"--executor dask: {clustered / plain:.2f} times the time of --jobs 2, {count} runs"


BENCHES: Final[dict[str, Callable[..., str]]] = {
    "baseline": baseline,
    "day": day,
    "thousand": thousand,
    "exact": exact,
    "linear": linear,
    "jobs": jobs,
    "dask": dask,
}


def main(words: Sequence[str] | None = None) -> None:
    """Run the named benchmarks, or all."""
    parser = argparse.ArgumentParser(prog="python -m bench.simulate", description=__doc__)
    parser.add_argument("names", nargs="*", choices=[*BENCHES, []], metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="small sizes: it runs, no figures")
    given = parser.parse_args(words)
    for name in given.names or BENCHES:
        print(f"{name:<9} {BENCHES[name](quick=given.quick)}", flush=True)


if __name__ == "__main__":
    main()
