"""The five sources of the claims, and the figures that several of their claims share.

The invariant of this file: a figure that is promised in one place is written down once here.
"""

from __future__ import annotations

from typing import Final

from .. import formulas as f

SOURCES: Final = {
    "000_fcb8ae8318b6cce9": "a patch that gives a receipts ledger region codes and a warm standby",
    "001_e4ad31159303c66c": "a plan for that ledger: tenant flags, external anchors, coverage",
    "002_847959527f0ab73c": "a plan for several regions, dedup shards, tiers and equal SDKs",
    "003_fe5b544054795567": "a report that says this plan was completed",
    "004_d9cdc52a0fc17905": "a guide to a ledger that is deployed in several regions",
}
"""The stem of each source's file, and what it is."""

PER_S: Final = 2_000
"""Records a second of the sources' examples."""
HORIZON_S: Final = 14 * f.DAY_S
"""How long a dedup key is kept."""
RESIDENT: Final = PER_S * HORIZON_S
"""Dedup keys that are held at that rate."""
RTO_S: Final = 300
RPO_S: Final = 120
QUEUE_LIMIT_S: Final = f.HOUR_S
"""Until when an audit task must be done."""
