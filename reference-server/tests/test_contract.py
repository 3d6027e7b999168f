"""The contract is found, compiled once, and the code list of the SDK is that of the contract."""

from __future__ import annotations

from pathlib import Path

import pytest

from fractal_lba.errors import CODES
from fractal_lba_server.contract import (
    contract_file,
    error_codes,
    record_shape,
    schema,
    validator,
)


def test_file_that_is_nowhere_is_named() -> None:
    with pytest.raises(FileNotFoundError, match=r"spec/schemas/none\.json"):
        contract_file("schemas", "none.json")


@pytest.mark.parametrize(
    "path", sorted(contract_file("schemas").glob("*.json")), ids=lambda path: path.stem
)
def test_schema_is_compiled_once(path: Path) -> None:
    assert validator(path.stem) is validator(path.stem)
    assert schema(path.stem) is schema(path.stem)
    assert record_shape() is record_shape()


def test_codes_are_those_of_the_sdk() -> None:
    assert error_codes() == {
        code: {
            "code": code,
            "class": info.error_class_name,
            "fault": info.fault,
            "status": info.status,
            "retryable": info.retryable,
            "sentence": info.sentence,
        }
        for code, info in CODES.items()
    }
