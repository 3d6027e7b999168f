"""When an outbox entry is due again, and what an answer means for it."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba.outbox import Entry, Letter
from fractal_lba.schedule import (
    MAX_DEAD_RESPONSE_BYTES,
    RETRY_CAP_MS,
    Bury,
    Later,
    Pause,
    Schedule,
    judge,
)

LETTER = Letter("", "a" * 64, "b" * 64, "k1", "acme", 0, b"{}")


def entry(number: int, *, kid: str | None = "k1", tenant: str | None = "acme") -> Entry:
    letter = replace(LETTER, id=f"{number:016x}", kid=kid, tenant=tenant)
    return Entry.at(letter, "file", 0, 100)


def scheduled(*numbers: int, width_max: int = 16) -> Schedule:
    schedule = Schedule(width_max=width_max)
    for number in numbers:
        schedule.add(entry(number))
    return schedule


def take(
    schedule: Schedule, now_ms: int = 0, limit: int = 1000, bytes_max: int = 10**9
) -> list[int]:
    ids = schedule.take(now_ms, limit=limit, bytes_max=bytes_max)
    return [int(id, 16) for id in ids]


def name(number: int) -> str:
    return f"{number:016x}"


@pytest.mark.parametrize(
    ("status", "expected"),
    [
        (400, Bury(400, "c", "r", "body")), (409, Bury(409, "c", "r", "body")),
        (413, Bury(413, "c", "r", "body")), (422, Bury(422, "c", "r", "body")),
        (401, Pause("kid", "c")), (403, Pause("tenant", "c")),
        (429, Later(70, endpoint_down=False)), (503, Later(70)), (None, Later(70)),
        (404, Later(70)), (405, Later(70)), (415, Later(70)), (421, Later(70)), (500, Later(70)),
    ],
)  # fmt: skip
def test_an_answer_buries_pauses_or_postpones(status: int | None, expected: object) -> None:
    assert judge(status, "c", "r", b"body", retry_after_ms=70, cancelled=False) == expected


def test_a_cancel_says_nothing_about_the_endpoint() -> None:
    verdict = judge(None, "cancelled", "", b"", retry_after_ms=None, cancelled=True)
    assert verdict == Later(0, endpoint_down=False)


def test_a_dead_letter_keeps_the_head_of_a_long_answer() -> None:
    verdict = judge(409, "c", "r", b"\xff" * 10**6, retry_after_ms=None, cancelled=False)
    assert isinstance(verdict, Bury)
    assert len(verdict.response) == MAX_DEAD_RESPONSE_BYTES


def test_entries_go_in_order_and_once() -> None:
    schedule = scheduled(3, 1, 2)
    assert take(schedule, limit=2) == [1, 2]
    assert take(schedule) == [3]
    assert take(schedule) == []
    assert schedule.in_flight == 3
    assert schedule.next_due_ms() is None


def test_bytes_are_bounded_but_one_entry_always_goes() -> None:
    schedule = scheduled(1, 2, 3)
    assert take(schedule, bytes_max=200) == [1, 2]
    assert take(schedule, bytes_max=1) == [3]


def test_an_entry_that_its_own_call_sends_is_not_taken() -> None:
    schedule = Schedule(width_max=16)
    schedule.add(entry(1), in_flight=True)
    assert take(schedule) == []
    schedule.postpone(name(1), Later(), 1000, 0.0)
    assert take(schedule, 1000) == [1]


@given(st.integers(0, 40), st.floats(0, 1, exclude_max=True))
def test_the_wait_doubles_to_its_cap(tries: int, u: float) -> None:
    schedule = scheduled(1)
    for _ in range(tries):
        take(schedule, 10**12)
        schedule.postpone(name(1), Later(), 0, 0.0)
    take(schedule, 10**12)
    schedule.postpone(name(1), Later(), 5_000, u)
    bound = min(1_000 * 2**tries, RETRY_CAP_MS)
    assert schedule.next_due_ms() == 5_000 + int(u * bound)


def test_what_the_server_asked_for_is_a_floor() -> None:
    schedule = scheduled(1)
    take(schedule)
    schedule.postpone(name(1), Later(120_000), 1_000, 0.5)
    assert schedule.next_due_ms() == 1_000 + 120_000 + 500
    schedule.hurry()
    assert schedule.next_due_ms() == 121_000
    assert take(schedule, 120_999) == []
    assert take(schedule, 121_000) == [1]


def test_hurry_leaves_alone_what_is_in_flight_or_parked() -> None:
    schedule = scheduled(1, 2, 3)
    take(schedule, limit=2)
    schedule.pause(name(2), "kid")
    schedule.hurry()
    assert take(schedule) == []  # the third is of the paused kid as well
    schedule.resume()
    assert take(schedule) == [2, 3]


def test_after_a_failure_one_probes_and_each_success_doubles_the_width() -> None:
    schedule = scheduled(*range(1, 100), width_max=8)
    assert take(schedule, limit=1) == [1]
    schedule.postpone(name(1), Later(), 10**9, 0.5)
    taken = []
    for _ in range(6):
        batch = take(schedule, 0)
        taken.append(len(batch))
        for number in batch:
            schedule.drop(name(number))
        schedule.delivered()
    assert taken == [1, 2, 4, 98 - 7, 0, 0]


def test_a_429_narrows_nothing() -> None:
    schedule = scheduled(*range(1, 50))
    take(schedule, limit=1)
    schedule.postpone(name(1), Later(endpoint_down=False), 10**9, 0.5)
    assert len(take(schedule)) == 48


@pytest.mark.parametrize(("what", "left"), [("kid", [2, 4]), ("tenant", [3, 4])])
def test_a_refused_credential_pauses_its_own_entries_alone(what: str, left: list[int]) -> None:
    schedule = Schedule(width_max=16)
    for number, kid, tenant in ((1, "k1", "t1"), (2, "k2", "t1"), (3, "k1", "t2"), (4, None, None)):
        schedule.add(entry(number, kid=kid, tenant=tenant))
    assert take(schedule, limit=1) == [1]
    group = schedule.pause(name(1), what)
    assert group == (what, "k1" if what == "kid" else "t1")
    assert take(schedule) == left
    assert schedule.blocked == (group,)
    schedule.resume([group])
    assert schedule.blocked == ()
    assert take(schedule) == sorted({1, 2, 3} - set(left))


def test_an_accepted_entry_ends_the_pauses_of_its_kid_and_tenant() -> None:
    schedule = scheduled(1, 2)
    take(schedule)
    schedule.pause(name(1), "kid")
    schedule.resume_for(entry(2))
    assert take(schedule) == [1]


def test_a_dropped_entry_leaves_no_trace() -> None:
    schedule = scheduled(1, 2)
    take(schedule, limit=1)
    schedule.pause(name(1), "kid")
    schedule.drop(name(1))
    schedule.drop(name(1))
    schedule.drop(name(2))
    schedule.resume()
    assert take(schedule, 10**12) == []
    assert schedule.next_due_ms() is None


def test_a_moved_entry_is_the_same_entry() -> None:
    schedule = scheduled(1)
    schedule.move(replace(entry(1), length=10**6))
    schedule.move(entry(9))
    assert take(schedule) == [1]


def test_what_moved_or_is_parked_is_not_due() -> None:
    schedule = scheduled(1, 2)
    assert take(schedule, limit=1) == [1]
    schedule.pause(name(1), "tenant")
    assert schedule.next_due_ms() == 0  # the second waits; taking it shows that it is paused
    assert take(schedule) == []
    assert schedule.next_due_ms() is None
    schedule.resume()
    schedule.hurry()
    assert take(schedule, limit=1) == [1]
    schedule.postpone(name(1), Later(50), 0, 0.0)
    schedule.drop(name(2))
    assert schedule.next_due_ms() == 50
