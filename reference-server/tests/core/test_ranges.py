"""The walk over ranges finds every entry that differs, and goes on where it stopped."""

from __future__ import annotations

import hashlib
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fractal_lba_server.core import ranges
from fractal_lba_server.core.ranges import (
    ASK_SPANS_MAX,
    FANOUT,
    LIST_MAX,
    AskDigests,
    AskEntries,
    Span,
    Sum,
    Walk,
    differences,
    split,
)

LINE = 2**32
Side = dict[int, bytes]


def total(side: Side, span: Span) -> Sum:
    inside = sorted(key for key in side if span.lo <= key <= span.hi)
    text = b"".join(b"%d=%b;" % (key, side[key]) for key in inside)
    return Sum(len(inside), hashlib.sha256(text).digest())


def part(side: Side, span: Span) -> Side:
    return {key: value for key, value in side.items() if span.lo <= key <= span.hi}


def walked(walk: Walk, mine: Side, theirs: Side, *, stops: bool = False) -> tuple[dict, Walk, int]:
    """Walk to the end; with `stops` every step is taken by a walk that was read again."""
    found: dict[str, set[int]] = {"missing": set(), "extra": set(), "changed": set()}
    steps = 0
    while (ask := walk.next_ask()) is not None:
        steps += 1
        if isinstance(ask, AskDigests):
            sums = [total(mine, span) for span in ask.spans]
            others = [total(theirs, span) for span in ask.spans]
            walk = walk.after_digests(ask.spans, sums, others)
        else:
            assert isinstance(ask, AskEntries)
            differing = differences(part(mine, ask.span), part(theirs, ask.span))
            for kind, keys in found.items():
                keys |= set(getattr(differing, kind))
            walk = walk.after_entries(ask.span, len(part(mine, ask.span)))
        if stops:
            walk = Walk.read(walk.members())
    return found, walk, steps


@settings(max_examples=60, deadline=None)
@given(
    data=st.data(),
    size=st.sampled_from([0, 3, LIST_MAX, 3 * LIST_MAX]),
    line=st.sampled_from([1 << 8, LINE, 1 << 256]),
)
def test_every_planted_difference_is_found_and_nothing_else(
    data: st.DataObject, size: int, line: int
) -> None:
    chance = data.draw(st.randoms(use_true_random=False))
    mine = {chance.randrange(line): b"%d" % number for number in range(size)}
    keys = sorted(mine)
    missing = set(chance.sample(keys, min(len(keys), data.draw(st.integers(0, 5)))))
    changed = set(chance.sample(keys, min(len(keys), data.draw(st.integers(0, 5))))) - missing
    extra = {chance.randrange(line) for _ in range(data.draw(st.integers(0, 5)))} - set(mine)
    theirs = {key: value for key, value in mine.items() if key not in missing}
    theirs |= dict.fromkeys(extra, b"extra") | dict.fromkeys(changed, b"changed")
    stops = data.draw(st.booleans())
    found, walk, _ = walked(Walk.over([Span(0, line - 1)]), mine, theirs, stops=stops)
    assert found == {"missing": missing, "extra": extra, "changed": changed}
    assert walk.done
    assert walk.compared == len(mine)


def test_equal_sides_are_compared_with_one_request() -> None:
    side = {key * 1000: b"x" for key in range(2000)}
    assert walked(Walk.over([Span(0, LINE - 1)]), side, side) == (
        {"missing": set(), "extra": set(), "changed": set()}, Walk((), (), 2000), 1,
    )  # fmt: skip


def test_one_difference_in_many_is_found_in_few_requests() -> None:
    side = {key * 1_000_003: b"x" for key in range(4_000)}
    found, _, steps = walked(Walk.over([Span(0, LINE - 1)]), side, side | {2_000_006: b"y"})
    assert found["changed"] == {2_000_006}
    assert steps <= 4


def test_requests_for_digests_are_bounded() -> None:
    spans = split(Span(0, LINE - 1), 200)
    ask = Walk.over(spans).next_ask()
    assert isinstance(ask, AskDigests)
    assert ask.spans == tuple(spans[:ASK_SPANS_MAX])


def test_a_point_with_many_entries_is_listed_and_not_split_for_ever() -> None:
    many = Sum(LIST_MAX * 10, b"a")
    walk = Walk.over([Span(7, 7)]).after_digests((Span(7, 7),), [many], [Sum(0, b"")])
    assert walk.next_ask() == AskEntries(Span(7, 7))


@given(lo=st.integers(0, 2**256), width=st.integers(1, 2**40), parts=st.integers(1, 64))
def test_a_split_covers_a_range_once(lo: int, width: int, parts: int) -> None:
    span = Span(lo, lo + width - 1)
    cut = split(span, parts)
    assert (cut[0].lo, cut[-1].hi) == span
    assert all(a.hi + 1 == b.lo for a, b in pairwise(cut))
    assert len(cut) == min(parts, width)


@pytest.mark.parametrize("spans", [[(5, 4)], [(0, 4), (4, 9)], [(6, 9), (0, 2)]])
def test_ranges_that_overlap_or_go_backwards_are_refused(spans: list[tuple[int, int]]) -> None:
    with pytest.raises(ValueError, match="ascending"):
        Walk.over([Span(*each) for each in spans])


def test_too_many_ranges_are_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ranges, "SPANS_MAX", 3)
    with pytest.raises(ValueError, match="at most 3 ranges, got 4"):
        Walk.over([Span(n, n) for n in range(4)])


def test_answers_to_another_question_are_refused() -> None:
    walk = Walk.over([Span(0, 9)])
    with pytest.raises(ValueError, match="not the next ones"):
        walk.after_digests((Span(0, 5),), [Sum(0, b"")], [Sum(0, b"")])
    with pytest.raises(ValueError, match="not the next one"):
        walk.after_entries(Span(0, 9), 0)


def test_differences_count_each_entry_once() -> None:
    found = differences({1: "a", 2: "b", 3: "c"}, {2: "x", 3: "c", 4: "d"})
    assert (found.missing, found.extra, found.changed, found.count) == (
        {1: "a"}, {4: "d"}, {2: "b"}, 3,
    )  # fmt: skip


def test_a_comparison_of_counts_alone_misses_a_changed_entry() -> None:
    # The mutant: a walk over counts without digests takes equal numbers for equal sides.
    mine, theirs = {1: b"a", 9: b"b"}, {1: b"x", 9: b"b"}
    counts = [Sum(2, b"")]
    blind = Walk.over([Span(0, FANOUT)]).after_digests((Span(0, FANOUT),), counts, counts)
    assert blind.done
    found, _, _ = walked(Walk.over([Span(0, FANOUT)]), mine, theirs)
    assert found["changed"] == {1}
