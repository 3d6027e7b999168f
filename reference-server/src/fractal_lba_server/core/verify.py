"""Judge what a record claims by what its own counts say, and write the outcome.

This file owns the order of reasons and the bytes of a stored outcome. `verify` is a pure
function of record and policy, and all comparisons are of whole billionths: a claim exactly as
far off as the tolerance is within it, on every machine.

    >>> verdict = Verdict(True, False, None, 200, 1_410_000_000, 420_000_000)
    >>> outcome_bytes(verdict, pcs_id="ab", policy_version="cd", region="loc", hlc="00")
    b'{"accepted":true,"escalated":false,"first_seen":{"hlc":"00","region":"loc"},"pcs_id":"ab",\
"policy_version":"cd","recomputed_D_hat":1.41,"recomputed_budget":0.42}'
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, NamedTuple

from fractal_lba.canonical import nano, number_text
from fractal_lba.estimate import budget, d_hat, n_j_plausible, regime

from .policy import Policy

STATUS_ACCEPTED: Final = 200
"""The status of an outcome without a reason."""

STATUS_ESCALATED: Final = 202
"""The status of an outcome with a reason, accepted or not: it is recorded and final."""

REFUSING_REASONS: Final = ("d_hat_out_of_tolerance", "coh_star_out_of_range", "n_j_implausible")
"""Reasons not to accept, in the order in which they are looked for."""

ACCEPTING_REASONS: Final = ("regime_mismatch", "budget_deviation")
"""Reasons to accept and escalate; looked for where no refusing one applies."""


class Verdict(NamedTuple):
    """Hold what verification found. A tuple, because one is made for every record.

    The recomputed numbers are in billionths.
    """

    accepted: bool
    escalated: bool
    reason: str | None
    status: int
    recomputed_D_hat: int
    recomputed_budget: int


def verify(record: Mapping[str, Any], nanos: Mapping[str, int], policy: Policy) -> Verdict:
    """Compare a checked record with its own counts under a policy (spec/formats.md 2).

    `nanos` are the four signed numbers as every later step uses them, in billionths.
    """
    scales, counts, coh_star = record["scales"], record["N_j"], nanos["coh_star"] / 1e9
    slope = d_hat(scales, counts)
    cost = budget(slope, coh_star, nanos["r"] / 1e9, policy.parameters)
    slope_nano, cost_nano = nano(slope), nano(cost)
    if abs(nanos["D_hat"] - slope_nano) > policy.tol_D_nano:
        reason = "d_hat_out_of_tolerance"
    elif nanos["coh_star"] > policy.coh_max_nano:
        reason = "coh_star_out_of_range"
    elif not n_j_plausible(scales, counts, len(record["v_star"])):
        reason = "n_j_implausible"
    elif record["regime"] != regime(slope, coh_star, policy.parameters):
        reason = "regime_mismatch"
    elif abs(nanos["budget"] - cost_nano) > policy.tol_budget_nano:
        reason = "budget_deviation"
    else:
        return Verdict(True, False, None, STATUS_ACCEPTED, slope_nano, cost_nano)
    accepted = reason in ACCEPTING_REASONS
    return Verdict(accepted, True, reason, STATUS_ESCALATED, slope_nano, cost_nano)


def outcome_bytes(
    verdict: Verdict, *, pcs_id: str, policy_version: str, region: str, hlc: str
) -> bytes:
    """Write the stored outcome in RFC 8785 form, first seen here and now.

    The four texts need no escapes: hex digits and a region code. `hlc` has 16 digits.
    """
    accepted, escalated, reason, _, slope_nano, cost_nano = verdict
    because = f'"reason":"{reason}",' if reason is not None else ""
    return (
        f'{{"accepted":{"true" if accepted else "false"},'
        f'"escalated":{"true" if escalated else "false"},'
        f'"first_seen":{{"hlc":"{hlc}","region":"{region}"}},"pcs_id":"{pcs_id}",'
        f'"policy_version":"{policy_version}",{because}'
        f'"recomputed_D_hat":{number_text(slope_nano)},'
        f'"recomputed_budget":{number_text(cost_nano)}}}'
    ).encode()
