"""When a region counts as down, and how it gets its traffic back (spec/roles.md 6 and 7)."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.core.faults import DocumentError
from fractal_lba_server.core.health import (
    VOTE_AGE_MS,
    Probe,
    ProbeRule,
    Quorum,
    detection,
    serving,
    successor,
)
from fractal_lba_server.core.ramp import DONE, IDLE, RAMPING, RESTING, STEPS, Ramp, RampRule

MS = 1_000_000


def test_k_failures_in_a_row_make_a_region_down() -> None:
    probe = Probe(ProbeRule(failures=3))
    said = [probe.heard(ok, at * MS) for at, ok in enumerate([False, False, True, False, False])]
    assert not any(said)
    assert probe.heard(False, 6 * MS)
    assert not probe.up


def test_m_successes_after_the_hold_down_make_it_up() -> None:
    probe = Probe(ProbeRule(failures=1, successes=2, hold_down_ms=100))
    assert probe.heard(False, 0)
    assert not any(probe.heard(True, at * MS) for at in range(1, 100, 10))
    assert not probe.heard(True, 100 * MS)
    assert not probe.heard(False, 110 * MS)
    assert not probe.heard(True, 120 * MS)
    assert probe.heard(True, 130 * MS)
    assert probe.up


@pytest.mark.parametrize(
    "wrong", [{"failures": 0}, {"interval_ms": 0}, {"hold_down_ms": -1}, {"timeout_ms": 2_000}]
)
def test_a_rule_that_cannot_be_kept_is_refused(wrong: dict[str, int]) -> None:
    with pytest.raises(DocumentError):
        ProbeRule(**wrong)


def detect_ms(rule: ProbeRule, phase_ms: float) -> float:
    """Let a region die `phase_ms` before the next probe; say when the checker knows."""
    probe, at_ms = Probe(rule), phase_ms
    while True:
        end_ms = at_ms + rule.timeout_ms
        if probe.heard(False, int(end_ms * MS)):
            return end_ms
        at_ms += rule.interval_ms


@given(st.integers(1, 5), st.integers(1, 1_000), st.floats(0.001, 1))
def test_detection_lies_within_the_closed_form(k: int, timeout_ms: int, phase: float) -> None:
    rule = ProbeRule(interval_ms=1_000, timeout_ms=timeout_ms, failures=k)
    bounds = detection(rule)
    assert bounds == ((k - 1) * 1_000 + timeout_ms, k * 1_000 + timeout_ms)
    assert bounds.above_ms < detect_ms(rule, phase * 1_000) <= bounds.to_ms + 1e-6


def test_detection_is_uniform_between_its_bounds() -> None:
    rng, rule, count = random.Random(1), ProbeRule(), 4_000
    bounds = detection(rule)
    width = bounds.to_ms - bounds.above_ms
    found = sorted(
        (detect_ms(rule, (1 - rng.random()) * rule.interval_ms) - bounds.above_ms) / width
        for _ in range(count)
    )
    distance = max(abs(value - (rank + 0.5) / count) for rank, value in enumerate(found))
    assert distance + 0.5 / count < 1.63 / count**0.5  # Kolmogorov-Smirnov at 1 %


# --- the quorum


def test_a_minority_decides_nothing() -> None:
    quorum = Quorum(["ck1", "ck2", "ck3"], 2)
    assert quorum.vote("ck1", {"eu1": False}, 0)
    assert quorum.verdict("eu1", 0) is None
    assert quorum.vote("ck2", {"eu1": True}, 0)
    assert quorum.verdict("eu1", 0) is None
    assert quorum.vote("ck3", {"eu1": False}, 0)
    assert quorum.verdict("eu1", 0) is False
    assert quorum.vote("ck1", {"eu1": True}, 0)
    assert quorum.verdict("eu1", 0) is True
    assert quorum.verdict("us1", 0) is None


def test_an_old_vote_says_nothing() -> None:
    quorum = Quorum(["ck1", "ck2", "ck3"], 2)
    quorum.vote("ck1", {"eu1": False}, 0)
    quorum.vote("ck2", {"eu1": False}, VOTE_AGE_MS * MS)
    assert quorum.verdict("eu1", VOTE_AGE_MS * MS) is None
    assert not quorum.vote("ck9", {"eu1": False}, 0)


@pytest.mark.parametrize(("names", "needed"), [(["a", "b"], 1), (["a", "b"], 3), (["a", "a"], 2)])
def test_a_quorum_is_more_than_half_of_different_checkers(names: list[str], needed: int) -> None:
    with pytest.raises(DocumentError):
        Quorum(names, needed)


Verdicts = dict[str, bool | None]


@pytest.mark.parametrize(
    ("verdicts", "expected"),
    [
        ({"eu1": False, "us1": True, "ap1": True}, "us1"),
        ({"eu1": False, "us1": None, "ap1": True}, "ap1"),
        ({"eu1": False, "us1": False, "ap1": None}, None),
        ({"eu1": None, "us1": True, "ap1": True}, None),
        ({"eu1": True, "us1": True, "ap1": True}, None),
        ({}, None),
    ],
)
def test_the_first_region_that_is_up_follows_one_that_is_down(
    verdicts: Verdicts, expected: str | None
) -> None:
    ready = {"eu1": verdicts.get("eu1"), "us1": False, "ap1": False}
    lives = {**verdicts, "eu1": True}
    assert successor(["eu1", "us1", "ap1"], "eu1", ready.get, lives.get) == expected


# --- H39: a partition looks like a failure


def promotes_by_one_probe(regions: list[str], leader: str, verdicts: list[Verdicts]) -> str | None:
    """Promote as soon as any checker does not reach the leader."""
    if any(one.get(leader) is False for one in verdicts):
        return next(code for code in regions if code != leader)
    return None


def promotes_by_quorum(regions: list[str], leader: str, verdicts: list[Verdicts]) -> str | None:
    quorum = Quorum(["ck1", "ck2", "ck3"], 2)
    for name, one in zip(["ck1", "ck2", "ck3"], verdicts, strict=True):
        quorum.vote(name, {code: bool(up) for code, up in one.items()}, 0)
    return successor(
        regions, leader, lambda code: quorum.verdict(code, 0), lambda code: code != "eu1"
    )


def judge_h39(choose: Callable[[list[str], str, list[Verdicts]], str | None]) -> list[str]:
    """Cut one checker, or two, off a leader that lives; name each promotion by a minority."""
    found = []
    for blind in itertools.product([True, False], repeat=3):
        verdicts: list[Verdicts] = [{"eu1": sees, "us1": True} for sees in blind]
        if choose(["eu1", "us1"], "eu1", verdicts) and sum(blind) >= 2:
            found.append(f"promoted though {sum(blind)} of 3 checkers see the leader")
    return found


def test_h39_a_minority_that_cannot_see_the_writer_promotes_nobody() -> None:
    # That a majority which errs makes no second writer is what the lease is for: test_roles.py.
    assert judge_h39(promotes_by_quorum) == []
    assert judge_h39(promotes_by_one_probe) != []


# --- H52: a deep health check takes every region out


def judge_h52(route: Callable[[dict[str, bool], bool], list[str]]) -> list[str]:
    """Break a part that all regions share; every region can still answer what needs it not."""
    own = {"eu1": True, "us1": True}
    return [] if route(own, False) else ["no region gets traffic although both can work"]


def literal_deep_health(own: dict[str, bool], shared_shard_up: bool) -> list[str]:
    """`/health` asks the shared shard, and who is not healthy gets nothing."""
    return [code for code, up in own.items() if up and shared_shard_up]


def shallow_and_static(own: dict[str, bool], shared_shard_up: bool) -> list[str]:
    up = [code for code, is_up in own.items() if is_up]
    return serving(list(own), up, list(own))


def test_h52_a_shared_part_that_fails_leaves_the_regions_in_service() -> None:
    assert judge_h52(shallow_and_static) == []
    assert judge_h52(literal_deep_health) != []


def test_where_all_are_down_traffic_stays_where_it_was() -> None:
    assert serving(["eu1", "us1"], ["us1"], ["eu1", "us1"]) == ["us1"]
    assert serving(["eu1", "us1"], [], ["us1"]) == ["us1"]
    assert serving(["eu1", "us1"], [], []) == ["eu1", "us1"]


# --- the ramp


def test_a_ramp_takes_each_step_only_after_its_hold() -> None:
    ramp = Ramp(RampRule(hold_ms=10))
    assert ramp.percent == 0
    assert ramp.begin(0, caught_up=True)
    assert ramp.begin(0, caught_up=True)
    seen = []
    for at_ms in range(0, 40, 5):
        ramp.observe(True, at_ms * MS)
        seen.append(ramp.percent)
    assert seen == [10, 10, 50, 50, 100, 100, 100, 100]
    assert ramp.state == DONE
    assert tuple(sorted(set(seen))) == STEPS
    assert not ramp.observe(True, 99 * MS)
    assert ramp.percent == 100


def test_a_ramp_begins_only_after_catch_up() -> None:
    ramp = Ramp(RampRule())
    assert not ramp.begin(0, caught_up=False)
    assert ramp.state == IDLE
    assert not ramp.observe(True, 0)


def test_a_fall_rests_longer_each_time_and_an_operator_may_begin_at_once() -> None:
    ramp = Ramp(RampRule(hold_ms=10, rest_ms=100, rest_ms_max=150))
    ramp.begin(0, caught_up=True)
    assert ramp.observe(False, 0)
    assert (ramp.state, ramp.percent) == (RESTING, 0)
    assert not ramp.begin(99 * MS, caught_up=True)
    assert ramp.begin(100 * MS, caught_up=True)
    ramp.observe(False, 100 * MS)
    assert ramp.rest_ms == 150
    assert not ramp.begin(249 * MS, caught_up=True)
    ramp.abort(249 * MS)
    assert ramp.begin(249 * MS, caught_up=True)
    assert ramp.state == RAMPING


# --- H59: failback that swings


def literal_failback(healthy: list[bool]) -> list[int]:
    """All traffic back at the first good probe, all away at the first bad one."""
    return [100 if ok else 0 for ok in healthy]


def ours(healthy: list[bool]) -> list[int]:
    rule = ProbeRule()
    probe, ramp, percents = Probe(rule), Ramp(RampRule()), []
    for second, ok in enumerate(healthy):
        now_ns = second * 1_000 * MS
        probe.heard(ok, now_ns)
        ramp.observe(probe.up, now_ns)
        if probe.up:
            ramp.begin(now_ns, caught_up=True)
        percents.append(ramp.percent)
    return percents


def judge_h59(failback: Callable[[list[bool]], list[int]]) -> list[str]:
    """Let a region swing around the threshold for an hour; count how often its share moves."""
    rng = random.Random(59)
    pattern = [rng.random() < 0.55 for _ in range(3_600)]
    percents = failback(pattern)
    moves = sum(a != b for a, b in itertools.pairwise(percents))
    jumps = sum(b - a > 50 for a, b in itertools.pairwise(percents))
    faults = [f"{moves} moves in an hour"] if moves > 30 else []
    return faults + ([f"{jumps} jumps to all of the traffic"] if jumps else [])


def test_h59_a_region_at_the_edge_does_not_swing() -> None:
    assert judge_h59(ours) == []
    assert judge_h59(literal_failback) != []
    steady = ours([True] * 200)
    assert steady[-1] == 100
    assert steady == sorted(steady)
