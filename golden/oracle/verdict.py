"""What a server finds in a record: `spec/formats.md` sections 2 and 3, in exact numbers.

log2 is a fixed-point integer of 160 bits, so every comparison but a rounding tie is certain; a
tie raises, because a vector must not stand on one.
"""

from __future__ import annotations

import hashlib
from fractions import Fraction
from functools import cache
from typing import Any

from golden.oracle import canon, jcs
from golden.oracle.scanner import Number

LOG_BITS = 160
WORK_BITS = 400
# Distance from a rounding tie that every vector keeps, in units of 10^-9.
TIE_DISTANCE = Fraction(1, 10**4)
GIGA = canon.GIGA
POLICY = {
    "tol_D": "0.15",
    "tol_coh": "0.05",
    "tol_budget": "0.01",
    "sticky_coh_min": "0.7",
    "sticky_D_max": "1.5",
    "non_sticky_D_min": "2.6",
    "budget_base": "0.1",
    "budget_per_incompressible": "0.3",
    "budget_per_excess_D": "0.5",
    "budget_excess_D_above": "2.2",
    "budget_per_coh": "0.2",
}
TOL_D, TOL_BUDGET, COH_MAX = 150_000_000, 10_000_000, 1_050_000_000
STICKY_COH_MIN, STICKY_D_MAX, NON_STICKY_D_MIN = 700_000_000, 1_500_000_000, 2_600_000_000


def policy_version() -> str:
    members: dict[str, Any] = {name: Number(text) for name, text in POLICY.items()}
    return hashlib.sha256(jcs.document({**members, "dedup_ttl": "forever"})).hexdigest()[:16]


@cache
def log2(n: int) -> int:
    """Give floor(log2(n) * 2^160), off by one at most."""
    whole = n.bit_length() - 1
    mantissa = n << WORK_BITS - whole if whole <= WORK_BITS else n >> whole - WORK_BITS
    fraction = 0
    for _ in range(LOG_BITS):
        mantissa = mantissa * mantissa >> WORK_BITS
        bit = mantissa >> WORK_BITS + 1
        mantissa >>= bit
        fraction = fraction << 1 | bit
    return whole << LOG_BITS | fraction


def rounded(x: Fraction) -> int:
    """Round a real number to 10^-9 where no tie is near."""
    scaled = x * GIGA
    n = (scaled + Fraction(1, 2)).__floor__()
    if abs(scaled - n) > Fraction(1, 2) - TIE_DISTANCE:
        raise ArithmeticError("near a rounding tie")
    return n


def d_hat(scales: list[int], counts: list[int]) -> int:
    """Recompute D_hat in units of 10^-9 (2.2)."""
    slopes = sorted(
        Fraction(log2(counts[j]) - log2(counts[i]), log2(scales[j]) - log2(scales[i]))
        for i in range(len(scales))
        for j in range(i + 1, len(scales))
    )
    slope = slopes[len(slopes) // 2]
    return rounded(min(max(slope, Fraction(0)), Fraction(7, 2)))


def budget(d: int, coh: int, r: int) -> int:
    """Recompute the budget in units of 10^-9 (2.7)."""
    tenths = 10**9 + 3 * (GIGA - r) + 5 * max(0, d - 2_200_000_000) + 2 * coh
    return rounded(min(max(Fraction(tenths, 10 * GIGA), Fraction(0)), Fraction(1)))


def regime(d: int, coh: int) -> str:
    if coh >= STICKY_COH_MIN and d <= STICKY_D_MAX:
        return "sticky"
    return "non_sticky" if d >= NON_STICKY_D_MIN else "mixed"


def is_plausible(scales: list[int], counts: list[int], d: int) -> bool:
    """Test the counts with integers (2.5)."""
    for i, s in enumerate(scales):
        if counts[i] > s**d:
            return False
        for j in range(i + 1, len(scales)):
            t = scales[j]
            if t % s == 0 and not counts[i] <= counts[j] <= (t // s) ** d * counts[i]:
                return False
    return True


def judge(
    scales: list[int],
    counts: list[int],
    dimension: int,
    claims: dict[str, int],
    claimed_regime: str,
) -> dict[str, str]:
    """Give status and outcome members; claims are in units of 10^-9."""
    d = d_hat(scales, counts)
    b = budget(d, claims["coh_star"], claims["r"])
    tests = (
        ("d_hat_out_of_tolerance", abs(claims["D_hat"] - d) > TOL_D),
        ("coh_star_out_of_range", claims["coh_star"] > COH_MAX),
        ("n_j_implausible", not is_plausible(scales, counts, dimension)),
        ("regime_mismatch", claimed_regime != regime(d, claims["coh_star"])),
        ("budget_deviation", abs(claims["budget"] - b) > TOL_BUDGET),
    )
    reason = next((name for name, failed in tests if failed), None)
    accepted = reason in (None, "regime_mismatch", "budget_deviation")
    out = {
        "status": "200" if reason is None else "202",
        "accepted": "true" if accepted else "false",
        "escalated": "false" if reason is None else "true",
    }
    if reason is not None:
        out["reason"] = reason
    return out | {
        "recomputed_D_hat": canon.number_text(d),
        "recomputed_budget": canon.number_text(b),
        "policy_version": policy_version(),
    }
