"""How grave a difference is, and how an overridden acknowledgement is told (spec/reconcile.md 4)."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.core.first_write import Origin, Stored
from fractal_lba_server.core.reconcile import Difference, Overridden, counts, severity

MATRIX = [
    # records, missing, conflicting
    ((0, 0, 0), None),
    ((1_000, 0, 0), None),
    ((1_000, 0, 1), "P0"),
    ((999, 0, 1), "P0"),
    ((1_001, 0, 1), "P1"),
    ((1_000_000, 0, 999), "P1"),
    ((1_000_000, 0, 1_000), "P0"),
    ((1_000_000, 1_000_000, 1), "P1"),
    ((1_000, 1, 0), "P2"),
    ((1_001, 1, 0), "P3"),
    ((1_000_000, 999, 0), "P3"),
    ((1_000_000, 1_000, 0), "P2"),
    ((0, 1, 0), "P2"),
]


@pytest.mark.parametrize(("found", "grave"), MATRIX)
def test_severity_is_a_table(found: tuple[int, int, int], grave: str | None) -> None:
    assert severity(Difference(*found)) == grave


@given(st.integers(1, 10**9), st.integers(0, 10**9), st.integers(0, 10**9), st.integers(1, 100))
def test_severity_never_falls_when_more_is_wrong(
    records: int, missing: int, conflicting: int, more: int
) -> None:
    def place(*found: int) -> int:
        return ["P0", "P1", "P2", "P3", None].index(severity(Difference(*found)))

    before = place(records, missing, conflicting)
    assert place(records, missing, conflicting + more) <= before
    assert place(records, missing + more, conflicting) <= before


def stored(seq: int, content: str, region: str = "eu1") -> Stored:
    """Make an outcome."""
    return Stored(seq, content, 200, b'{"seq":%d}' % seq, Origin(region, "open", 1), seq)


def test_overridden_outcome_is_told_with_both_records() -> None:
    one = Overridden(("acme", "a" * 64), stored(7, "d", "us1"), stored(3, "c"))
    assert one.describe() == {
        "tenant": "acme",
        "pcs_id": "a" * 64,
        "kind": "displaced",
        "acknowledged": "us1/open/1/7",
        "winner": "eu1/open/1/3",
        "outcome": '{"seq":7}',
        "winner_outcome": '{"seq":3}',
    }
    assert json.loads(one.describe()["outcome"]) == {"seq": 7}


def test_overridden_outcomes_are_counted_by_whether_the_client_was_told_the_truth() -> None:
    key = ("acme", "a" * 64)
    found = [Overridden(key, stored(n, content), stored(1, "c")) for n, content in enumerate("cdd")]
    assert counts(found) == {"duplicate": 1, "displaced": 2}
    assert counts([]) == {"duplicate": 0, "displaced": 0}
