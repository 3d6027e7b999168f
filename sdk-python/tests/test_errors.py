"""The closed list of codes, and the errors that carry them."""

from __future__ import annotations

import builtins
import copy
import json
import pickle
from pathlib import Path

import pytest

from fractal_lba import errors
from fractal_lba.errors import CODES, FractalLBAError, error_for

SPEC = Path(__file__).parents[2] / "spec" / "errors.json"


def test_the_table_is_the_one_of_the_specification() -> None:
    listed = [
        (row["code"], row["class"], row["fault"], row["status"], row["retryable"], row["sentence"])
        for row in json.loads(SPEC.read_text())["codes"]
    ]
    assert [tuple(info) for info in CODES.values()] == listed


@pytest.mark.parametrize("code", CODES)
def test_every_code_makes_an_error_of_its_class(code: str) -> None:
    info = CODES[code]
    error = error_for(code, "what happened")
    assert type(error).__name__ == info.error_class_name
    assert type(error) is getattr(errors, info.error_class_name)
    assert error.fault == info.fault
    assert str(error) == f"{code}: what happened"


@pytest.mark.parametrize(
    ("kind", "parent"),
    [
        (errors.AuthError, errors.APIError),
        (errors.NotFoundError, errors.APIError),
        (errors.ConflictError, errors.APIError),
        (errors.RateLimitError, errors.APIError),
        (errors.UnavailableError, errors.APIError),
        (errors.APIError, FractalLBAError),
        (errors.ConnectionError, builtins.ConnectionError),
        (errors.TimeoutError, builtins.TimeoutError),
        (FractalLBAError, Exception),
    ],
)
def test_the_tree(kind: type[Exception], parent: type[Exception]) -> None:
    assert issubclass(kind, parent)


def test_our_cancellation_is_not_that_of_asyncio() -> None:
    import asyncio

    assert not issubclass(errors.CancelledError, asyncio.CancelledError)


def test_text_names_the_request_and_nothing_else() -> None:
    error = error_for(
        "rate_limited",
        "expected fewer",
        request_id="r-1",
        body=b"secret-body",
        headers={"authorization": "secret-header"},
    )
    assert str(error) == "rate_limited: expected fewer (request r-1)"
    assert repr(error) == "RateLimitError('rate_limited: expected fewer (request r-1)')"


def test_facts_have_defaults() -> None:
    error = error_for("cancelled", "x")
    facts = (error.pointer, error.status, error.request_id, error.retry_after_ms, error.stop)
    assert facts == (None,) * 5
    assert (error.attempts, dict(error.headers), error.body, error.queued) == (0, {}, b"", False)


@pytest.mark.parametrize(("retry_after_ms", "seconds"), [(None, None), (0, 0.0), (1500, 1.5)])
def test_retry_after_is_in_seconds(retry_after_ms: int | None, seconds: float | None) -> None:
    assert error_for("unavailable", "x", retry_after_ms=retry_after_ms).retry_after == seconds


@pytest.mark.parametrize(
    ("status", "fault"), [(None, "caller"), (400, "caller"), (499, "caller"), (500, "server")]
)
def test_fault_of_an_unlisted_code_follows_the_status(status: int | None, fault: str) -> None:
    error = error_for("not_in_the_list", "x", status=status)
    assert type(error) is FractalLBAError
    assert error.fault == fault


@pytest.mark.parametrize("code", ["attempt_timeout", "connection_lost", "pcs_id_conflict"])
def test_errors_survive_pickling_and_copying(code: str) -> None:
    error = error_for(
        code, "x", pointer="/r", status=409, request_id="r", retry_after_ms=7, attempts=2,
        headers={"date": "d"}, body=b"b", stop="not_retryable", queued=True,
    )  # fmt: skip
    for twin in (pickle.loads(pickle.dumps(error)), copy.deepcopy(error)):
        assert type(twin) is type(error)
        assert twin.__dict__ == error.__dict__
        assert str(twin) == str(error)
