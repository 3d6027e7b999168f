"""A record that was accepted is a duplicate at every age of a tier, whatever cold says (C65)."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from tier_parts import (
    AGES_MS,
    DAY_MS,
    KEY,
    START_MS,
    Place,
    Wrapped,
    failing,
    nothing,
    ours,
    rows_of,
    run,
    started,
)

from fractal_lba_server.store.tiers.protocols import TierUnavailableError
from fractal_lba_server.tiers import Found


@pytest.fixture
def place(tmp_path: Path) -> Any:
    made = Place(tmp_path)
    made.index.apply(rows_of(1))
    yield made
    made.close()


@pytest.mark.parametrize("age", AGES_MS)
def test_duplicate_is_a_duplicate_at_every_age_of_a_tier(place: Place, age: str) -> None:
    assert ours(place)(AGES_MS[age]) == "duplicate"


@pytest.mark.parametrize("age", AGES_MS)
def test_duplicate_is_never_new_while_cold_is_denied(place: Place, age: str) -> None:
    denied = Wrapped(place.cold, failing("read_range"), nothing)
    expected = "duplicate" if AGES_MS[age] < 7 * DAY_MS else "unavailable"
    assert ours(place, cold=denied)(AGES_MS[age]) == expected


# --- an object store that is late


@pytest.mark.parametrize("shown", ["nothing", "what was removed"])
def test_stale_listing_is_believed_by_nobody(place: Place, shown: str) -> None:
    place.clock.now_ms = START_MS + 8 * DAY_MS

    class Stale:
        def __getattr__(self, name: str) -> Any:
            return getattr(place.cold, name)

        async def names(self, prefix: str) -> Any:
            if shown != "nothing":
                yield "open/t-acme/gone.cold"

    assert run(place.mover(cold=Stale()).run()).payloads == 1
    answer = run(started(place.tiers(cold=Stale()), lambda t: t.get(KEY)))
    assert isinstance(answer, Found)


def test_delete_before_the_copy_was_compared_loses_payloads(place: Place) -> None:
    """The mutant of the mover: it deletes first. The judge is the one of every other test."""
    place.clock.now_ms = START_MS + 8 * DAY_MS

    async def literal() -> None:
        row = await place.warm.lookup(KEY)
        assert row is not None
        place.warm._writer.execute("UPDATE outcomes SET outcome = x''")
        raise TierUnavailableError("cold is down")

    with pytest.raises(TierUnavailableError):
        run(literal())
    assert ours(place)(8 * DAY_MS) != "duplicate"


def test_mover_that_fails_between_copy_and_delete_loses_nothing(place: Place) -> None:
    place.clock.now_ms = START_MS + 8 * DAY_MS
    mover = place.mover(cold=Wrapped(place.cold, failing("create"), nothing))
    assert run(mover.run()).stopped
    assert ours(place)(8 * DAY_MS) == "duplicate"
