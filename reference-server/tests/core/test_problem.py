"""Problems: every refusal is RFC 9457, of its status, and says when to come back where it must."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba.canonical import jcs
from fractal_lba.errors import CODES
from fractal_lba_server.contract import error_codes, validator
from fractal_lba_server.core.problem import (
    DETAIL_CHARACTERS_MAX,
    RETRY_AFTER_MS_DEFAULT,
    problem,
    retry_after_ms,
    retry_after_text,
)

WIRE_CODES = sorted(code for code, row in error_codes().items() if row["status"] is not None)
LOCAL_CODES = sorted(code for code, row in error_codes().items() if row["status"] is None)
TEXT = st.text(st.characters(codec="utf-8"))


@given(
    code=st.sampled_from(WIRE_CODES),
    detail=TEXT,
    pointer=st.none()
    | st.just("")
    | st.lists(st.sampled_from(["a", "~0", "~1", "0"])).map(
        lambda steps: "".join("/" + step for step in steps)
    ),
    wait_ms=st.none() | st.integers(0, 10**9),
)
def test_problem_is_in_its_format(
    code: str, detail: str, pointer: str | None, wait_ms: int | None
) -> None:
    extras: dict[str, Any] = {} if wait_ms is None else {"retry_after_ms": wait_ms}
    status, body = problem(code, detail, request_id="r-1", pointer=pointer, **extras)
    members = json.loads(body)
    validator("problem").validate(members)
    row = error_codes()[code]
    assert (status, members["status"]) == (row["status"], row["status"])
    assert (members["code"], members["title"]) == (code, row["sentence"])
    assert members["detail"] == detail[:DETAIL_CHARACTERS_MAX]
    assert members.get("pointer") == pointer
    assert body == jcs(members)


@pytest.mark.parametrize("code", WIRE_CODES)
def test_429_and_503_always_say_when_to_come_back(code: str) -> None:
    members = json.loads(problem(code, "", request_id="r-1")[1])
    waits = CODES[code].status in (429, 503)
    assert members.get("retry_after_ms") == (RETRY_AFTER_MS_DEFAULT if waits else None)
    assert retry_after_ms(code) == members.get("retry_after_ms")


def test_wait_that_is_given_is_kept() -> None:
    for code in ("rate_limited", "frozen"):
        assert retry_after_ms(code, 0) == 0
        members = json.loads(problem(code, "", request_id="r-1", retry_after_ms=0)[1])
        assert members["retry_after_ms"] == 0


@pytest.mark.parametrize(
    ("wait_ms", "text"), [(0, "0"), (1, "1"), (999, "1"), (1000, "1"), (1001, "2"), (60_000, "60")]
)
def test_retry_after_is_never_less_than_the_wait(wait_ms: int, text: str) -> None:
    assert retry_after_text(wait_ms) == text


def test_further_members_cannot_replace_those_of_a_problem() -> None:
    extras: dict[str, Any] = {"position": "use/open/1/7", "status": 200, "title": "fine"}
    members = json.loads(problem("unavailable", "", request_id="r-1", **extras)[1])
    assert (members["status"], members["position"]) == (503, "use/open/1/7")
    assert members["title"] == CODES["unavailable"].sentence


@pytest.mark.parametrize("code", [*LOCAL_CODES, "no_such_code"])
def test_code_that_no_server_sends_is_a_defect(code: str) -> None:
    with pytest.raises(KeyError):
        problem(code, "", request_id="r-1")


def test_long_detail_is_cut() -> None:
    members = json.loads(problem("bad_request", "x" * 70_000, request_id="r-1")[1])
    assert members["detail"] == "x" * DETAIL_CHARACTERS_MAX
