"""Lag is never guessed too small, and writes slow down before they are refused."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.core import governor as module
from fractal_lba_server.core.governor import RPO_MS_MIN, Governor, Lag, LagClock, Pace

MS = 1_000_000


def test_writes_pass_below_the_soft_bound_and_slow_down_above_it() -> None:
    governor = Governor(1_000)
    waits = [governor.decide(lag, lag * MS) for lag in (0, 749, 750, 800, 999)]
    assert waits[:2] == [Pace(0, False)] * 2
    assert [pace.wait_ms for pace in waits[2:]] == [1, 151, 748]
    assert not governor.refusing


def test_writes_are_refused_at_the_bound_until_the_lag_is_small_again() -> None:
    governor = Governor(RPO_MS_MIN)
    assert governor.decide(250, 0).refuse
    assert governor.decide(100, 50 * MS).refuse  # too early: it would flicker
    assert governor.decide(200, 200 * MS).refuse  # hysteresis: still above the soft bound
    assert governor.refusing
    assert governor.decide(186, 201 * MS) == Pace(0, False)
    assert governor.decide(10_000, 300 * MS) == Pace(9_813, True)
    assert governor.decide(10_001, 301 * MS).refuse


def test_bound_below_the_least_is_refused() -> None:
    with pytest.raises(ValueError, match="at least 250"):
        Governor(249)


def test_f038_bound_holds_for_every_record_that_is_taken() -> None:
    # The literal design watches the lag and only raises an alarm: the link dies, writes go on,
    # and what a lost region costs grows without end.
    class AlarmOnly(Governor):
        def decide(self, lag_ms: int, now_ns: int) -> Pace:
            return Pace(0, refuse=False)

    def exposure_ms(kind: type[Governor]) -> int:
        """Cut the link at 0, write each 10 ms; give the age span of what would be lost."""
        governor, taken = kind(500), []
        for now_ms in range(0, 5_000, 10):
            lag_ms = now_ms - taken[0] if taken else 0
            if not governor.decide(lag_ms, now_ms * MS).refuse:
                taken.append(now_ms)
        return taken[-1] - taken[0]

    assert exposure_ms(Governor) <= 500
    assert exposure_ms(AlarmOnly) > 500


def test_lag_is_the_age_of_the_oldest_frame_that_is_missing() -> None:
    clock = LagClock()
    assert clock.lag(9 * MS) == Lag(0, 0, 0)
    clock.grew(3, 300, 10 * MS)
    clock.grew(5, 500, 20 * MS)
    assert clock.lag(30 * MS) == Lag(20, 5, 500)
    clock.held(3)
    assert clock.lag(30 * MS) == Lag(10, 2, 200)
    clock.held(2)
    assert clock.lag(30 * MS) == Lag(10, 2, 200)
    clock.held(4)
    assert clock.lag(30 * MS) == Lag(10, 1, 200)
    clock.held(5)
    assert clock.lag(30 * MS) == Lag(0, 0, 0)
    clock.grew(5, 580, 40 * MS)  # a footer is no frame
    assert clock.lag(50 * MS) == Lag(0, 0, 0)
    assert clock.lag(0) == Lag(0, 0, 0)


def test_clock_that_steps_back_gives_no_negative_age() -> None:
    clock = LagClock()
    clock.grew(1, 100, 10 * MS)
    assert clock.lag(5 * MS).age_ms == 0


@given(
    st.lists(st.tuples(st.integers(1, 5), st.integers(0, 30), st.booleans()), max_size=60),
    st.integers(2, 7),
)
def test_joined_points_never_make_a_lag_younger(
    steps: list[tuple[int, int, bool]], points_max: int
) -> None:
    kept = module.MARKS_MAX
    module.MARKS_MAX = points_max  # type: ignore[misc]  # small, so that few steps reach it
    try:
        clock, times, seq, held, now_ms = LagClock(), {}, 0, 0, 0
        for frames, pause_ms, acknowledge in steps:
            now_ms += pause_ms
            for _ in range(frames):
                seq += 1
                times[seq] = now_ms
            clock.grew(seq, seq * 10, now_ms * MS)
            if acknowledge:
                held = (held + seq) // 2
                clock.held(held)
            exact_ms = now_ms - times[held + 1] if held < seq else 0
            lag = clock.lag(now_ms * MS)
            assert lag.age_ms >= exact_ms
            assert lag.records == seq - held
            assert (lag.age_ms > 0) <= (held < seq)
            assert len(clock._points) <= points_max
    finally:
        module.MARKS_MAX = kept  # type: ignore[misc]  # as it was
