"""Changes are compared run by run; what is said to help helps, and no smaller change does."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.core.faults import DocumentError
from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_sim.asked import asked
from fractal_lba_sim.edits import edited, shown, value_at
from fractal_lba_sim.executors import Played, Serial
from fractal_lba_sim.metrics import METRICS, metric_of, state_over, worst_promise
from fractal_lba_sim.playing import Chunk
from fractal_lba_sim.remedies import (
    acts_rarely,
    low_and_high,
    monotone,
    proposals,
    scaled,
    uncertain,
)
from fractal_lba_sim.runner import Runner
from fractal_lba_sim.sweep import POINTS_MAX, front, points
from fractal_lba_sim.whatif import (
    FIRST,
    RUNS,
    WhatIf,
    asked_for,
    pairs,
    runs_for,
    searches_for,
)

Make = Callable[..., Scenario]
SETTINGS = {
    "probe": {"interval": "10s", "failures": 3, "dns_ttl": "300s"},
    "shipping": {"interval": "60s"},
}


def asking(scenario: Scenario, *, runs: int = RUNS) -> WhatIf:
    return WhatIf(Runner(Serial()), scenario, "tiny", seed=1, runs=runs)


class Counting(Serial):
    def __init__(self) -> None:
        self.played: list[int] = []

    def play(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Played]]:
        self.played += [seed for chunk in chunks for seed in chunk.seeds]
        yield from super().play(chunks)


def outcome(**over: Any) -> dict[str, Any]:
    incident = {
        "rto_s": 10.0, "lost": {"records": 3, "rpo_s": 2.0, "rpo_work_s": 1.5},
    }  # fmt: skip
    found: dict[str, Any] = {
        "seed": 1,
        "valid": True,
        "verdicts": [{"name": "rto_s", "state": "holds", "said": ""}],
        "incidents": [incident],
        "accounts": {"euw": {"lost": 3, "displaced": 2}, "use": {"lost": 1, "displaced": 0}},
        "brought_by_outbox": 1,
        "calls": {"a": {"count": 10, "good": 9}, "b": {"count": 10, "good": 10}},
        "simulated_s": 100.0,
    }
    return {**found, **over}


# --- edits


@pytest.mark.parametrize(
    ("text", "path", "values"),
    [
        ("settings.shipping.interval=5s,30s", "settings.shipping.interval_s", (5, 30)),
        ("settings.probe.dns_ttl=5min", "settings.probe.dns_ttl_s", (300,)),
        ("settings.probe.failures=2,3", "settings.probe.failures", (2, 3)),
        ("settings.level=durable,replicated", "settings.level", ("durable", "replicated")),
        ("settings.people.automatic=false", "settings.people.automatic", (False,)),
        ("settings.people.absent_share=5%", "settings.people.absent_share", (0.05,)),
        ("load.rate=2000/s", "load.rate_per_s", (2000,)),
        ("topology.regions.use.nodes=2,4", "topology.regions.use.nodes", (2, 4)),
        ("faults.down.for=10min", "faults.down.for_s", (600,)),
        (
            "settings.people.page={uniform: {min: 1min, max: 5min}},90s",
            "settings.people.page_s",
            ({"uniform": {"min_s": 60, "max_s": 300}}, 90),
        ),
    ],
)
def test_settings_are_read_as_people_write_them(
    tiny: Make, text: str, path: str, values: tuple[Any, ...]
) -> None:
    found = asked(tiny(), text)
    assert found == (path, values)
    for value in values:
        assert value_at(edited(tiny(), {path: value}).document, path) == value


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("settings.shipping.interval=5", "a number without a unit"),
        ("settings.shipping.interval=5parsecs", "unknown unit"),
        ("settings.shipping.intervall=5s", 'did you mean "interval"'),
        ("topology.regions.eux.nodes=2", "topology.regions: has no entry eux; there are euw, use"),
        ("settings.shipping.interval", "expected PATH=VALUE"),
        ("settings.shipping.interval=", "expected PATH=VALUE"),
        ("settings.probe.failures=[", "not YAML"),
    ],
)
def test_a_faulty_setting_names_its_place(tiny: Make, text: str, said: str) -> None:
    with pytest.raises((DocumentError, ScenarioError)) as caught:
        asked(tiny(), text)
    assert said in str(caught.value)


def test_a_changed_scenario_is_as_valid_as_a_loaded_one(tiny: Make) -> None:
    with pytest.raises(DocumentError, match="/settings/probe/failures: expected at least 1"):
        edited(tiny(), {"settings.probe.failures": 0})
    with pytest.raises(DocumentError, match="no region eux"):
        edited(tiny(), {"faults.down.region": "eux"})


def test_a_change_leaves_the_scenario_as_it_was(tiny: Make) -> None:
    scenario = tiny()
    before = scenario.digest
    assert edited(scenario, {"settings.probe.dns_ttl_s": 1}).digest != before
    assert scenario.digest == before


@pytest.mark.parametrize(
    ("path", "value", "text"),
    [
        ("settings.probe.dns_ttl_s", 208, "208 s"),
        ("load.patience_ms", 250, "250 ms"),
        ("topology.links.0.bandwidth_bytes_per_s", 25_000_000, "200 Mbit/s"),
        ("load.rate_per_s", 2000, "2000 records/s"),
        ("settings.people.absent_share", 0.05, "5 %"),
        ("settings.people.automatic", False, "no"),
        ("settings.level", "replicated", "replicated"),
        ("settings.probe.failures", 3, "3"),
        ("x", None, "nothing"),
        ("x_s", {"uniform": {"min_s": 1, "max_s": 2}}, "uniform min 1 s max 2 s"),
        ("x_s", {"observed": {"values_s": [1, 2, 3]}}, "observed 3 values"),
    ],
)  # fmt: skip
def test_a_value_is_said_with_its_unit(path: str, value: Any, text: str) -> None:
    assert shown(path, value) == text


# --- metrics


@pytest.mark.parametrize(
    ("promise", "value"),
    [
        ("rto_s", 10.0),
        ("rpo_s", 2.0),
        ("rpo_work_s", 1.5),
        ("rpo_records", 3),
        ("no_loss_at_level", 4),
        ("no_loss_end_to_end", 3),
        ("displaced_max", 2),
        ("success_share_min", pytest.approx(0.05)),
        ("canary", 1.0),
    ],
)
def test_a_promise_has_a_number_that_is_better_when_smaller(promise: str, value: float) -> None:
    assert metric_of(promise).of(outcome()) == value


def test_a_run_that_did_not_recover_has_no_number() -> None:
    hung = {**outcome()["incidents"][0], "rto_s": None}
    both = outcome(incidents=[outcome()["incidents"][0], hung])
    assert METRICS["rto_s"].of(both) is None


def test_the_worst_promise_is_the_one_that_fails_in_most_runs() -> None:
    def with_states(**states: str) -> dict[str, Any]:
        return outcome(verdicts=[{"name": n, "state": s, "said": ""} for n, s in states.items()])

    promises = {"rto_s": 1, "rpo_s": 1, "canary": True}
    runs = [
        with_states(rto_s="fails", rpo_s="fails", canary="holds"),
        with_states(rto_s="holds", rpo_s="fails", canary="holds"),
    ]
    assert worst_promise(runs, promises) == "rpo_s"
    assert worst_promise([with_states(canary="holds", rto_s="holds")], promises) == "rto_s"
    assert worst_promise([with_states(canary="holds")], promises) == "canary"
    assert worst_promise([], promises) == "rto_s"


def test_nothing_holds_in_runs_that_are_not_valid() -> None:
    assert state_over([outcome(valid=False)], "rto_s") == "not enough evidence"
    assert state_over([outcome(), outcome(valid=False)], "rto_s") == "holds"


def test_pairs_leave_out_runs_that_are_not_valid_on_either_side() -> None:
    base = [outcome(seed=1), outcome(seed=2, valid=False), outcome(seed=3), outcome(seed=4)]
    after = [outcome(seed=1), outcome(seed=2), outcome(seed=3, valid=False), outcome(seed=4)]
    found = pairs(METRICS["rto_s"], base, after)
    assert found is not None
    assert len(found.before) == len(found.after) == 2
    assert pairs(METRICS["rto_s"], base[:2], after[:2]) is None


def test_a_run_that_did_not_recover_counts_with_the_length_of_the_longest_run() -> None:
    hung = outcome(incidents=[{**outcome()["incidents"][0], "rto_s": None}], simulated_s=120.0)
    found = pairs(METRICS["rto_s"], [outcome(), outcome(seed=2)], [hung, {**hung, "seed": 2}])
    assert found is not None
    assert found.means() == (10.0, 120.0)


# --- candidates


def test_a_lower_ttl_is_the_best_remedy_for_a_long_ttl(tiny: Make) -> None:
    rows = asking(tiny()).remediations()
    assert rows[0]["name"] == "lower the DNS TTL"
    assert rows[0]["set"] == {"settings.probe.dns_ttl_s": 60}
    assert rows[0]["holds"]
    values = [row["difference"]["value"] for row in rows]
    assert values == sorted(values)
    assert all(value < 0 for value in values)


def test_a_paired_difference_of_a_constant_is_exact(tiny: Make) -> None:
    rows = {row["name"]: row for row in asking(tiny()).remediations()}
    gap = rows["probe twice as often"]["difference"]
    assert gap == pytest.approx({"value": -15, "low": -15, "high": -15})


def test_what_does_not_touch_the_failing_promise_is_no_remedy(tiny: Make) -> None:
    names = [row["name"] for row in asking(tiny()).remediations()]
    assert "ship twice as often" not in names


def test_the_remedy_follows_the_promise_that_fails(tiny: Make) -> None:
    scenario = tiny(promises={"rto": "1h", "rpo": "30s", "steady": "30s"})
    (first, *_) = asking(scenario).remediations()
    assert first["name"] == "ship twice as often"
    assert first["promise"] == "rpo_s"
    assert first["metric"] == "rpo_s"


def test_a_candidate_that_the_engine_refuses_is_left_out(tiny: Make) -> None:
    assert "refuse writes in a partition" in [one.name for one in proposals(tiny().document)]
    assert "refuse writes in a partition" not in [
        row["name"] for row in asking(tiny()).rows(proposals(tiny().document))
    ]


def test_a_remedy_says_what_it_costs_if_prices_are_declared(tiny: Make) -> None:
    row = asking(tiny()).remediations()[0]
    assert row["cost_per_month"] is None
    topology = {
        "regions": [
            {"code": code, "capacity_per_s": 100, "node_price_per_hour": 1,
             "storage_price_per_gb_month": 0} for code in ("euw", "use")
        ],
        "links": [{"from": "euw", "to": "use", "price_per_gb": 0}],
    }  # fmt: skip
    cost = {"backup_price_per_gb_month": 0, "retention_days": 1, "currency": "EUR"}
    scenario = tiny(topology=topology, settings={**SETTINGS, "cost": cost})
    rows = {row["name"]: row for row in asking(scenario).rows(proposals(scenario.document))}
    assert rows["double the capacity of the regions"]["cost_per_month"] == 2 * 730
    assert rows["lower the DNS TTL"]["cost_per_month"] == 0


RICH = {
    "topology": {
        "regions": [{"code": "euw", "capacity_per_s": 100}, {"code": "use", "nodes": 16}],
        "placements": {"open": {"regions": ["euw", "use"], "topology": "warm-standby"}},
        "links": [{"from": "euw", "to": "use", "bandwidth": "200Mbit/s", "delay": "40ms"}],
    },
    "settings": {
        "probe": {"interval": "10s", "failures": 3, "dns_ttl": "300s", "ignore_ttl_share": "5%"},
        "shipping": {"interval": "60s", "via": "objects", "segment_age": "30s",
                     "upload": {"uniform": {"min": "1s", "max": "3s"}}},
        "people": {"automatic": False, "page": {"lognormal": {"p50": "2min", "p95": "10min"}},
                   "decide": "5min", "act": "3min", "absent_share": "10%",
                   "stale_step_share": "10%"},
        "recovery": {"promote": "30s", "fail_back": True, "catch_up": "10MB/s"},
    },
}  # fmt: skip


def test_every_candidate_is_a_valid_scenario(tiny: Make) -> None:
    scenario = tiny(**RICH)
    found = proposals(scenario.document)
    assert len(found) >= 20
    for one in found:
        edited(scenario, one.set)
    assert len({one.name for one in found}) == len(found)


def test_a_candidate_that_is_carried_out_is_not_proposed_for_ever(tiny: Make) -> None:
    scenario = tiny(**RICH)
    for _ in range(8):
        for one in proposals(scenario.document):
            if "twice" not in one.name and "double" not in one.name:
                scenario = edited(scenario, one.set)
    names = {one.name for one in proposals(scenario.document)}
    for gone in (
        "lower the DNS TTL", "let probes decide, not people", "page a second expert",
        "rehearse the runbook", "acknowledge when replicated", "ship over the links",
        "refuse writes in a partition", "do not fail back", "active-active instead of warm-standby",
        "hold records in the outbox until replicated", "fence the old writer with a lease",
    ):  # fmt: skip
        assert gone not in names


# --- tornado


def test_the_widest_swing_comes_first(tiny: Make) -> None:
    rows = asking(tiny()).tornado()
    assert rows[0]["path"] == "settings.probe.dns_ttl_s"
    assert rows[0]["low"]["set"] == "150 s"
    assert rows[0]["high"]["set"] == "600 s"
    assert rows[0]["low"]["value"] < rows[0]["base"] < rows[0]["high"]["value"]
    swings = [abs(row["high"]["value"] - row["low"]["value"]) for row in rows]
    assert swings == sorted(swings, reverse=True)


def test_listed_settings_alone_are_swung(tiny: Make) -> None:
    rows = asking(tiny()).tornado(["settings.probe.failures"])
    assert [row["path"] for row in rows] == ["settings.probe.failures"]


def test_a_distribution_swings_between_its_percentiles() -> None:
    low, high = low_and_high("x_s", {"uniform": {"min_s": 0, "max_s": 100}})
    assert (low, high) == pytest.approx((5, 95))
    assert low_and_high("x_s", 10) == (5, 20)
    assert low_and_high("absent_share", 0.8) == (0.4, 1)


def test_uncertain_settings_are_those_that_the_scenario_has(tiny: Make) -> None:
    assert uncertain(tiny().document) == [
        "settings.probe.interval_s", "settings.probe.dns_ttl_s", "settings.shipping.interval_s",
        "load.rate_per_s",
    ]  # fmt: skip
    found = uncertain(tiny(**RICH).document)
    assert "topology.links.euw-use.delay_ms" in found
    assert "topology.regions.euw.capacity_per_s" in found
    assert "settings.people.page_s" in found


@given(st.floats(0.001, 1e6), st.sampled_from([0.5, 2]))
def test_scaling_a_distribution_scales_each_of_its_numbers(number: float, factor: float) -> None:
    found = scaled({"uniform": {"min_s": number, "max_s": number * 2}}, factor)
    assert found["uniform"]["min_s"] == pytest.approx(number * factor, rel=1e-5)
    assert found["uniform"]["max_s"] == pytest.approx(2 * number * factor, rel=1e-5)


# --- settings whose effect goes one way


def test_monotone_settings_are_plain_numbers_with_room(tiny: Make) -> None:
    found = {path: (now, best) for path, now, best in monotone(tiny(**RICH).document)}
    assert found["settings.probe.dns_ttl_s"] == (300, 0)
    assert found["settings.recovery.catch_up_bytes_per_s"] == (1e7, 1e12)
    assert "settings.people.page_s" not in found


# --- how much is played


def test_long_scenarios_get_fewer_pairs_and_very_long_ones_none(tiny: Make) -> None:
    load = {**tiny().part("load")}
    assert runs_for(tiny(), 1000) == RUNS
    assert runs_for(tiny(), 7) == 7
    assert runs_for(tiny(), 3) == 0
    long = tiny(load={**load, "duration_s": 86_400 * 5})
    assert runs_for(long, 1000) == 0
    assert searches_for(tiny(), 100) == 100
    assert searches_for(long, 100) == 4


# --- sweeps


def test_points_are_the_product_in_order(tiny: Make) -> None:
    settings = [
        asked(tiny(), "settings.probe.dns_ttl=1s,2s"),
        asked(tiny(), "settings.shipping.interval=3s,4s"),
    ]
    found = [tuple(point.set.values()) for point in points(tiny(), settings, "tiny")]
    assert found == [(1, 3), (1, 4), (2, 3), (2, 4)]


def test_a_sweep_has_a_limit(tiny: Make) -> None:
    values = ",".join(f"{n}s" for n in range(200))
    settings = [
        asked(tiny(), f"settings.{name}={values}") for name in ("probe.dns_ttl", "people.page")
    ]
    with pytest.raises(ScenarioError, match=f"40000 combinations; at most {POINTS_MAX}"):
        points(tiny(), settings, "tiny")


ROWS = st.lists(
    st.fixed_dictionaries({
        "cost_per_month": st.none() | st.integers(0, 5),
        "rto_p95_s": st.none() | st.integers(0, 5),
    }),
    max_size=12,
)  # fmt: skip


@given(ROWS)
def test_the_front_is_what_no_other_point_beats(rows: list[dict[str, Any]]) -> None:
    def beats(a: dict[str, Any], b: dict[str, Any]) -> bool:
        first, second = ((r["cost_per_month"], r["rto_p95_s"]) for r in (a, b))
        return first != second and all(x <= y for x, y in zip(first, second, strict=True))

    known = [row for row in rows if None not in row.values()]
    expected = [row for row in known if not any(beats(other, row) for other in known)]
    assert sorted(map(json.dumps, front(rows, "rto_p95_s"))) == sorted(map(json.dumps, expected))


def test_equal_seeds_are_played_once_for_all_questions(tiny: Make) -> None:
    counting = Counting()
    asker = WhatIf(Runner(counting), tiny(), "tiny", seed=1, runs=5)
    asker.remediations()
    asker.tornado()
    before = len(counting.played)
    asker.tornado()
    rows = asker.rows(proposals(tiny().document)[:1])
    assert rows
    assert len(counting.played) == before


def test_a_change_without_a_difference_gets_the_first_pairs_alone(tiny: Make) -> None:
    asker = asking(tiny())
    idle, acting, rare = asker.rows(
        [
            asked_for(tiny(), {"settings.shipping.interval_s": 30}),
            asked_for(tiny(), {"settings.probe.dns_ttl_s": 60}),
            asked_for(tiny(), {"settings.people.absent_share": 0.5}),
        ]
    )
    assert (idle["n"], acting["n"], rare["n"]) == (FIRST, RUNS, RUNS)
    assert acts_rarely(rare["set"])
    assert not acts_rarely(idle["set"])
