"""Moves between warm and cold: ended anywhere, no payload is lost and none is there twice."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from tier_parts import (
    DAY_MS,
    START_MS,
    Killed,
    Place,
    Wrapped,
    failing,
    get_all,
    key_of,
    nothing,
    rows_of,
    run,
    started,
    stored_of,
)

from fractal_lba_server.core import mover
from fractal_lba_server.core.cold_segment import read_object
from fractal_lba_server.core.first_write import Apply
from fractal_lba_server.core.tiering import TierBook, TierPolicy
from fractal_lba_server.store.tiers.protocols import PlanExistsError
from fractal_lba_server.tier_mover import Report

COUNT = 20


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    made = Place(tmp_path)
    made.index.apply(rows_of(COUNT))
    made.clock.now_ms = START_MS + 8 * DAY_MS
    yield made
    made.close()


def assert_each_payload_is_there_once(place: Place, count: int = COUNT) -> None:
    """Judge: every id answers with its outcome, and cold holds what warm points to, once."""
    pointed: set[str] = set()
    for number in range(1, count + 1):
        row = run(place.warm.lookup(key_of(number)))
        assert row is not None, "an id is gone"
        expected = stored_of(key_of(number), number)
        if row.ref is None:
            assert row.stored == expected, "a payload is gone from warm"
            continue
        data = run(place.cold.read_range(row.ref.object, row.ref.offset, row.ref.length))
        assert data is not None, "a payload is gone from cold"
        pointed.add(row.ref.object)
        if row.warm_until_ms is None:
            assert row.stored.outcome == b"", "a payload is in warm and in cold"
    held = [entry for name in place.names() for entry in entries_of(place, name)]
    assert len(held) == len(set(held)), "a payload is in cold twice"
    assert set(place.names()) == pointed, "cold holds an object that nothing points to"
    answers = run(
        started(place.tiers(), lambda t: get_all(t, [key_of(n) for n in range(1, count + 1)]))
    )
    assert [a.stored for a in answers] == [stored_of(key_of(n), n) for n in range(1, count + 1)]


def entries_of(place: Place, name: str) -> list[Any]:
    """List whose payloads an object holds; it is read as a whole, checksums and all."""
    data = run(place.cold.read(name))
    assert data is not None
    return [entry.key for entry, _ in read_object(data)]


def killer(step: int) -> Callable[[str], None]:
    """End the process at the n-th call that it is asked about."""
    calls = itertools.count(1)

    def check(name: str) -> None:
        reads = {"scan", "rows", "tenants", "objects", "promoted", "plan", "cursor"}
        if name not in reads and next(calls) == step:
            raise Killed(name)

    return check


@pytest.mark.parametrize("when", ["before", "after"])
def test_mover_killed_at_any_step_of_a_demotion_goes_on(tmp_path: Path, when: str) -> None:
    killed: set[str] = set()
    for step in itertools.count(1):
        (tmp_path / f"{step}").mkdir()
        place = Place(tmp_path / f"{step}")
        killed_at = demoted_once(place, when, step)
        place.close()
        if killed_at is None:
            break
        killed.add(killed_at)
    assert {"keep_plan", "create", "read", "point", "set_cursor"} <= killed


def demoted_once(place: Place, when: str, step: int) -> str | None:
    """Kill one mover at one step, let the next one finish, and judge."""
    place.index.apply(rows_of(COUNT))
    place.clock.now_ms = START_MS + 8 * DAY_MS
    check = killer(step)
    before, after = (check, nothing) if when == "before" else (nothing, check)
    warm, cold = Wrapped(place.warm, before, after), Wrapped(place.cold, before, after)
    killed_at = None
    try:
        run(place.mover(warm=warm, cold=cold, entries_max=8).run())
    except Killed as at:
        killed_at = str(at)
    run(place.mover(entries_max=8).run())
    assert run(place.mover(entries_max=8).run()).payloads == 0, "nothing is left to be done"
    assert run(place.warm.size()).keys == 0
    assert_each_payload_is_there_once(place)
    return killed_at


class DeletesFirst(mover.Mover):
    """The literal order: what has moved is deleted, and then it is written."""

    def on_event(self, event: mover.Event) -> mover.Effect:
        if isinstance(event, mover.Begun):
            self.moving = event.plan
        match event:
            case mover.PlanKept():
                return mover.Point(self.moving)
            case mover.Pointed():
                return mover.Write(self.moving)
            case mover.Written():
                return mover.Finish("moved")
        return super().on_event(event)


class TrustsTheWrite(mover.Mover):
    """The literal trust: an object that was written is not read back."""

    def on_event(self, event: mover.Event) -> mover.Effect:
        effect = super().on_event(event)
        return mover.Point(effect.plan) if isinstance(effect, mover.ReadBack) else effect


def test_mover_that_deletes_first_fails_the_judge(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(mover, "Mover", DeletesFirst)
    verdicts = []
    for step in range(1, 8):
        (tmp_path / f"{step}").mkdir()
        place = Place(tmp_path / f"{step}")
        try:
            demoted_once(place, "before", step)
        except AssertionError as error:
            verdicts.append(str(error).partition("\n")[0])
        place.close()
    assert "a payload is gone from cold" in verdicts


def test_mover_that_trusts_a_write_fails_the_judge(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Cold:
        def __getattr__(self, name: str) -> Any:
            return getattr(place.cold, name)

        async def create(self, name: str, data: bytes) -> bool:
            return await place.cold.create(name, data[:-9])

    monkeypatch.setattr(mover, "Mover", TrustsTheWrite)
    run(place.mover(cold=Cold()).run())
    with pytest.raises(ValueError, match="footer"):
        assert_each_payload_is_there_once(place)


@pytest.mark.parametrize("when", ["before", "after"])
def test_mover_killed_at_any_step_of_a_merge_goes_on(tmp_path: Path, when: str) -> None:
    killed: set[str] = set()
    for step in itertools.count(1):
        (tmp_path / f"{step}").mkdir()
        place = Place(tmp_path / f"{step}")
        place.index.apply(rows_of(COUNT))
        place.clock.now_ms = START_MS + 8 * DAY_MS
        run(place.mover(entries_max=2, small_bytes=0).run())
        assert len(place.names()) == 10
        check = killer(step)
        before, after = (check, nothing) if when == "before" else (nothing, check)
        warm, cold = Wrapped(place.warm, before, after), Wrapped(place.cold, before, after)
        killed_at = None
        try:
            run(place.mover(warm=warm, cold=cold).run())
        except Killed as at:
            killed_at = str(at)
        run(place.mover().run())
        assert len(place.names()) == 1
        assert_each_payload_is_there_once(place)
        place.close()
        if killed_at is None:
            break
        killed.add(killed_at)
    assert {"keep_plan", "create", "read", "point", "remove", "drop_plan"} <= killed


@pytest.mark.parametrize("when", ["before", "after"])
def test_mover_killed_at_any_step_of_an_end_goes_on(tmp_path: Path, when: str) -> None:
    book = TierBook(TierPolicy(cold_ttl_s=30 * 86_400))
    for step in itertools.count(1):
        (tmp_path / f"{step}").mkdir()
        place = Place(tmp_path / f"{step}", book)
        place.index.apply(rows_of(COUNT))
        place.clock.now_ms = START_MS + 8 * DAY_MS
        run(place.mover().run())
        place.clock.now_ms = START_MS + 31 * DAY_MS
        check = killer(step)
        before, after = (check, nothing) if when == "before" else (nothing, check)
        warm, cold = Wrapped(place.warm, before, after), Wrapped(place.cold, before, after)
        killed_at = None
        try:
            run(place.mover(warm=warm, cold=cold).run())
        except Killed as at:
            killed_at = str(at)
        run(place.mover().run())
        assert place.names() == []
        assert run(place.warm.plan()) is None
        rows = [run(place.warm.lookup(key_of(n))) for n in range(1, COUNT + 1)]
        assert all(row is not None and row.has_ended for row in rows), "the ids stay taken"
        place.close()
        if killed_at is None:
            assert step > 3
            break


def test_object_store_that_took_the_object_and_lost_its_answer_gets_it_once(place: Place) -> None:
    first = place.mover(cold=Wrapped(place.cold, nothing, failing("create")))
    report = run(first.run())
    assert report.payloads == 0
    assert "create is down" in report.stopped
    assert len(place.names()) == 1, "it is there, and nobody was told"
    assert run(place.warm.size()).keys == COUNT, "warm lost nothing"
    run(place.mover().run())
    assert len(place.names()) == 1
    assert_each_payload_is_there_once(place)


@pytest.mark.parametrize("method", ["keep_plan", "create", "read", "point"])
def test_tier_that_fails_stops_the_pass_and_loses_nothing(place: Place, method: str) -> None:
    down = failing(method)
    failing_mover = place.mover(
        warm=Wrapped(place.warm, down, nothing), cold=Wrapped(place.cold, down, nothing)
    )
    assert "is down" in run(failing_mover.run()).stopped
    assert run(place.warm.size()).keys == COUNT
    assert run(place.mover().run()).stopped == ""
    assert_each_payload_is_there_once(place)


def test_object_that_came_back_different_goes_and_is_written_again(place: Place) -> None:
    class Cold:
        def __getattr__(self, name: str) -> Any:
            return getattr(place.cold, name)

        async def create(self, name: str, data: bytes) -> bool:
            return await place.cold.create(name, data[:-1] + b"x")

    report = run(place.mover(cold=Cold()).run())
    assert "different" in report.stopped
    assert place.names() == []
    assert run(place.warm.size()).keys == COUNT
    run(place.mover().run())
    assert_each_payload_is_there_once(place)


def test_object_that_cannot_be_read_back_moves_nothing(place: Place) -> None:
    class Cold:
        def __getattr__(self, name: str) -> Any:
            return getattr(place.cold, name)

        async def read(self, name: str) -> bytes | None:
            return None

    assert "not there" in run(place.mover(cold=Cold()).run()).stopped
    assert run(place.warm.size()).keys == COUNT


@pytest.mark.parametrize("change", ["erased", "replaced"])
@pytest.mark.parametrize("method", ["create", "point"])
def test_row_that_changed_under_a_plan_gives_the_plan_up(
    place: Place, method: str, change: str
) -> None:
    key, old = key_of(3), stored_of(key_of(3), 3)
    early = stored_of(key, 1, at_ms=START_MS - 9, content="e" * 64)
    early = early._replace(origin=early.origin._replace(region="us1"))

    def alter(name: str) -> None:
        if name == method:
            raise Killed(name)

    with pytest.raises(Killed):
        run(place.mover(warm=Wrapped(place.warm, alter, nothing),
                        cold=Wrapped(place.cold, alter, nothing)).run())  # fmt: skip
    if change == "erased":
        run(place.warm.erase([key]))
    else:
        place.index.apply([Apply(key, early, "kid", wins=True, replaced=old)])
    report = run(place.mover().run())
    assert report.given_up == 1
    assert run(place.warm.plan()) is None
    run(place.mover().run())
    row = run(place.warm.lookup(key))
    assert row is not None
    if change == "erased":
        assert row.has_ended
    else:
        assert row.stored.content == "e" * 64
    held = [k for name in place.names() for k in entries_of(place, name)]
    assert len(held) == len(set(held))
    assert (key in held) == (change == "replaced")


def test_second_mover_cannot_begin_while_a_plan_is_kept(place: Place) -> None:
    with pytest.raises(Killed):
        run(place.mover(warm=Wrapped(place.warm, nothing, killer(1))).run())
    found = run(place.warm.plan())
    assert found is not None
    with pytest.raises(PlanExistsError):
        run(place.warm.keep_plan(found[0]))
    run(place.mover().run())
    assert run(place.warm.point(found[0])) == "another's"


def test_object_that_warm_points_to_is_never_removed(place: Place) -> None:
    run(place.mover().run())
    (name,) = place.names()
    run(place.mover()._do(mover.Remove((name,)), None))
    assert place.names() == [name]
    assert_each_payload_is_there_once(place)


def test_plan_whose_object_would_be_another_now_is_given_up(place: Place) -> None:
    """An earlier mover kept the records beside the outcomes; this one does not."""

    def records(rows: Any) -> list[bytes]:
        return [b"record"] * len(rows)

    warm = Wrapped(place.warm, nothing, killer(1))
    with pytest.raises(Killed):
        run(place.mover(warm=warm, records=records).run())
    report = run(place.mover().run())
    assert (report.given_up, report.payloads, report.stopped) == (1, COUNT, "")
    assert_each_payload_is_there_once(place)


def test_rows_of_a_plan_that_was_given_up_are_looked_at_again(place: Place) -> None:
    class Warm:
        def __getattr__(self, name: str) -> Any:
            return getattr(place.warm, name)

        async def point(self, plan: mover.Plan) -> str:
            await place.warm.erase([key_of(3)])
            return await place.warm.point(plan)

    assert run(place.mover(warm=Warm()).run()).given_up == 1
    assert run(place.mover().run()).payloads == COUNT - 1
    assert run(place.warm.size()).keys == 0


def test_pass_goes_on_until_nothing_is_due(place: Place, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("fractal_lba_server.tier_mover.SCAN_ROWS", 4)
    assert run(place.mover(small_bytes=0).run())[:2] == (COUNT, 5)


def test_dry_run_says_what_a_pass_does_and_does_nothing(place: Place) -> None:
    said = run(place.mover(entries_max=8).run(dry_run=True))
    assert (said.payloads, said.objects) == (COUNT, 3)
    assert place.names() == []
    assert run(place.warm.size()).keys == COUNT
    assert run(place.mover(entries_max=8).run()) == said


def test_promoted_payload_leaves_warm_again_at_its_time(place: Place) -> None:
    run(place.mover().run())
    run(started(place.tiers(), lambda t: get_all(t, [key_of(1), key_of(2)])))
    assert run(place.warm.size()).keys == 2
    place.clock.now_ms += 7 * DAY_MS - 1
    assert run(place.mover().run()) == Report()
    place.clock.now_ms += 1
    assert run(place.mover().run(dry_run=True)).cooled == 2
    names = place.names()
    assert run(place.mover().run()).cooled == 2
    assert run(place.warm.size()).keys == 0
    assert place.names() == names, "cold had it all the time"
    assert_each_payload_is_there_once(place)


def test_promoted_payload_stays_in_warm_while_cold_cannot_show_its_own(place: Place) -> None:
    run(place.mover().run())
    run(started(place.tiers(), lambda t: get_all(t, [key_of(1)])))
    place.clock.now_ms += 7 * DAY_MS

    class Cold:
        async def read_range(self, *args: Any) -> bytes | None:
            return None

    assert "SHA-256" in run(place.mover(cold=Cold()).run()).stopped
    assert run(place.warm.size()).keys == 1


def test_tenant_that_keeps_payloads_longer_does_not_hold_up_the_others(tmp_path: Path) -> None:
    book = TierBook(TierPolicy(), {"slow": TierPolicy(warm_ttl_s=30 * 86_400)})
    place = Place(tmp_path, book)
    rows = [rows_of(1, first=n, tenant="slow" if n % 2 else "acme")[0] for n in range(1, 41)]
    place.index.apply(rows)
    place.clock.now_ms = START_MS + 8 * DAY_MS
    assert run(place.mover().run()).payloads == 20
    place.clock.now_ms = START_MS + 31 * DAY_MS
    assert run(place.mover().run()).payloads == 20
    assert {name.split("/")[1] for name in place.names()} == {"t-acme", "t-slow"}
    place.close()


def test_tenant_whose_time_became_shorter_is_looked_at_again(place: Place) -> None:
    place.book = TierBook(TierPolicy(warm_ttl_s=30 * 86_400))
    assert run(place.mover().run()).payloads == 0
    place.book = TierBook(TierPolicy(warm_ttl_s=86_400))
    assert run(place.mover().run()).payloads == COUNT


def test_objects_of_a_merge_whose_payloads_are_all_gone_go(place: Place) -> None:
    run(place.mover(entries_max=2, small_bytes=0).run())
    run(place.warm.erase([key_of(n) for n in range(1, COUNT + 1)]))
    run(place.mover().run())
    assert place.names() == []


def test_erased_payload_leaves_cold_at_the_next_pass(place: Place) -> None:
    """The hash of it stays in warm: that is the record which may not go (H31)."""
    run(place.mover().run())
    run(place.warm.erase([key_of(3)]))
    assert key_of(3) in [key for name in place.names() for key in entries_of(place, name)]
    assert run(place.mover().run(dry_run=True)).rewritten == 1
    assert run(place.mover().run()).rewritten == 1
    held = [key for name in place.names() for key in entries_of(place, name)]
    assert sorted(held) == sorted(key_of(n) for n in range(1, COUNT + 1) if n != 3)
    row = run(place.warm.lookup(key_of(3)))
    assert row is not None
    assert row.stored.content == stored_of(key_of(3), 3).content
    assert run(place.mover().run()) == Report()


def test_merge_stops_at_an_object_that_cannot_be_read(place: Place) -> None:
    run(place.mover(entries_max=2, small_bytes=0).run())

    class Cold:
        def __getattr__(self, name: str) -> Any:
            return getattr(place.cold, name)

        async def read(self, name: str) -> bytes | None:
            return None

    assert "cannot be read" in run(place.mover(cold=Cold()).run()).stopped
    assert len(place.names()) == 10
    assert_each_payload_is_there_once(place)


def test_records_travel_with_their_outcomes(place: Place) -> None:
    def records(rows: Any) -> list[bytes]:
        return [f"record {row.number}".encode() for row in rows]

    run(place.mover(records=records).run())
    (name,) = place.names()
    data = run(place.cold.read(name))
    assert data is not None
    assert [entry.record for entry, _ in read_object(data)][:2] == [b"record 1", b"record 2"]
    assert_each_payload_is_there_once(place)
