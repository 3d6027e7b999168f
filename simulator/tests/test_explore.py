"""What an exploration finds, shrinks and writes, with a toy engine whose defects are known."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import toy_engine
from hypothesis import given, settings
from hypothesis import strategies as st
from toy_engine import FALLS, LOSES

from fractal_lba_server.drill.kinds import FAULT_KINDS
from fractal_lba_server.drill.scenario import ScenarioError, load_scenario
from fractal_lba_sim.explore.assumptions import BEYOND, WITHIN, kinds_of
from fractal_lba_sim.explore.schedule import Schedule
from fractal_lba_sim.explore.search import (
    MACHINE,
    Player,
    Tally,
    first_failure,
    replay,
    smallest,
)
from fractal_lba_sim.explore.shrink import Shrinker
from fractal_lba_sim.explore.swarm import CUT_OFF, KINDS, KindError, Swarm
from fractal_lba_sim.explore.timeline import keys_in, timeline
from fractal_lba_sim.explore.token import Run, TokenError, is_token, parse_token, token_of
from fractal_lba_sim.explore.written import scenario_text

BASE: dict[str, Any] = {
    "version": 1,
    "name": "toy",
    "title": "Two regions",
    "topology": {
        "regions": [{"code": "euw"}, {"code": "use"}],
        "placements": {"open": {"regions": ["euw", "use"], "topology": "active-active"}},
        "shards": {"count": 3},
    },
    "load": {"duration_s": 30, "rate_per_s": 20, "arrivals": "poisson", "repeat_share": 0.1},
    "promises": {"no_loss_at_level": "durable"},
}
PLANTED = Player(engine=toy_engine.Engine(), plants=(LOSES,))
CLEAN = Player(engine=toy_engine.Engine())
SWARM = Swarm(kinds=("partition", "process-kill", "delay", "disk-slow", "promote", "drain"))


def base(**load: Any) -> Schedule:
    document = {**BASE, "load": {**BASE["load"], **load}}
    return Schedule.of(document).expect_valid()


def found(player: Player = PLANTED) -> Any:
    played = first_failure(player, base(), SWARM, range(200))
    assert played is not None
    return played


# --- the swarm


def test_every_kind_of_the_schema_can_be_drawn() -> None:
    steps = {"promote", "drain", "undrain", "fence", "failback", "migrate"}
    assert set(KINDS) - steps - {CUT_OFF} == set(FAULT_KINDS)
    assert set(WITHIN).isdisjoint(BEYOND)


@given(st.integers(0, 10_000))
def test_every_schedule_is_a_scenario_that_heals_before_its_load_ends(seed: int) -> None:
    schedule = Swarm(kinds=KINDS).draw(base(), seed)
    assert schedule.faults() == []
    assert schedule.events
    for event in schedule.events:
        assert event.at_s + (event.for_s or 0) <= 30


def test_a_seed_gives_one_schedule_and_another_gives_another() -> None:
    keys = [SWARM.draw(base(), seed).key for seed in range(50)]
    assert keys == [SWARM.draw(base(), seed).key for seed in range(50)]
    assert len(set(keys)) > 45


def test_runs_know_different_kinds() -> None:
    known = [
        frozenset(event.kind for event in Swarm(kinds=KINDS).draw(base(), seed).events)
        for seed in range(500)
    ]
    assert len(set(known)) > 50
    assert frozenset().union(*known) == set(KINDS) - {CUT_OFF}


def test_kinds_without_a_place_are_left_out_and_unknown_ones_are_refused() -> None:
    alone = {**BASE["topology"], "regions": [{"code": "euw"}]}
    alone = {name: value for name, value in alone.items() if name != "shards"}
    kinds = kinds_of({**BASE, "topology": alone}, KINDS)
    assert not {"migrate", "shard-down", "failback"} & set(kinds)
    with pytest.raises(KindError, match="no kind is called"):
        Swarm(kinds=("earthquake",))


# --- the search


def test_a_planted_bug_is_found_and_the_clean_engine_raises_no_alarm() -> None:
    assert "no_loss_at_level" in found().failed
    tally = Tally()
    assert first_failure(CLEAN, base(), SWARM, range(60), tally=tally) is None
    assert (tally.runs, tally.refused) == (60, 0)
    assert tally.faults["partition"] > 10
    assert tally.simulated_s > 60 * 29


def test_a_schedule_that_cannot_be_played_is_counted_and_is_no_failure() -> None:
    tally = Tally()
    swarm = Swarm(kinds=("bit-flip",))
    assert first_failure(CLEAN, base(), swarm, range(5), tally=tally) is None
    assert (tally.runs, tally.refused) == (0, 5)


def test_a_fault_that_met_nothing_is_counted_and_is_no_failure() -> None:
    tally = Tally()
    assert first_failure(CLEAN, base(), Swarm(kinds=("reset",)), range(5), tally=tally) is None
    assert tally.idle == 5


def test_a_machine_that_falls_over_is_a_failure_of_its_own_name() -> None:
    player = Player(engine=toy_engine.Engine(), plants=(FALLS,))
    played = first_failure(player, base(), SWARM, range(100))
    assert played is not None
    assert "AssertionError" in played.failed[MACHINE]
    failure = smallest(player, played)
    assert [event.kind for event in failure.smallest.schedule.events] == ["drain"]


# --- shrinking


def test_a_failing_schedule_becomes_the_two_faults_and_the_record_that_matter() -> None:
    failure = smallest(PLANTED, found())
    run = failure.smallest
    assert sorted(event.kind for event in run.schedule.events) == ["partition", "process-kill"]
    assert failure.name == "no_loss_at_level"
    assert run.schedule.size <= 5
    assert [region["code"] for region in run.schedule.document["topology"]["regions"]] == [
        "euw", "use",
    ]  # fmt: skip
    assert "repeat_share" not in run.schedule.document["load"]


def test_shrinking_is_deterministic_and_bounded() -> None:
    played = found()
    first, second = smallest(PLANTED, played), smallest(PLANTED, played)
    assert first.smallest.schedule.key == second.smallest.schedule.key
    assert first.shrink_runs == second.shrink_runs
    short = smallest(PLANTED, played, runs_max=3)
    assert short.shrink_runs <= 3
    assert short.name in short.smallest.failed
    stopped = smallest(PLANTED, played, out_of_time=lambda: True)
    assert stopped.smallest.schedule.key == played.schedule.key


def test_a_reduction_that_is_no_scenario_is_not_played() -> None:
    def fails(schedule: Schedule) -> bool:
        assert schedule.faults() == []
        return True

    drawn = Swarm(kinds=KINDS).draw(base(), 3)
    shrunk = Shrinker(fails).shrink(drawn)
    assert shrunk.events == []
    assert len(shrunk.document["topology"]["regions"]) == 1


@settings(max_examples=30, deadline=None)
@given(
    st.integers(0, 300),
    st.sets(st.sampled_from([kind for kind in KINDS if kind != CUT_OFF]), min_size=1, max_size=2),
)
def test_what_comes_out_has_no_event_that_could_go(seed: int, wanted: set[str]) -> None:
    def fails(schedule: Schedule) -> bool:
        return wanted <= {event.kind for event in schedule.events}

    drawn = Swarm(kinds=KINDS).draw(base(), seed)
    if not fails(drawn):
        return
    shrunk = Shrinker(fails).shrink(drawn)
    assert sorted(event.kind for event in shrunk.events) == sorted(wanted)


# --- tokens


def run_of(seed: int = 7) -> Run:
    return Run(scenario=base().document, seed=seed, plants=(LOSES,), trace="0123456789abcdef")


def test_a_token_gives_back_what_it_was_made_of() -> None:
    token = token_of(run_of())
    assert is_token(token)
    assert parse_token(token) == run_of()
    assert parse_token(f" {token}\n") == run_of()
    assert len(token) < 600


@given(st.data())
def test_a_damaged_token_is_refused(data: st.DataObject) -> None:
    token = token_of(run_of())
    at = data.draw(st.integers(5, len(token) - 1))
    letter = data.draw(st.sampled_from("ABCxyz019-_"))
    damaged = token[:at] + letter + token[at + 1 :]
    if damaged != token:
        with pytest.raises(TokenError, match="damaged"):
            parse_token(damaged)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("flk9-AAAA", "a token of version 9; this flk-sim reads version 1"),
        ("flk1-AAAA", "check bytes do not fit"),
        ("hello", "not a token"),
        ("flk1-" + "A" * 40_000, "not a token"),
        ("flk1-A", "not base64url"),
    ],
)
def test_a_foreign_or_broken_token_is_refused_by_name(text: str, said: str) -> None:
    with pytest.raises(TokenError, match=said):
        parse_token(text)


def test_a_token_replays_to_the_same_trace() -> None:
    failure = smallest(PLANTED, found())
    played, said = replay(PLANTED, parse_token(failure.token))
    assert played.digest == failure.smallest.digest
    assert said.endswith("the same as the token's")
    other, said = replay(CLEAN, parse_token(failure.token))
    assert other.failed == {}
    del said


# --- timelines and files


def test_a_timeline_shows_what_the_verdict_names_and_counts_the_rest() -> None:
    played = found()
    keys = keys_in(played.failed["no_loss_at_level"], played.events)
    assert len(keys) == 1
    lines = timeline(played.events, keys=keys)
    text = "\n".join(lines)
    assert "partition injected" in text
    assert f"..{keys[0][-6:]}" in text
    assert "put new" in text
    assert len(lines) < len(played.events)
    assert [float(line[:9]) for line in lines] == sorted(float(line[:9]) for line in lines)


def test_a_scenario_that_is_written_is_read_back_as_the_same(tmp_path: Path) -> None:
    drawn = Swarm(kinds=KINDS).draw(base(), 11)
    path = tmp_path / "found.yaml"
    path.write_text(scenario_text(drawn.document, comments=("seed 11",)))
    assert Schedule.of(load_scenario(str(path)).document).key == drawn.key
    assert path.read_text().startswith("# seed 11\nversion: 1\n")


def test_a_schedule_without_a_promise_is_refused() -> None:
    with pytest.raises(ScenarioError, match="/promises"):
        Schedule({**json.loads(json.dumps(BASE)), "promises": 3}).expect_valid()
