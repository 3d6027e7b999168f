"""Reading an outcome: strict, closed, and equal to its schema."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba.canonical import jcs
from fractal_lba.errors import APIError
from fractal_lba.outcome import LEVELS, REASONS, Outcome, Position, Raw, Submitted
from fractal_lba.testing import outcome_body

SCHEMAS = Path(__file__).parents[2] / "spec" / "schemas"
VALIDATOR = jsonschema_rs.Draft202012Validator(json.loads((SCHEMAS / "outcome.json").read_text()))
POSITION = json.loads((SCHEMAS / "position.json").read_text())
BODY = outcome_body("a" * 64)
MEMBERS: dict[str, Any] = json.loads(BODY)


def taken(members: Any) -> bool:
    try:
        Outcome.from_dict(members)
    except APIError as error:
        assert error.code == "response_malformed"  # noqa: PT017 - one of two right ends
        return False
    return True


def test_an_outcome_survives_the_way_round() -> None:
    outcome = Outcome.from_json(BODY)
    assert jcs(outcome.to_dict()) == BODY
    assert (outcome.accepted, outcome.escalated, outcome.reason) == (True, False, None)
    assert (outcome.first_seen.region, len(outcome.first_seen.hlc)) == ("fra", 16)
    assert pickle.loads(pickle.dumps(outcome)) == outcome


@pytest.mark.parametrize("reason", REASONS)
def test_a_reason_says_whether_it_refuses(reason: str) -> None:
    accepted = reason in ("regime_mismatch", "budget_deviation")
    members = {**MEMBERS, "escalated": True, "accepted": accepted, "reason": reason}
    outcome = Outcome.from_dict(members)
    assert outcome.to_dict() == members
    assert not taken({**members, "accepted": not accepted})


def test_zero_is_written_without_a_fraction() -> None:
    outcome = Outcome.from_json(outcome_body("a" * 64, recomputed_D_hat=0, recomputed_budget=0))
    assert (outcome.recomputed_D_hat, outcome.recomputed_budget) == (0.0, 0.0)


ODD: list[Any] = [
    None, True, False, 0, 1, 2, -1, 3.5, 3.6, 0.5, "", "x", "a" * 64, "A" * 64, "0" * 16, "fra",
    "FRA",
    "regime_mismatch", "n_j_implausible", "other", [], {}, {"region": "fra"},
    {"region": "fra", "hlc": "0" * 16}, {"region": "fra", "hlc": "0" * 15},
    {"region": "fr", "hlc": "0" * 16}, {"region": "fra", "hlc": "0" * 16, "x": 1},
]  # fmt: skip
REMOVE = object()


@given(
    st.dictionaries(
        st.sampled_from([*MEMBERS, "reason", "extra"]), st.sampled_from([*ODD, REMOVE]), max_size=3
    )
)
def test_an_outcome_is_taken_iff_the_schema_takes_it(changes: dict[str, Any]) -> None:
    members = {k: v for k, v in {**MEMBERS, **changes}.items() if v is not REMOVE}
    assert taken(members) == VALIDATOR.is_valid(members)


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"null", BODY[:-1], BODY + b"x", b"\xef\xbb\xbf" + BODY, b"\xff",
     BODY[:-1] + b',"accepted":true}', BODY.replace(b"2", b"NaN", 1)],
)  # fmt: skip
def test_bytes_outside_the_profile_are_malformed(body: bytes) -> None:
    with pytest.raises(APIError) as caught:
        Outcome.from_json(body)
    assert caught.value.code == "response_malformed"


def test_a_body_has_a_limit() -> None:
    assert Outcome.from_json(BODY, max_bytes=len(BODY))
    with pytest.raises(APIError):
        Outcome.from_json(BODY, max_bytes=len(BODY) - 1)


@pytest.mark.parametrize(
    "text",
    ["use/open/1/4711", "fra/eu-only/0/0", "a1b/x/9999999999/9999999999999999",
     "us/open/1/1", "USE/open/1/1", "use/open/01/1", "use/open/1", "use/open/1/1/1", "use//1/1",
     "use/open/1/-1", "use/open/1/1\n", "use/open/1/10000000000000000", "", "use/Open/1/1"],
)  # fmt: skip
def test_a_position_is_taken_iff_the_schema_takes_it(text: str) -> None:
    try:
        position = Position.parse(text)
    except APIError as error:
        assert error.code == "response_malformed"  # noqa: PT017 - one of two right ends
        assert not jsonschema_rs.is_valid(POSITION, text)
    else:
        assert str(position) == text
        assert jsonschema_rs.is_valid(POSITION, text)


def test_what_was_submitted_keeps_the_exchange() -> None:
    raw = Raw(200, {}, BODY, request_id="r", attempts=2)
    submitted = Submitted(Outcome.from_json(BODY), False, LEVELS[0], None, raw)
    assert (submitted.receipt, submitted.raw.attempts, submitted.level) == (None, 2, "durable")
