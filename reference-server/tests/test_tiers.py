"""Look-ups through the tiers: who answers, what is never said, and what a read leaves behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from tier_parts import (
    DAY_MS,
    HOUR_MS,
    START_MS,
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

from fractal_lba_server.core.cold_segment import read_entry, write_entry
from fractal_lba_server.core.first_write import Apply
from fractal_lba_server.core.tiering import TierBook, TierPolicy
from fractal_lba_server.store.tiers.lineage import LineageError, read_lineage
from fractal_lba_server.store.tiers.protocols import TierUnavailableError
from fractal_lba_server.tiers import Ended, Found, NotFound, Tally, Tiers, Unavailable


@pytest.fixture
def place(tmp_path: Path) -> Any:
    made = Place(tmp_path)
    yield made
    made.close()


def moved(place: Place, count: int = 3) -> None:
    """Put outcomes in, and let them become old enough for cold."""
    place.index.apply(rows_of(count))
    place.clock.now_ms = START_MS + 8 * DAY_MS
    assert run(place.mover().run()).payloads == count


def test_new_id_is_said_by_warm_and_costs_no_cold_read(place: Place) -> None:
    moved(place)
    calls: list[str] = []
    tiers = place.tiers(cold=Wrapped(place.cold, calls.append, nothing))
    answer = run(started(tiers, lambda t: t.get(key_of(99))))
    assert answer == NotFound()
    assert calls == []
    assert tiers.tally.values()["misses"] == 1


def test_outcome_is_the_same_from_every_tier(place: Place) -> None:
    first = rows_of(1)[0]
    place.index.apply([first])
    fresh = run(started(place.tiers(), lambda t: get_all(t, [first.key] * 2)))
    assert [(a.tier, a.stored) for a in fresh] == [("warm", first.stored), ("hot", first.stored)]
    place.clock.now_ms += 8 * DAY_MS
    assert run(place.mover().run()).payloads == 1
    old = run(started(place.tiers(), lambda t: get_all(t, [first.key] * 3)))
    assert [a.tier for a in old] == ["cold", "warm", "hot"], "one tier up with every read"
    assert {a.stored for a in old} == {first.stored}


def test_lookup_of_this_process_answers_without_waiting(place: Place) -> None:
    moved(place)
    place.index.apply(rows_of(1, first=4))
    tiers = place.tiers()
    assert tiers.at_once(key_of(4), place.warm.stored_now) == Found(stored_of(key_of(4), 4), "warm")
    assert tiers.at_once(key_of(99), place.warm.stored_now) == NotFound()
    assert tiers.at_once(key_of(1), place.warm.stored_now) is None, "cold has to be waited for"
    place.index.close()
    answer = tiers.at_once(key_of(1), place.warm.stored_now)
    assert isinstance(answer, Unavailable)


def test_hot_that_fails_is_a_miss(place: Place) -> None:
    place.index.apply(rows_of(1))
    tiers = place.tiers(hot=Wrapped(place.hot, failing("get", "put"), nothing))
    answers = run(started(tiers, lambda t: get_all(t, [key_of(1)])))
    assert answers[0].tier == "warm"
    assert tiers.tally.values()["hot_faults"] == 1
    assert tiers.tally.values()["promotions_failed"] == 1


def test_warm_that_fails_is_unavailable_and_never_not_found(place: Place) -> None:
    tiers = place.tiers(warm=Wrapped(place.warm, failing("lookup"), nothing))
    answer = run(started(tiers, lambda t: t.get(key_of(1))))
    assert isinstance(answer, Unavailable)
    assert answer.code == "unavailable"


@pytest.mark.parametrize(
    "fault", ["down", "denied", "absent", "other bytes", "another outcome", "another payload"]
)
def test_cold_that_cannot_answer_is_unavailable_and_never_not_found(
    place: Place, fault: str
) -> None:
    moved(place)

    class Cold:
        async def read_range(self, name: str, offset: int, length: int) -> bytes | None:
            if fault in {"down", "denied"}:
                raise TierUnavailableError(fault)
            if fault == "absent":
                return None
            data = await place.cold.read_range(name, offset, length)
            if fault == "another outcome":
                entry = read_entry(data or b"")
                forged = entry.stored._replace(outcome=entry.stored.outcome + b" ")
                return write_entry(entry._replace(stored=forged))
            return b"x" + (data or b"")[1:]

    row = run(place.warm.lookup(key_of(1)))
    other = run(place.warm.lookup(key_of(2)))
    assert row is not None
    assert other is not None
    cold: Any = Cold()
    warm: Any = place.warm
    if fault == "another payload":
        cold = place.cold

        class Warm:
            def __getattr__(self, name: str) -> Any:
                return getattr(place.warm, name)

            async def lookup(self, key: Any) -> Any:
                return row._replace(ref=other.ref)

        warm = Warm()
    tiers = place.tiers(cold=cold, warm=warm)
    answer = run(started(tiers, lambda t: t.get(key_of(1))))
    assert isinstance(answer, Unavailable)
    assert tiers.tally.values()["cold_faults"] == 1


def test_cold_that_is_not_configured_is_unavailable(place: Place) -> None:
    moved(place)
    answer = run(started(place.tiers(cold=None), lambda t: t.get(key_of(1))))
    assert isinstance(answer, Unavailable)


def test_payload_that_ended_leaves_its_id_taken(tmp_path: Path) -> None:
    place = Place(tmp_path, TierBook(TierPolicy(cold_ttl_s=30 * 86_400)))
    moved(place)
    place.clock.now_ms = START_MS + 30 * DAY_MS
    before = run(started(place.tiers(), lambda t: t.get(key_of(1))))
    assert before == Ended(), "at its time, whether or not the mover has been there"
    assert run(place.mover().run()).ended == 1
    assert place.names() == []
    assert run(started(place.tiers(), lambda t: t.get(key_of(1)))) == Ended()
    assert place.index.lookup(key_of(1)) is not None
    place.close()


def test_payload_that_the_mover_has_not_reached_ends_at_its_time(tmp_path: Path) -> None:
    place = Place(tmp_path, TierBook(TierPolicy(cold_ttl_s=30 * 86_400)))
    place.index.apply(rows_of(1))
    tiers = place.tiers()
    place.clock.now_ms = START_MS + 30 * DAY_MS - 1
    assert isinstance(tiers.at_once(key_of(1), place.warm.stored_now), Found)
    place.clock.now_ms += 1
    assert tiers.at_once(key_of(1), place.warm.stored_now) is None
    assert run(started(tiers, lambda t: t.get(key_of(1)))) == Ended()
    place.close()


def test_every_cold_read_is_in_the_lineage_and_nothing_else_is(place: Place) -> None:
    moved(place, 5)
    keys = [key_of(n) for n in (1, 2, 3, 1, 99)]
    tiers = place.tiers()
    answers = run(started(tiers, lambda t: get_all(t, keys)))
    assert [getattr(a, "tier", "") for a in answers] == ["cold", "cold", "cold", "warm", ""]
    lines = list(read_lineage(place.folder / "lineage"))
    assert [line["pcs_id"] for line in lines] == [key[1] for key in keys[:3]]
    assert len(lines) == tiers.tally.values()["cold_reads"] == 3


def test_lineage_that_cannot_be_written_closes_cold(place: Place) -> None:
    moved(place)

    class Lineage:
        def record(self, facts: Any) -> None:
            raise LineageError("disk full")

        def close(self) -> None: ...

    calls: list[str] = []
    tiers = place.tiers(lineage=Lineage(), cold=Wrapped(place.cold, calls.append, nothing))
    answer = run(started(tiers, lambda t: t.get(key_of(1))))
    assert isinstance(answer, Unavailable)
    assert calls == []
    assert "cold_reads" not in tiers.tally.values()


def test_cold_reads_over_budget_are_refused_and_counted(tmp_path: Path) -> None:
    book = TierBook(
        TierPolicy(cold_reads_per_s=1, cold_reads_burst=2, promote_on="false"),
        {"beta": TierPolicy(cold_reads_per_s=1, cold_reads_burst=2, promote_on="false")},
        overall_per_s=1,
        overall_burst=3,
    )
    place = Place(tmp_path, book)
    rows = rows_of(6)
    rows += [Apply(key_of(7, "beta"), stored_of(key_of(7, "beta"), 7), "kid")]
    rows += [Apply(key_of(8, "beta"), stored_of(key_of(8, "beta"), 8), "kid")]
    place.index.apply(rows)
    place.clock.now_ms += 8 * DAY_MS
    run(place.mover().run())
    tiers = place.tiers()
    keys = [key_of(1), key_of(2), key_of(3), key_of(7, "beta"), key_of(8, "beta")]
    answers = run(started(tiers, lambda t: get_all(t, keys)))
    kinds = [a.tier if isinstance(a, Found) else (a.code, a.retry_after_ms) for a in answers]
    assert kinds == ["cold", "cold", ("rate_limited", 1000), "cold", ("unavailable", 1000)]
    counted = tiers.tally.values()
    assert (counted["cold_refused_tenant"], counted["cold_refused_overall"]) == (1, 1)
    place.clock.now_ms += 1_000
    assert run(started(place.tiers(), lambda t: t.get(key_of(3)))).tier == "cold"
    place.close()


def test_erased_payload_is_gone_from_every_tier_and_its_id_stays_taken(place: Place) -> None:
    place.index.apply(rows_of(2))

    async def work(tiers: Tiers) -> list[Any]:
        await get_all(tiers, [key_of(1), key_of(1)])
        await tiers.erase([key_of(1)])
        return await get_all(tiers, [key_of(1), key_of(2)])

    tiers = place.tiers()
    gone, other = run(started(tiers, work))
    assert gone == Ended()
    assert isinstance(other, Found)


def test_outcome_that_a_merge_replaced_is_dropped_from_hot(place: Place) -> None:
    key = key_of(1)
    late, early = (
        stored_of(key, 1, at_ms=START_MS),
        stored_of(key, 1, at_ms=START_MS - 5, content="e" * 64),
    )
    early = early._replace(origin=early.origin._replace(region="us1"))
    place.index.apply([Apply(key, late, "kid")])

    async def work(tiers: Tiers) -> list[Any]:
        before = await get_all(tiers, [key, key])
        place.index.apply([Apply(key, early, "kid", wins=True, replaced=late)])
        await tiers.forget([key])
        return before + await get_all(tiers, [key, key])

    answers = run(started(place.tiers(), work))
    assert [a.stored for a in answers] == [late, late, early, early]
    assert [a.tier for a in answers] == ["warm", "hot", "warm", "hot"]


def test_walk_that_began_before_a_replacement_is_not_joined_after_it(place: Place) -> None:
    key, gate, held = key_of(1), asyncio.Event(), asyncio.Event()
    late, early = stored_of(key, 1), stored_of(key, 1, at_ms=START_MS - 5, content="e" * 64)
    early = early._replace(origin=early.origin._replace(region="us1"))
    place.index.apply([Apply(key, late, "kid")])

    class Warm:
        def __getattr__(self, name: str) -> Any:
            return getattr(place.warm, name)

        async def lookup(self, key: Any) -> Any:
            row = await place.warm.lookup(key)
            held.set()
            await gate.wait()
            return row

    async def work(tiers: Tiers) -> list[Any]:
        before = asyncio.create_task(tiers.get(key))
        await held.wait()
        place.index.apply([Apply(key, early, "kid", wins=True, replaced=late)])
        await tiers.forget([key])
        after = asyncio.create_task(tiers.get(key))
        await asyncio.sleep(0)
        gate.set()
        return [await before, await after]

    answers = run(started(place.tiers(warm=Warm(), hot=None), work))
    assert [answer.stored for answer in answers] == [late, early]


def test_hot_that_could_not_forget_is_not_read(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fractal_lba_server.tiers.HOT_REPAIR_S", 0.01)
    place.index.apply(rows_of(1))
    down = {"forget", "begin"}

    def check(name: str) -> None:
        failing(*down)(name)

    async def work(tiers: Tiers) -> list[str]:
        await get_all(tiers, [key_of(1)])
        tiers._hot = Wrapped(place.hot, check, nothing)
        await tiers.forget([key_of(1)])
        await tiers.forget([key_of(2)])
        seen = [(await tiers.get(key_of(1))).tier]
        await asyncio.sleep(0.03)
        down.clear()
        while tiers._hot_is_behind:
            await asyncio.sleep(0.01)
        return seen + [a.tier for a in await get_all(tiers, [key_of(1)] * 2)]

    assert run(started(place.tiers(), work)) == ["warm", "warm", "hot"]


def test_tenant_of_a_slower_class_is_never_in_a_faster_tier(tmp_path: Path) -> None:
    book = TierBook(TierPolicy(fastest="warm"), {"icy": TierPolicy(fastest="cold")})
    place = Place(tmp_path, book)
    place.index.apply([*rows_of(1), *rows_of(1, tenant="icy", first=2)])
    keys = [key_of(1), key_of(1), key_of(2, "icy"), key_of(2, "icy")]
    before = run(started(place.tiers(), lambda t: get_all(t, keys)))
    assert [a.tier for a in before] == ["warm"] * 4
    assert run(place.mover().run()).payloads == 1, "class cold moves at the next pass"
    after = run(started(place.tiers(), lambda t: get_all(t, keys)))
    assert [a.tier for a in after] == ["warm", "warm", "cold", "cold"]
    place.close()


def test_condition_that_counts_accesses_promotes_the_one_that_it_names(tmp_path: Path) -> None:
    place = Place(tmp_path, TierBook(TierPolicy(promote_on="access_count > 3")))
    place.index.apply(rows_of(1))
    answers = run(started(place.tiers(), lambda t: get_all(t, [key_of(1)] * 6)))
    assert [a.tier for a in answers] == ["warm"] * 4 + ["hot"] * 2
    place.close()


def test_condition_whose_value_is_an_error_promotes_nothing(tmp_path: Path) -> None:
    place = Place(tmp_path, TierBook(TierPolicy(promote_on="size_bytes / (age_s - age_s) > 0")))
    place.index.apply(rows_of(1))
    tiers = place.tiers()
    answers = run(started(tiers, lambda t: get_all(t, [key_of(1)] * 3)))
    assert [a.tier for a in answers] == ["warm"] * 3
    assert tiers.tally.values()["condition_errors"] == 3
    place.close()


def test_promotion_finds_no_room_and_is_dropped(
    place: Place, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fractal_lba_server.tiers.PROMOTIONS_MAX", 2)
    place.index.apply(rows_of(5))
    tiers = place.tiers()

    async def work() -> None:  # not started: nobody empties the queue
        for number in range(1, 6):
            await tiers.get(key_of(number))

    run(work())
    assert tiers.tally.values()["promotions_dropped"] == 3


def test_payloads_are_brought_up_ahead_of_their_readers(place: Place) -> None:
    moved(place, 4)
    place.index.apply(rows_of(3, first=5, at_ms=place.clock.now_ms))

    async def work(tiers: Tiers) -> list[Any]:
        assert await tiers.fill_hot(2) == 2
        row = await place.warm.lookup(key_of(1))
        assert row is not None
        assert isinstance(await tiers.bring(row), Found)
        return await get_all(tiers, [key_of(7), key_of(6), key_of(5), key_of(1)])

    answers = run(started(place.tiers(), work))
    assert [a.tier for a in answers] == ["hot", "hot", "warm", "warm"]


def test_sizes_are_those_of_the_tiers_that_answer(place: Place) -> None:
    moved(place, 3)
    place.index.apply(rows_of(2, first=4))

    async def work(tiers: Tiers) -> Any:
        await tiers.fill_hot(1)
        found = await tiers.sizes()
        tiers._hot = Wrapped(place.hot, failing("size"), nothing)
        return found, await tiers.sizes()

    found, without_hot = run(started(place.tiers(), work))
    assert {tier: size.keys for tier, size in found.items()} == {"hot": 1, "warm": 2, "cold": 3}
    assert all(size.size_bytes > 0 for size in found.values())
    assert "hot" not in without_hot


def test_counters_are_exact_under_threads() -> None:
    tally = Tally()

    async def work() -> None:
        await asyncio.gather(
            *[asyncio.to_thread(lambda: [tally.add("n") for _ in range(2_000)]) for _ in range(8)]
        )

    run(work())
    assert tally.values() == {"n": 16_000}


def test_hot_time_is_that_of_the_tenant(tmp_path: Path) -> None:
    once = "access_count == 1"
    premium = TierPolicy(hot_ttl_s=7_200, promote_on=once)
    place = Place(tmp_path, TierBook(TierPolicy(promote_on=once), {"premium": premium}))
    place.index.apply([*rows_of(1), *rows_of(1, tenant="premium", first=2)])
    keys = [key_of(1), key_of(2, "premium")]

    async def work(tiers: Tiers) -> list[list[str]]:
        seen = []
        for hours in (0, 0.5, 1.5, 2.5):
            place.clock.now_ms = int(START_MS + hours * HOUR_MS)
            seen.append([a.tier for a in await get_all(tiers, keys)])
        return seen

    assert run(started(place.tiers(), work)) == [
        ["warm", "warm"], ["hot", "hot"], ["warm", "hot"], ["warm", "warm"],
    ]  # fmt: skip
    place.close()
