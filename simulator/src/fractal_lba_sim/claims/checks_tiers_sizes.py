"""Claims about how large tiers are and what they cost (C053 to C056, C059, C061)."""

from __future__ import annotations

from typing import Final

from fractal_lba_server.core.capacity import (
    documented_wrong_hot_bytes,
    documented_wrong_warm_bytes,
    requests_cost,
    resident_bytes,
)

from .. import formulas as f
from .checking import Run, checks
from .models_tiers import resident
from .sources import PER_S
from .verdicts import CONDITIONAL, HOLDS, REFUTED, Finding, agree, percent

RECORD: Final = 1_000
HOT_S: Final = f.HOUR_S
WARM_S: Final = 7 * f.DAY_S
GB: Final = 1e9
PUT_PER_1000: Final = 0.005
GB_MONTH: Final = {"hot": 8.0, "warm": 0.115, "cold": 0.023}
"""Declared prices in dollars, for the arithmetic: they are nobody's offer."""


@checks("C053")
def capacities(run: Run) -> Finding:
    """Ask how long a record may be for the published capacities."""
    hot = {size: size * GB / (PER_S * HOT_S) for size in (10, 8, 4)}
    warm_record = 500 * GB / (PER_S * WARM_S)
    warm_needed = resident_bytes(PER_S, WARM_S, RECORD, 0)
    return Finding(
        REFUTED,
        f"at {PER_S}/s an hour fits into 10 GB up to {hot[10]:.0f} bytes a record, into 8 GB up to "
        f"{hot[8]:.0f}, into 4 GB up to {hot[4]:.0f}; a week fits into 500 GB up to "
        f"{warm_record:.0f} bytes. '10 GB' and '4-8 GB' are two answers to one question",
        f"warm needs {warm_needed / 1e12:.2f} TB at 1 kB, before any overhead",
        f"provision {resident_bytes(PER_S, HOT_S, RECORD, 0) / GB:.1f} GB of hot and "
        f"{warm_needed / 1e12:.2f} TB of warm, times 1 + overhead",
        {"warm_record_bytes": round(warm_record, 1)},
    )


@checks("C054")
def hot_formula(run: Run) -> Finding:
    """Count what hot holds, and hold both formulas against it."""
    share = 0.65
    wrong, right = (
        documented_wrong_hot_bytes(PER_S, HOT_S, RECORD, share),
        resident_bytes(PER_S, HOT_S, RECORD, 0),
    )
    held = resident(50, 60, hit_share=share, for_s=300)
    agree("records resident", found=held, exact=50 * 60, within=2)
    return Finding(
        REFUTED,
        f"the hit ratio is no factor: counted, {held:.0f} records are resident of 50/s with a TTL "
        f"of 60 s and 65 % hits. At {PER_S}/s, 1 kB and 1 h the formula says {wrong / GB:.2f} GB, "
        f"and it is {right / GB:.1f} GB",
        f"too small by 1 / hit ratio = {right / wrong:.2f} times",
        "size x rate x TTL x (1 + overhead)",
        {"wrong_gb": wrong / GB, "right_gb": right / GB},
    )


@checks("C055")
def warm_formula(run: Run) -> Finding:
    """Do the same for warm."""
    share = 0.25
    wrong = documented_wrong_warm_bytes(PER_S, WARM_S, RECORD, share)
    right = resident_bytes(PER_S, WARM_S, RECORD, 0)
    held = resident(50, 60, hit_share=share, for_s=300)
    agree("records resident", found=held, exact=50 * 60, within=2)
    return Finding(
        REFUTED,
        f"the formula says {wrong / GB:.0f} GB and it is {right / 1e12:.2f} TB",
        f"too small by 1 / hit ratio = {right / wrong:.2f} times",
        "size x rate x TTL x (1 + overhead)",
        {"wrong_gb": round(wrong / GB, 2), "right_gb": round(right / GB, 2)},
    )


@checks("C056")
def cold_formula(run: Run) -> Finding:
    """Hold the formula of cold against Little's law."""
    kept_s = 90 * f.DAY_S
    found = RECORD * PER_S * kept_s
    agree("cold", found=found, exact=resident_bytes(PER_S, kept_s, RECORD, 0), within=1)
    return Finding(
        HOLDS,
        f"size x rate x retention is Little's law: {found / 1e12:.1f} TB for 90 days of 1 kB at "
        f"{PER_S}/s, before compression and the object's index",
        "above the alarm at 10 TB of the same runbook from "
        f"{10e12 / (RECORD * PER_S) / f.DAY_S:.0f} days on",
        facts={"tb": round(found / 1e12, 3)},
    )


@checks("C059")
def object_each(run: Run) -> Finding:
    """Price one object a record."""
    writes = PER_S * f.MONTH_S
    cost = requests_cost(writes, PUT_PER_1000)
    bytes_cost = 10_000 * GB_MONTH["cold"]
    entries = cost / 1_000
    return Finding(
        REFUTED,
        f"one object a record is {writes:.3g} writes a month: ${cost:,.0f} at a declared "
        f"${PUT_PER_1000} a thousand, whatever their size, against an alarm at $1,000; 10 TB lie "
        f"there for ${bytes_cost:,.0f}",
        "arithmetic with declared prices, not a bill",
        f"put at least {entries:.0f} records into one object: this mover batches",
        {"dollars": cost, "entries_min": round(entries, 1)},
    )


@checks("C061")
def lifecycle_saving(run: Run) -> Finding:
    """Ask against what a lifecycle saves."""
    kept_days, warm_days = 90, 7
    base = kept_days * GB_MONTH["warm"]
    tiered = warm_days * GB_MONTH["warm"] + (kept_days - warm_days) * GB_MONTH["cold"]
    saved = 1 - tiered / base
    days = f.largest(
        lambda warm: 1 - (warm * GB_MONTH["warm"] + (90 - warm) * GB_MONTH["cold"]) / base >= 0.5,
        0, 90,
    )  # fmt: skip
    return Finding(
        CONDITIONAL,
        f"against 'all in warm' for 90 days, moving after 7 days saves {percent(saved)} at "
        "declared prices of $0.115 and $0.023 a GB and month; against 'all in cold' it costs more",
        f"at most {percent(1 - GB_MONTH['cold'] / GB_MONTH['warm'])}: the ratio of the prices",
        f"name the baseline; with this one 50 % is kept while payloads are warm for up to "
        f"{days:.1f} days",
        {"saved": round(saved, 4), "warm_days_max": round(days, 2)},
    )
