"""What one run says about another: units, names, and settings that can only help or only hurt.

No closed form is needed here. Two runs that differ in one thing meet the same chance everywhere
else, so each relation is asked seed by seed, and one exception is a defect. A mutant of each
relation, an engine with one thing wrong, breaks it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from copy import deepcopy
from itertools import pairwise
from typing import Any

import pytest
from trust_worlds import DOWN, PROBE, WORLDS, judged, played, world

from fractal_lba_server.drill.scenario import scenario_of
from fractal_lba_sim.plan import health, net
from fractal_lba_sim.streams import Streams

SEEDS = range(1, 21)
Change = Callable[[dict[str, Any]], None]


# --- the unit of time


SCALED = ("_s", "_ms")
"""Members that are durations, by the end of their names; a rate goes the other way."""


def stretched(node: Any, factor: int, name: str = "") -> Any:
    """Give a document whose times are so much longer, and whose rates are so much lower."""
    if isinstance(node, dict):
        return {key: stretched(value, factor, key) for key, value in node.items()}
    if isinstance(node, list):
        return [stretched(value, factor, name) for value in node]
    if isinstance(node, bool) or not isinstance(node, int | float):
        return node
    if name.endswith("_per_s"):
        return node / factor
    return node * factor if name.endswith(SCALED) else node


STRETCHED = {
    "names": {"settings.probe": {**PROBE, "dns_ttl_s": 3, "propagation_s": 0.5}},
    "people": {
        "settings.probe": {**PROBE, "dns_ttl_s": 3, "propagation_s": 0.5},
        "settings.people": {
            "automatic": False, "page_s": {"lognormal": {"p50_s": 0.5, "p95_s": 2}},
            "decide_s": {"exponential": {"mean_s": 0.5}},
            "act_s": {"uniform": {"min_s": 0.1, "max_s": 1}},
        },
    },
}  # fmt: skip
"""Clients behind a name: the SDK's own timers are the server's, and have no unit to change."""

ROUNDED_NS = 100
"""Every duration is whole nanoseconds, so each one that is drawn may be one of them off."""


def rto_ns(name: str, seed: int, factor: int) -> int:
    document = deepcopy(dict(world("names", STRETCHED[name]).document))
    document["load"]["duration_s"] = 25
    document["faults"] = [{**DOWN, "for_s": 20}]
    found = judged(scenario_of(stretched(document, factor), name), seed)["incidents"][0]["rto_s"]
    assert found is not None
    return round(found * 10**9)


def every_time_scales(name: str, factor: int) -> bool:
    return all(
        abs(rto_ns(name, seed, factor) - factor * rto_ns(name, seed, 1)) <= factor * ROUNDED_NS
        for seed in SEEDS
    )


@pytest.mark.parametrize("factor", [2, 10])
@pytest.mark.parametrize("name", STRETCHED)
def test_another_unit_of_time_gives_every_recovery_in_that_unit(name: str, factor: int) -> None:
    assert every_time_scales(name, factor)


def test_seconds_that_were_taken_for_milliseconds_break_the_unit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    heard = health.Checkers._probe

    def later(self: health.Checkers, pair: tuple[str, str]) -> None:
        # A wait that is a number in the code, and in no unit of the scenario.
        self._agenda.after(5_000_000, heard, self, pair)

    monkeypatch.setattr(health.Checkers, "_probe", later)
    assert not every_time_scales("names", 10)


# --- names of regions

NEW_NAMES = {"euw": "zzz", "use": "aaa"}
CLIENTS = [
    {"name": "first", "endpoints": ["euw", "use"]},
    {"name": "second", "endpoints": ["use", "euw"]},
]


CHANCY = {"topology.links.euw-use.jitter_ms": 30, "topology.links.euw-use.loss": 0.05}
"""Links that draw as well, each message by the names of its ends."""


def renamed(node: Any) -> Any:
    text = json.dumps(node)
    for old, new in NEW_NAMES.items():
        text = text.replace(f'"{old}"', f'"{new}"').replace(f"-{old}", f"-{new}")
    return json.loads(text)


def names_are_only_names(name: str) -> bool:
    """Ranks are places in the list of regions: the same places, under other names."""
    # A client's name is its own: those that a scenario does not name are called after a region.
    scenario = world(name, CHANCY if name == "names" else {**CHANCY, "load.clients": CLIENTS})
    other = scenario_of(renamed(dict(scenario.document)), name)
    for seed in SEEDS:
        first, second = judged(scenario, seed), judged(other, seed)
        same = ("incidents", "accounts", "anomalies", "calls", "refused", "unknown", "in_flight")
        if any(renamed(first[part]) != second[part] for part in same):
            return False
    return True


@pytest.mark.parametrize("name", WORLDS)
def test_other_names_of_regions_permute_what_comes_out(name: str) -> None:
    assert names_are_only_names(name)


def test_a_stream_by_the_code_of_a_region_breaks_it(monkeypatch: pytest.MonkeyPatch) -> None:
    begin = health.Checkers.__init__

    def by_code(self: health.Checkers, setup: Any, *args: Any) -> None:
        begin(self, setup, *args)
        for name, code in self._phase_ns:
            chance = Streams(1).of(name, code).random()
            self._phase_ns[name, code] = int(chance * setup.probe.interval_ms * 1_000_000)

    monkeypatch.setattr(health.Checkers, "__init__", by_code)
    assert not names_are_only_names("promotion")


# --- what can only hurt, and what can only help


def rto_s(changes: dict[str, Any], seed: int, name: str = "names") -> float:
    found = judged(world(name, changes), seed)["incidents"][0]["rto_s"]
    return float("inf") if found is None else float(found)


TIMEOUTS_S = (0.2, 0.4, 0.6, 0.8, 1)


def never_falls(values: list[float]) -> bool:
    return all(before <= after for before, after in pairwise(values))


def recovery_never_falls(name: str, timeouts_s: tuple[float, ...] = TIMEOUTS_S) -> bool:
    """Asked of clients behind a name, and of one writer whose successor is chosen by checkers."""
    path = "settings.probe.timeout_s"
    return all(
        never_falls([rto_s({path: timeout_s}, seed, name) for timeout_s in timeouts_s])
        for seed in SEEDS
    )


@pytest.mark.parametrize("name", ["names", "promotion"])
def test_recovery_never_falls_when_the_detection_timeout_rises(name: str) -> None:
    assert recovery_never_falls(name)
    assert rto_s({"settings.probe.timeout_s": 1}, 1) > rto_s({"settings.probe.timeout_s": 0.2}, 1)


def test_a_timeout_that_is_taken_the_other_way_round_is_seen() -> None:
    assert not recovery_never_falls("names", TIMEOUTS_S[::-1])


BANDWIDTHS = (20_000, 40_000, 80_000, 320_000, None)
"""Bytes a second; a region writes 16,260 of them. None: as much as there is."""


def rpo_s(bytes_per_s: float | None, seed: int) -> float:
    # Batches close on a clock. Where each waits for the one before, another bandwidth moves the
    # phase in which a region dies, and the relation holds of the mean alone.
    changes = {
        "topology.links.euw-use.bandwidth_bytes_per_s": bytes_per_s,
        "settings.shipping": {"interval_s": 1},
    }
    found = judged(world("burnt", changes), seed)["incidents"][0]["lost"]["rpo_s"]
    return float(found)


def loss_never_rises(bandwidths: tuple[float | None, ...] = BANDWIDTHS) -> bool:
    return all(
        never_falls([-rpo_s(bytes_per_s, seed) for bytes_per_s in bandwidths]) for seed in SEEDS
    )


def test_the_recovery_point_never_rises_with_bandwidth() -> None:
    assert loss_never_rises()
    assert rpo_s(BANDWIDTHS[0], 1) > rpo_s(None, 1)


def test_a_bandwidth_that_is_taken_the_other_way_round_is_seen() -> None:
    assert not loss_never_rises(BANDWIDTHS[::-1])


# --- a perfect replica


def lost(name: str, seed: int, *, replica: bool, delay_ms: float = 0) -> int:
    """Count what is lost of the clients of two regions, with a third that is near and perfect."""
    document = deepcopy(dict(world(name).document))
    regions = ["euw", "use"]
    if not document["load"].get("clients"):
        document["load"]["clients"] = [
            {"name": f"near-{code}", "endpoints": [code, *(c for c in regions if c != code)]}
            for code in regions
        ]
    if replica:
        document["topology"]["regions"].append({"code": "ape"})
        document["topology"]["placements"]["open"]["regions"].append("ape")
        document["topology"]["links"] += [
            {"from": code, "to": "ape", "delay_ms": delay_ms} for code in regions
        ]
    found = judged(scenario_of(document, name), seed)["incidents"][0]["lost"]["records"]
    return int(found)


def a_replica_helps(name: str, delay_ms: float = 0) -> bool:
    return all(
        lost(name, seed, replica=True, delay_ms=delay_ms) <= lost(name, seed, replica=False)
        for seed in SEEDS
    )


@pytest.mark.parametrize("name", ["burnt", "promotion"])
def test_a_perfect_replica_never_adds_a_loss(name: str) -> None:
    assert a_replica_helps(name)


def test_a_perfect_replica_takes_losses_away() -> None:
    assert sum(lost("burnt", seed, replica=False) for seed in SEEDS) > 0
    assert sum(lost("burnt", seed, replica=True) for seed in SEEDS) == 0


# --- a cause that never happens

NEVER: dict[str, dict[str, Any]] = {
    "no loss on a link": {"topology.links.euw-use.loss": 0},
    "no jitter on a link": {"topology.links.euw-use.jitter_ms": 0},
    "nobody ignores a TTL": {
        "settings.probe.ignore_ttl_share": 0,
        "settings.probe.ignore_ttl_for_s": {"exponential": {"mean_s": 60}},
    },
    "no rivals": {"load.rival_share": 0},
}
NOBODY_AWAY = {
    "absent_share": 0, "absent_extra_s": {"exponential": {"mean_s": 60}},
    "stale_step_share": 0, "stale_step_extra_s": {"exponential": {"mean_s": 60}},
}  # fmt: skip
SLOW_PEOPLE = {"automatic": False, "page_s": {"exponential": {"mean_s": 1}}}


def text(name: str, changes: dict[str, Any], seed: int, engine: str) -> str:
    """Give a trace byte for byte, without its first line: that holds the scenario."""
    return json.dumps(played(world(name, changes), seed, name=engine)[1:])


@pytest.mark.parametrize("engine", ["plan", "exact"])
@pytest.mark.parametrize("cause", NEVER)
def test_a_cause_with_a_share_of_0_leaves_the_trace_as_it_is(cause: str, engine: str) -> None:
    for seed in SEEDS if engine == "plan" else (1, 2):
        assert text("names", NEVER[cause], seed, engine) == text("names", {}, seed, engine)


def test_people_who_are_never_away_leave_the_trace_as_it_is() -> None:
    for seed in SEEDS:
        calm = text("names", {"settings.people": SLOW_PEOPLE}, seed, "plan")
        assert text("names", {"settings.people": SLOW_PEOPLE | NOBODY_AWAY}, seed, "plan") == calm


NONE = {
    "id": "none", "kind": "loss", "from": "euw", "to": "use", "share": 0, "at_s": 0, "for_s": 40,
}  # fmt: skip
"""A fault that loses nothing, from the first moment to the last.

One that heals in between has plan look at its links there, so that messages are played, and draw
jitter, which are arithmetic otherwise: what catches up afterwards is then not paired.
"""

JITTER: dict[str, Any] = {"topology.links.euw-use.jitter_ms": 300}


def told(name: str, faults: list[dict[str, Any]], seed: int) -> list[Any]:
    """Give what became of a run, without the incident that is none.

    A fault splits the lines of a trace, so what they add up to is compared.
    """
    changes = JITTER if name == "burnt" else {}
    found = judged(world(name, {**changes, "faults": faults}), seed)
    rows = [row for row in found["incidents"] if row["id"] != "none"]
    calls = found["calls"]
    return [rows, found["accounts"], calls, found["refused"], found["unknown"]]


def a_fault_of_share_0_does_nothing(name: str) -> bool:
    faults = WORLDS[name]["faults"]
    return all(told(name, faults, seed) == told(name, [NONE, *faults], seed) for seed in SEEDS)


@pytest.mark.parametrize("name", ["outage", "burnt", "names"])
def test_a_fault_of_share_0_changes_nothing_of_what_becomes_of_others(name: str) -> None:
    assert a_fault_of_share_0_does_nothing(name)


def test_a_fault_that_draws_though_it_never_happens_is_seen(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    change = net.Net.change

    def drawn(self: net.Net, begin: str, end: str) -> Any:
        # One stream for two causes: what a resolver draws next is another number.
        for number in range(4):
            self._streams.of("client", "named", "resolver", str(number), "asks").random()
        return change(self, begin, end)

    monkeypatch.setattr(net.Net, "change", drawn)
    assert not a_fault_of_share_0_does_nothing("names")


def test_in_exact_a_fault_of_share_0_adds_its_own_lines_and_no_others() -> None:
    for seed in (1, 2):
        lines = [
            [
                event
                for event in played(world("burnt", {"faults": faults}), seed, name="exact")[1:]
                if "none" not in (event.get("id"), event.get("after"), event.get("incident"))
            ]
            for faults in (WORLDS["burnt"]["faults"], [NONE, *WORLDS["burnt"]["faults"]])
        ]  # fmt: skip
        assert lines[0] == lines[1]
