"""What is made of a difference between regions: how grave it is, and what is told about it.

This file owns the severity of a divergence (spec/reconcile.md 4) and the report of overridden
outcomes. Severity is a pure function of two shares, so that people and programs read the same.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final, NamedTuple

from .first_write import DISPLACED, DUPLICATE, Key, Stored, position

CONFLICT_P0_PPM: Final = 1_000
"""Share of records with conflicting outcomes, in millionths, from which many are misled."""

GAP_P2_PPM: Final = 1_000
"""Share of records that one region lacks, in millionths, from which the gap is a large one."""


class Difference(NamedTuple):
    """What two regions hold differently, in records, once all frames are merged."""

    records: int
    """Records that either region holds."""
    missing: int
    """Records that one of them lacks."""
    conflicting: int
    """Records of which they hold different outcomes."""


def severity(found: Difference) -> str | None:
    """Say how grave a difference is, `P0` to `P3`; None if there is none.

    A conflicting outcome is never less than P1: two clients were told different things, and the
    rule that ends it has failed. P2 and P3 are gaps, which shipping again closes.
    """
    if not found.missing and not found.conflicting:
        return None
    if found.conflicting * 1_000_000 >= CONFLICT_P0_PPM * found.records:
        return "P0" if found.conflicting else _gap(found)
    if found.conflicting:
        return "P1"
    return _gap(found)


def _gap(found: Difference) -> str:
    return "P2" if found.missing * 1_000_000 >= GAP_P2_PPM * found.records else "P3"


class Overridden(NamedTuple):
    """An acknowledged outcome that does not stand, and the one that does."""

    key: Key
    stored: Stored
    winner: Stored

    @property
    def kind(self) -> str:
        """Say whether the client was told the truth all the same (`duplicate`) or not."""
        return DUPLICATE if self.stored.content == self.winner.content else DISPLACED

    def describe(self) -> dict[str, Any]:
        """Give it as a JSON object, with both records' places."""
        return {
            "tenant": self.key[0],
            "pcs_id": self.key[1],
            "kind": self.kind,
            "acknowledged": position(self.stored),
            "winner": position(self.winner),
            "outcome": self.stored.outcome.decode(),
            "winner_outcome": self.winner.outcome.decode(),
        }


def counts(found: Iterable[Overridden]) -> dict[str, int]:
    """Count overridden outcomes by kind."""
    total = {DUPLICATE: 0, DISPLACED: 0}
    for one in found:
        total[one.kind] += 1
    return total
