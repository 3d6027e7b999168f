"""What makes two copies of an entry agree: a table of what either side may hold."""

from __future__ import annotations

import itertools

import pytest

from fractal_lba_server.core.dedup import (
    CLAIMED,
    DONE,
    GRACE_MS,
    Entry,
    encode_stored,
    first_of,
    has_expired,
)
from fractal_lba_server.core.first_write import Order, Origin, Stored
from fractal_lba_server.core.mending import AGREED, Mend, alive, is_sound, mend

NOW_MS = 1_790_000_000_000
KEY = ("acme", "a" * 64)


def outcome(hlc: int, *, expires_at_ms: int | None = None, content: str = "c") -> Entry:
    stored = Stored(1, content, 200, b"{}", Origin("eu1", "open", 1), hlc)
    return Entry(
        KEY, DONE, "eu1", content, Order(hlc, 0, 1, 1), encode_stored(stored), expires_at_ms
    )


def claim(owner: str) -> Entry:
    return Entry(KEY, CLAIMED, owner, "c", None, None, None)


FIRST, LATER = outcome(1), outcome(2)
OVER = outcome(1, expires_at_ms=NOW_MS - GRACE_MS)
LONGER = outcome(1, expires_at_ms=NOW_MS + 9_000)
BROKEN = FIRST._replace(content="d")
GARBLED = FIRST._replace(stored=b"\xff")
HALF = FIRST._replace(stored=None)

TABLE = {
    "both absent": (None, None, AGREED),
    "equal": (FIRST, FIRST, AGREED),
    "missing": (FIRST, None, Mend(at_copy=FIRST)),
    "missing claim": (claim("a"), None, Mend(at_copy=claim("a"))),
    "claim beyond": (None, claim("a"), Mend(delete_copy=True)),
    "claim of another": (claim("a"), claim("b"), Mend(at_copy=claim("a"), delete_copy=True)),
    "claim of what is done": (FIRST, claim("a"), Mend(at_copy=FIRST)),
    "outcome beyond": (None, FIRST, Mend(at_authority=FIRST)),
    "outcome of a claim": (claim("a"), FIRST, Mend(at_authority=FIRST)),
    "earlier at the authority": (FIRST, LATER, Mend(at_copy=FIRST)),
    "earlier at the copy": (LATER, FIRST, Mend(at_authority=FIRST)),
    "same write, other expiry": (FIRST, LONGER, Mend(at_copy=FIRST, delete_copy=True)),
    "damaged copy": (FIRST, BROKEN, Mend(at_copy=FIRST, delete_copy=True)),
    "damaged copy alone": (None, GARBLED, Mend(delete_copy=True)),
    "damaged copy of a claim": (claim("a"), HALF, Mend(at_copy=claim("a"), delete_copy=True)),
    "damaged authority": (BROKEN, FIRST, Mend(damaged=True)),
    "both damaged": (BROKEN, BROKEN, Mend(damaged=True)),
    "over at both": (OVER, OVER, AGREED),
    "over at the authority, gone at the copy": (OVER, None, AGREED),
    "over at the copy alone": (None, OVER, AGREED),
    "over at the authority, a later time at the copy": (OVER, LONGER, Mend(delete_copy=True)),
}


@pytest.mark.parametrize("name", TABLE)
def test_mend(name: str) -> None:
    authority, copy, expected = TABLE[name]
    found = mend(authority, copy, NOW_MS)
    assert found == expected
    assert found.needed == (expected != AGREED)


SIDES = [None, claim("a"), claim("b"), FIRST, LATER, LONGER, OVER, BROKEN, GARBLED, HALF]


@pytest.mark.parametrize(("authority", "copy"), [*itertools.product(SIDES, repeat=2)])
def test_mending_ends_with_both_sides_equal_and_no_outcome_lost(
    authority: Entry | None, copy: Entry | None
) -> None:
    before = [e for e in (authority, copy) if alive(e, NOW_MS) and e.order and is_sound(e)]
    first = min(before, key=lambda e: (e.order, e is not authority), default=None)
    for _ in range(4):
        done = mend(authority, copy, NOW_MS)
        if not done.needed:
            break
        if done.damaged:
            assert not is_sound(authority)
            return
        if done.at_authority is not None:
            authority = first_of(authority, done.at_authority, NOW_MS)
        if done.delete_copy:
            copy = None
        if done.at_copy is not None:
            copy = first_of(copy, done.at_copy, NOW_MS)
    assert alive(authority, NOW_MS) == alive(copy, NOW_MS)
    if first is not None and not (authority is not None and authority is OVER):
        assert authority.order == first.order


def test_an_entry_in_its_grace_is_still_there() -> None:
    almost = outcome(1, expires_at_ms=NOW_MS - GRACE_MS + 1)
    assert not has_expired(almost, NOW_MS)
    assert mend(almost, None, NOW_MS) == Mend(at_copy=almost)
