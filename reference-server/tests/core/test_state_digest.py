"""State digests: the same for the same state, whatever the way to it (spec/reconcile.md 3)."""

from __future__ import annotations

import random

from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.core.first_write import Apply, Key, Origin, Stored, resolve
from fractal_lba_server.core.state_digest import (
    NOTHING,
    OLD_WINDOW_MS,
    WINDOW_MS,
    YOUNG_MS,
    StateDigest,
    Sum,
    comparable_ms,
    differing,
    entry_hash,
    total_of,
)

CODES = ("eu1", "us1", "ap1")
NOW_MS = 1_768_478_400_000
KEYS = [("acme", f"{number:064x}") for number in range(5)]


def stored(
    at_ms: int, content: str = "c", *, region: str = "eu1", seq: int = 1, status: int = 200
) -> Stored:
    """Make an outcome of a time."""
    return Stored(seq, content, status, b"{}", Origin(region, "open", 1), at_ms << 16)


def test_entry_depends_on_all_that_two_regions_must_agree_on() -> None:
    one = stored(NOW_MS)
    others = [
        entry_hash(KEYS[1], one),
        entry_hash(("beta", KEYS[0][1]), one),
        entry_hash(KEYS[0], one._replace(content="d")),
        entry_hash(KEYS[0], one._replace(status=202)),
        entry_hash(KEYS[0], one._replace(hlc=one.hlc + 1)),
        entry_hash(KEYS[0], one._replace(seq=2)),
        entry_hash(KEYS[0], one._replace(origin=Origin("us1", "open", 1))),
    ]
    assert len({entry_hash(KEYS[0], one), *others}) == len(others) + 1
    moved = one._replace(outcome=b"")
    assert entry_hash(KEYS[0], moved) == entry_hash(KEYS[0], one), "a payload may be elsewhere"


def test_what_is_taken_back_leaves_nothing() -> None:
    digest = StateDigest()
    early, late = stored(NOW_MS), stored(NOW_MS + 5_000, "d", region="us1")
    digest.apply(Apply(KEYS[0], late, "kid"))
    assert digest.windows(NOW_MS * 2) != {}
    digest.apply(Apply(KEYS[0], early, "kid", wins=True, replaced=late))
    digest.apply(Apply(KEYS[0], late, "kid", wins=False))
    assert _whole(digest) == total_of([(KEYS[0], early)])
    digest.remove(KEYS[0], early)
    assert digest.windows(NOW_MS * 2) == {}


def test_windows_end_before_the_time() -> None:
    digest = StateDigest()
    digest.add(KEYS[0], stored(NOW_MS))
    digest.add(KEYS[1], stored(NOW_MS + WINDOW_MS))
    window = NOW_MS // OLD_WINDOW_MS * OLD_WINDOW_MS
    assert digest.windows(NOW_MS) == {}
    assert digest.windows(NOW_MS + WINDOW_MS)[window].records == 1
    assert digest.windows(NOW_MS + 2 * WINDOW_MS)[window].records == 2


frames = st.lists(
    st.tuples(
        st.sampled_from(KEYS),
        st.integers(0, 3 * YOUNG_MS),
        st.sampled_from("cd"),
        st.sampled_from(CODES),
    ),
    max_size=12,
)


@given(frames, st.randoms(use_true_random=False), st.lists(st.integers(0, YOUNG_MS), max_size=3))
def test_digest_is_of_the_state_and_not_of_the_way_to_it(
    found: list[tuple[Key, int, str, str]], chance: random.Random, ages: list[int]
) -> None:
    rows = [
        (key, stored(NOW_MS + at_ms, content, region=region, seq=seq))
        for seq, (key, at_ms, content, region) in enumerate(found, 1)
    ]
    digests, states = [], []
    for place in range(2):
        digest, state = StateDigest(), dict[Key, Stored]()
        for key, one in rows:
            row = resolve(key, one, "kid", state.get(key), CODES.index)
            assert row is not None
            digest.apply(row)
            if row.wins:
                state[key] = row.stored
            for age_ms in ages[place:]:
                digest.age(NOW_MS + 4 * YOUNG_MS - age_ms)
        digests.append(digest)
        states.append(state)
        chance.shuffle(rows)
    assert states[0] == states[1]
    assert [_whole(digest) for digest in digests] == [total_of(states[0].items())] * 2
    until_ms = comparable_ms(NOW_MS + 2 * YOUNG_MS, NOW_MS + 4 * YOUNG_MS)
    assert differing(*(digest.windows(until_ms) for digest in digests)) == []


def test_regions_that_have_grown_old_at_different_moments_compare_alike() -> None:
    """Of an old window only the whole sum is known: no time inside one can be compared up to."""
    aged, young = StateDigest(), StateDigest()
    for digest in (aged, young):
        digest.add(KEYS[0], stored(NOW_MS))
        digest.add(KEYS[1], stored(NOW_MS + OLD_WINDOW_MS - 1))
    now_ms = NOW_MS + 2 * YOUNG_MS
    aged.age(now_ms)
    aged.age(now_ms - OLD_WINDOW_MS)
    inside_ms = NOW_MS + OLD_WINDOW_MS // 2
    assert differing(aged.windows(inside_ms), young.windows(inside_ms)) != [], "the fault"
    until_ms = comparable_ms(inside_ms, now_ms)
    assert until_ms <= inside_ms
    assert differing(aged.windows(until_ms), young.windows(until_ms)) == []
    fresh_ms = now_ms - 1_234
    assert comparable_ms(fresh_ms, now_ms) == fresh_ms // WINDOW_MS * WINDOW_MS


def test_what_comes_late_into_an_old_window_is_counted_there() -> None:
    digest = StateDigest()
    digest.age(NOW_MS + 2 * YOUNG_MS)
    digest.add(KEYS[0], stored(NOW_MS))
    assert digest.windows(NOW_MS * 2) == {
        NOW_MS // OLD_WINDOW_MS * OLD_WINDOW_MS: total_of([(KEYS[0], stored(NOW_MS))])
    }


def test_differing_windows_are_named_in_order() -> None:
    one, other = Sum(1, 5), Sum(1, 6)
    assert differing({3: one, 1: one, 2: one}, {1: other, 2: one, 4: one}) == [1, 3, 4]
    assert differing({1: NOTHING}, {}) == []


def test_sum_is_written_as_64_digits() -> None:
    assert Sum(1, 255).digest == "0" * 62 + "ff"


def _whole(digest: StateDigest) -> Sum:
    found = NOTHING
    for one in digest.windows(1 << 48).values():
        found = found.add(one)
    return found
