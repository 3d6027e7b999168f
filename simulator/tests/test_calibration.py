"""Plan predicts drills on real processes that it was never fitted to.

One number is fitted, on one kind of drill with its own settings: how long a promotion takes here
beyond what plan says without it. Then drills with other probes, another lease and another topology
are predicted, and compared by `acceptance.yaml`, which was written first. A model with another
probe must not be accepted by the same measurements. It takes about three minutes; -s prints what
it saw.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from statistics import median
from typing import Any

import pytest
from trust_worlds import DOWN, played, world

from fractal_lba_server.drill.scenario import Scenario
from fractal_lba_server.judge.check import FAILS, check
from fractal_lba_server.judge.summary import outcome
from fractal_lba_sim.compare import Comparison, compare, read_acceptance, read_side

pytestmark = [pytest.mark.drills, pytest.mark.long]

ACCEPTANCE = Path(__file__).with_name("acceptance.yaml")
PLAN_RUNS = 200
DRILLS_AT_ONCE = 2

FIT = {"load.settle_s": 5, "settings.recovery": None}
"""The promotion as trust_worlds.py has it: a probe each second, a lease of two."""

OTHER = {
    "settings.probe": {
        "interval_s": 0.5, "timeout_s": 0.3, "failures": 5, "successes": 2, "checkers": 3,
        "quorum": 2,
    },
    "settings.lease": {"duration_s": 3, "renew_s": 0.5, "drift_s": 0.1},
    "settings.recovery": None, "load.settle_s": 5,
}  # fmt: skip
"""A promotion that was not fitted to: another probe, another lease."""

SIDE_BY_SIDE = {
    "load.duration_s": 52, "load.settle_s": 5,
    "faults": [
        {**DOWN, "at_s": 3, "for_s": 3, "repeat": {"count": 6, "every_s": 8, "spread_s": 2}},
    ],
}  # fmt: skip
"""Two regions that both write, hurt six times: nothing of it was fitted."""

Changes = Mapping[str, Any]


def kept(folder: Path, scenario: Scenario, seeds: range, engine: str) -> Path:
    """Play runs and keep their traces."""
    folder.mkdir(parents=True)

    def play(seed: int) -> None:
        lines = [json.dumps(event) + "\n" for event in played(scenario, seed, name=engine)]
        (folder / f"{seed}.jsonl").write_text("".join(lines), encoding="utf-8")

    with ThreadPoolExecutor(DRILLS_AT_ONCE if engine == "live" else 1) as pool:
        list(pool.map(play, seeds))
    return folder


def recoveries(folder: Path) -> list[float]:
    found = []
    for path in sorted(folder.iterdir()):
        said = outcome(check(map(json.loads, path.read_text(encoding="utf-8").splitlines())))
        assert said["valid"], path
        found += [row["rto_s"] for row in said["incidents"]]
    assert found
    assert None not in found
    return found


@pytest.fixture(scope="module")
def promote_s(tmp_path_factory: pytest.TempPathFactory) -> float:
    """Fit the one number, on two drills."""
    folder = tmp_path_factory.mktemp("fit")
    live = recoveries(kept(folder / "live", world("promotion", FIT), range(1, 3), "live"))
    plan = recoveries(kept(folder / "plan", world("promotion", FIT), range(1, 101), "plan"))
    fitted = max(0.0, median(live) - median(plan))
    print(f"\nfit: live {[round(v, 2) for v in live]} s, plan {median(plan):.2f} s", end="")
    print(f" without promotion: a promotion takes {fitted:.2f} s")
    return fitted


def predicted(folder: Path, name: str, changes: Changes) -> Path:
    return kept(folder, world(name, dict(changes)), range(1, PLAN_RUNS + 1), "plan")


def compared(plan: Path, live: Path) -> Comparison:
    found = compare(read_side(plan), read_side(live), read_acceptance(ACCEPTANCE))
    for line in told(found, recoveries(live)):
        print(line)
    return found


def told(found: Comparison, measured: list[float]) -> Iterator[str]:
    yield f"\nmeasured: {', '.join(f'{value:.2f}' for value in sorted(measured))} s"
    for pair in found.pairs:
        for one in pair.agreements:
            values = [e and round(e.value, 2) for e in (one.predicted, one.measured)]
            yield f"{pair.incident} {pair.metric} {one.name}: {values} {one.state}: {one.said}"


@pytest.fixture(scope="module")
def promotions(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("promotions") / "live"
    return kept(folder, world("promotion", OTHER), range(11, 17), "live")


def test_promotions_that_were_not_fitted_to_are_predicted(
    promote_s: float, promotions: Path, tmp_path: Path
) -> None:
    changes = {**OTHER, "settings.recovery": {"promote_s": promote_s}}
    found = compared(predicted(tmp_path / "plan", "promotion", changes), promotions)
    assert found.accepted


def test_a_model_with_another_probe_is_not_accepted(
    promote_s: float, promotions: Path, tmp_path: Path
) -> None:
    changes = {
        **OTHER, "settings.recovery": {"promote_s": promote_s},
        "settings.probe": {**OTHER["settings.probe"], "interval_s": 1},
    }  # fmt: skip
    found = compared(predicted(tmp_path / "plan", "promotion", changes), promotions)
    assert not found.accepted
    assert FAILS in {one.state for pair in found.pairs for one in pair.agreements}


def test_another_topology_is_predicted_without_any_fit(tmp_path: Path) -> None:
    live = kept(tmp_path / "live", world("outage", SIDE_BY_SIDE), range(21, 22), "live")
    found = compared(predicted(tmp_path / "plan", "outage", SIDE_BY_SIDE), live)
    assert found.accepted
