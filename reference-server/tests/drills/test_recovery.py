"""Bounds, percentiles and the phases of an outage."""

from __future__ import annotations

import random

import pytest

from fractal_lba_server.judge.recovery import (
    PHASES,
    Call,
    percentile,
    percentile_needs,
    phase_lengths,
    recovered_at,
    zero_bound,
)

S = 10**9


@pytest.mark.parametrize(
    ("trials", "bound"), [(0, 1.0), (1, 0.95), (100, 0.02951), (5_000, 0.000599)]
)
def test_a_zero_is_a_bound(trials: int, bound: float) -> None:
    assert zero_bound(trials) == pytest.approx(bound, rel=1e-3)


def test_a_percentile_is_the_nearest_rank() -> None:
    values = list(range(1, 101))
    random.Random(1).shuffle(values)
    assert [percentile(values, share) for share in (0.01, 0.5, 0.95, 0.99, 1)] == [
        1, 50, 95, 99, 100,
    ]  # fmt: skip
    assert percentile([7.0], 0.95) == 7.0
    assert (percentile_needs(0.95), percentile_needs(0.99)) == (20, 100)


def calls(*spans: tuple[float, float, bool]) -> list[Call]:
    """Make a call each 100 ms: (from s, to s, good)."""
    return [
        Call(due * S // 10, due * S // 10 + S // 100, good)
        for begin, end, good in spans
        for due in range(int(begin * 10), int(end * 10))
    ]


def after(made: list[Call], steady_s: float = 5) -> float | None:
    end = made[-1].due_ns
    at = recovered_at(made, disrupted_ns=10 * S, steady_ns=int(steady_s * S), end_ns=end)
    return None if at is None else (at - 10 * S) / S


def test_recovery_is_when_calls_succeed_again_and_go_on() -> None:
    assert after(calls((0, 10, True), (10, 13, False), (13, 30, True))) == pytest.approx(3.01)
    flapping = calls((0, 10, True), (10, 12, False), (12, 14, True), (14, 16, False))
    assert after([*flapping, *calls((16, 30, True))]) == pytest.approx(6.01)
    assert after(calls((0, 30, True))) == 0


def test_a_second_without_a_good_call_is_a_break_whatever_the_share() -> None:
    made = calls((0, 10, True), (10, 11, False))
    crowd = [Call(11 * S + n, 11 * S + n, good=True) for n in range(5_000)]
    hole = calls((12, 13, False), (13, 30, True))
    assert after([*made, *crowd, *hole]) == pytest.approx(3.01)


def test_recovery_that_the_trace_cannot_show_is_unknown() -> None:
    assert after(calls((0, 10, True), (10, 13, False), (13, 16, True))) is None
    assert after(calls((0, 10, True), (10, 30, False))) is None


@pytest.mark.parametrize("seed", range(3))
def test_phases_add_up_to_the_recovery(seed: int) -> None:
    chance = random.Random(seed)
    for _ in range(500):
        ends = {phase: chance.randint(0, 150) for phase in PHASES if chance.random() < 0.6}
        lengths = phase_lengths(ends, disrupted_ns=10, recovered_ns=100)
        assert sum(lengths.values()) == 90
        assert min(lengths.values()) >= 0
        assert tuple(lengths) == PHASES


@pytest.mark.parametrize(
    ("ends", "expected"),
    [
        ({}, {"reroute": 90}),
        ({"detect": 40}, {"detect": 30, "reroute": 60}),
        ({"detect": 40, "promote": 60, "reroute": 100}, {"detect": 30, "promote": 20, "reroute": 40}),
        ({"reroute": 60}, {"reroute": 50, "verify": 40}),
        ({"detect": 40, "fail_back": 900}, {"detect": 30, "fail_back": 60}),
        ({"decide": 5, "fence": 30}, {"fence": 20, "reroute": 70}),
    ],
)  # fmt: skip
def test_unmarked_time_belongs_to_the_phase_in_progress(
    ends: dict[str, int], expected: dict[str, int]
) -> None:
    lengths = phase_lengths(ends, disrupted_ns=10, recovered_ns=100)
    assert {phase: length for phase, length in lengths.items() if length} == expected
