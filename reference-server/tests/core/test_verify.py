"""Verification: the order of reasons, exact tolerances, and the bytes of the outcome."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba.canonical import canonicalize, jcs, nano, parse, rounded
from fractal_lba.estimate import DEFAULT_PARAMETERS, Parameters, estimate
from fractal_lba.outcome import ACCEPTING_REASONS as SDK_ACCEPTING
from fractal_lba.outcome import REFUSING_REASONS as SDK_REFUSING
from fractal_lba.outcome import Outcome
from fractal_lba.sign import check_signature
from fractal_lba_server.contract import record_shape, schema, validator
from fractal_lba_server.core.policy import Policy
from fractal_lba_server.core.verify import (
    ACCEPTING_REASONS,
    REFUSING_REASONS,
    Verdict,
    outcome_bytes,
    verify,
)

ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = yaml.safe_load((ROOT / "spec" / "examples.yaml").read_text(encoding="utf-8"))
RECORD: dict[str, Any] = EXAMPLES["records"]["version_2"]["value"]
EXAMPLE_KEY = bytes(range(32))
DEFAULT = Policy()
NANO = 1_000_000_000
D_HAT, BUDGET = 1_527_265_074, 368_100_000
"""What the counts and numbers of the example give, in billionths."""


def judge(policy: Policy = DEFAULT, **members: Any) -> Verdict:
    """Verify the example with members replaced."""
    record = {**copy.deepcopy(RECORD), **members}
    names = ("D_hat", "budget", "coh_star", "r")
    return verify(record, {name: nano(record[name]) for name in names}, policy)


def test_record_that_agrees_with_its_counts_is_accepted() -> None:
    assert judge() == Verdict(True, False, None, 200, D_HAT, BUDGET)


# One fault each. `coh_star` moves the regime and the budget, so those follow it.
COH_FAULT = {"coh_star": 1.02}
FAULTS: dict[str, dict[str, Any]] = {
    "d_hat_out_of_tolerance": {"D_hat": 1.0},
    "coh_star_out_of_range": COH_FAULT,
    "n_j_implausible": {"v_star": [1.0]},
    "regime_mismatch": {"regime": "sticky"},
    "budget_deviation": {"budget": 0.9},
}
STRICT = Policy(Parameters(tol_coh=0.01))


@pytest.mark.parametrize("first", range(len(FAULTS)))
def test_reason_is_the_first_that_applies(first: int) -> None:
    names = list(FAULTS)
    members: dict[str, Any] = {}
    for name in names[first:]:
        members |= FAULTS[name]
    verdict = judge(STRICT, **members)
    assert verdict.reason == names[first]
    assert verdict.escalated
    assert verdict.status == 202
    assert verdict.accepted is (names[first] in ("regime_mismatch", "budget_deviation"))


def test_reasons_are_those_that_the_sdk_reads() -> None:
    assert (REFUSING_REASONS, ACCEPTING_REASONS) == (SDK_REFUSING, SDK_ACCEPTING)
    assert tuple(FAULTS) == REFUSING_REASONS + ACCEPTING_REASONS
    assert tuple(schema("outcome")["properties"]["reason"]["enum"]) == tuple(FAULTS)


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_claim_exactly_at_the_tolerance_of_d_hat_is_within_it(sign: int) -> None:
    at, beyond = D_HAT + sign * 150_000_000, D_HAT + sign * 150_000_001
    assert judge(D_hat=at / NANO).reason is None
    assert judge(D_hat=beyond / NANO).reason == "d_hat_out_of_tolerance"


@pytest.mark.parametrize("sign", [-1, 1])
def test_a_claim_exactly_at_the_tolerance_of_budget_is_within_it(sign: int) -> None:
    at, beyond = BUDGET + sign * 10_000_000, BUDGET + sign * 10_000_001
    assert judge(budget=at / NANO).reason is None
    assert judge(budget=beyond / NANO).reason == "budget_deviation"


@pytest.mark.parametrize(
    ("claimed", "counts", "reason"),
    [
        # In doubles 0.65 - 0.5 is more than 0.15, and 2.15 - 2.0 less.
        (0.65, {"4": 1, "16": 2}, None),
        (0.650000001, {"4": 1, "16": 2}, "d_hat_out_of_tolerance"),
        (2.15, {"4": 1, "16": 16}, None),
        (2.150000001, {"4": 1, "16": 16}, "d_hat_out_of_tolerance"),
    ],
)
def test_tolerance_is_decimal(claimed: float, counts: dict[str, int], reason: str | None) -> None:
    verdict = judge(D_hat=claimed, scales=[4, 16], N_j=counts)
    assert verdict.reason in (reason, "budget_deviation", "regime_mismatch")
    assert (verdict.reason == "d_hat_out_of_tolerance") is (reason is not None)


def test_default_policy_repeats_the_schemas_bound_of_coh_star() -> None:
    assert judge(coh_star=1.05).reason != "coh_star_out_of_range"
    assert judge(STRICT, coh_star=1.01).reason != "coh_star_out_of_range"
    assert judge(STRICT, coh_star=1.010000001).reason == "coh_star_out_of_range"


def test_regime_and_budget_follow_the_recomputed_slope() -> None:
    # The claim is within tolerance on the other side of a threshold of the regime.
    counts = {str(s): s * s for s in RECORD["scales"]}
    policy = Policy(Parameters(non_sticky_D_min=1.9))
    claim = {"D_hat": 1.86, "N_j": counts, "budget": 0.3681}
    assert judge(policy, regime="non_sticky", **claim).reason is None
    assert judge(policy, regime="mixed", **claim).reason == "regime_mismatch"


def test_parameters_of_the_policy_decide() -> None:
    assert judge(Policy(Parameters(tol_D=1.0)), D_hat=1.0).reason is None
    assert judge(Policy(Parameters(budget_base=0.2))).reason == "budget_deviation"
    assert judge(Policy(Parameters(non_sticky_D_min=1.0))).reason == "regime_mismatch"


@st.composite
def records(draw: st.DrawFn) -> dict[str, Any]:
    scales = sorted(draw(st.sets(st.integers(1, 4096), min_size=2, max_size=8)))
    counts = {str(s): draw(st.integers(1, 2**53 - 1) | st.integers(1, s * s)) for s in scales}
    coh_star = rounded(draw(st.floats(0, 1.05)))
    r = rounded(draw(st.floats(0, 1)))
    own = estimate(scales, counts, coh_star, r)
    return {
        **RECORD,
        "scales": scales,
        "N_j": counts,
        "coh_star": coh_star,
        "r": r,
        "v_star": [1.0] + [0.0] * draw(st.integers(0, 60)),
        "D_hat": draw(st.just(own.D_hat) | st.floats(0, 3.5)),
        "budget": draw(st.just(own.budget) | st.floats(0, 1)),
        "regime": draw(st.just(own.regime) | st.sampled_from(["sticky", "mixed", "non_sticky"])),
    }


@given(record=records())
def test_verdict_recomputes_what_the_producer_computes(record: dict[str, Any]) -> None:
    canonical = canonicalize(record, sig_v=2)
    values = canonical.values
    verdict = verify(record, canonical.nanos, DEFAULT)
    own = estimate(
        record["scales"], record["N_j"], values["coh_star"], values["r"], DEFAULT_PARAMETERS
    )
    assert verdict.recomputed_D_hat / NANO == own.D_hat
    assert verdict.recomputed_budget / NANO == own.budget
    assert verdict.status == (202 if verdict.escalated else 200)


@given(
    record=records(),
    region=st.from_regex(r"[a-z0-9]{3}", fullmatch=True),
    hlc=st.integers(0, 2**64 - 1),
)
def test_outcome_is_the_rfc_8785_form_of_its_members(
    record: dict[str, Any], region: str, hlc: int
) -> None:
    verdict = verify(record, canonicalize(record, sig_v=2).nanos, DEFAULT)
    body = outcome_bytes(
        verdict,
        pcs_id=record["pcs_id"],
        policy_version=DEFAULT.version,
        region=region,
        hlc=f"{hlc:016x}",
    )
    members: dict[str, Any] = {
        "pcs_id": record["pcs_id"],
        "accepted": verdict.accepted,
        "escalated": verdict.escalated,
        "policy_version": DEFAULT.version,
        "first_seen": {"region": region, "hlc": f"{hlc:016x}"},
        "recomputed_D_hat": verdict.recomputed_D_hat / NANO,
        "recomputed_budget": verdict.recomputed_budget / NANO,
    }
    if verdict.reason is not None:
        members["reason"] = verdict.reason
    assert body == jcs(members)
    validator("outcome").validate(members)
    assert Outcome.from_json(body).reason == verdict.reason


@given(
    reason=st.sampled_from([None, *REFUSING_REASONS, *ACCEPTING_REASONS]),
    slope=st.integers(0, 3_500_000_000),
    cost=st.integers(0, NANO),
)
def test_outcome_writes_every_number_as_rfc_8785(reason: str | None, slope: int, cost: int) -> None:
    accepted = reason is None or reason in ACCEPTING_REASONS
    verdict = Verdict(accepted, reason is not None, reason, 200, slope, cost)
    body = outcome_bytes(
        verdict, pcs_id="a" * 64, policy_version="b" * 16, region="loc", hlc="c" * 16
    )
    members = json.loads(body)
    assert body == jcs(members)
    assert (members["recomputed_D_hat"], members["recomputed_budget"]) == (
        slope / NANO,
        cost / NANO,
    )


@pytest.mark.parametrize(
    ("record", "outcome"),
    [
        ("version_2", "accepted"),
        ("version_1", "accepted"),
        ("generous", "accepted_escalated"),
        ("misjudged", "not_accepted"),
    ],
)
def test_examples_of_the_contract_are_signed_and_have_their_outcomes(
    record: str, outcome: str
) -> None:
    given_record = EXAMPLES["records"][record]["value"]
    expected = EXAMPLES["outcomes"][outcome]["value"]
    canonical = canonicalize(given_record)
    check_signature("HMAC", EXAMPLE_KEY, canonical.digest, given_record["sig"])
    body = outcome_bytes(
        verify(given_record, canonical.nanos, DEFAULT),
        pcs_id=given_record["pcs_id"],
        policy_version=DEFAULT.version,
        **expected["first_seen"],
    )
    assert json.loads(body) == expected


def submit_vectors() -> list[Any]:
    """Load the cases that end in an outcome; none while the suite is not there."""
    return [
        pytest.param(case, id=case["id"])
        for path in sorted((ROOT / "golden" / "vectors" / "submit").glob("*.json"))
        for case in json.loads(path.read_bytes())["cases"]
        if case["result"] == "valid"
    ]


@pytest.mark.parametrize("case", submit_vectors())
def test_vectors_of_submissions_have_their_outcomes(case: dict[str, Any]) -> None:
    record = parse(bytes.fromhex(case["args"]["body"]))
    record_shape().check(record)
    verdict = verify(record, canonicalize(record).nanos, DEFAULT)
    body = outcome_bytes(
        verdict,
        pcs_id=record["pcs_id"],
        policy_version=DEFAULT.version,
        region="loc",
        hlc="0" * 16,
    )
    found = json.loads(body, parse_int=str, parse_float=str)
    del found["first_seen"]
    found |= {name: str(found[name]).lower() for name in ("accepted", "escalated")}
    assert {**found, "status": str(verdict.status)} == case["expect"]
