"""How `flk` reads records and writes results, errors and progress."""

from __future__ import annotations

import io
import json
import sys
from pathlib import Path

import pytest

from fractal_lba import cli_output
from fractal_lba.cli_input import read_sources
from fractal_lba.cli_output import LongWork, Output
from fractal_lba.errors import FractalLBAError, ValidationError


def sources(path: Path, data: bytes) -> list[tuple[bytes, str]]:
    path.write_bytes(data)
    found = read_sources([str(path)])
    return [(source.text, source.where.removeprefix(str(path))) for source in found]


def test_a_file_is_one_document_or_a_record_a_line(tmp_path: Path) -> None:
    path = tmp_path / "records"
    pretty = b'{\n  "a": 1\n}\n'
    assert sources(path, pretty) == [(pretty, "")]
    assert sources(path, b'\n {"a":1}\r\n\n{"b":2}') == [
        (b'{"a":1}', " line 2"),
        (b'{"b":2}', " line 4"),
    ]
    assert sources(path, b'{"a":1}\n{') == [(b'{"a":1}', " line 1"), (b"{", " line 2")]
    deep = b"[" * 20_000 + b"]" * 20_000
    assert sources(path, deep) == [(deep, " line 1")]


def test_a_line_that_is_too_long_ends_its_file(tmp_path: Path) -> None:
    fits = b'{"a":"' + b"x" * (65_536 - 8) + b'"}'
    found: list[bytes] = []
    path = tmp_path / "records"
    path.write_bytes(fits + b"\n" + fits + b" \n" + b"{" + fits + b"\n{}")
    with pytest.raises(ValidationError, match="line 3: a record has at most 65536 bytes"):
        found.extend(source.text for source in read_sources([str(path)]))


def test_a_document_that_is_too_long_is_not_read_whole(tmp_path: Path) -> None:
    ((text, _),) = sources(tmp_path / "record", b"{\n" + b" " * 10**6 + b"}")
    assert 65_536 < len(text) < 140_000


@pytest.mark.parametrize("data", [b"", b"\n \n"])
def test_nothing_is_no_record(tmp_path: Path, data: bytes) -> None:
    with pytest.raises(ValidationError, match="expected a record, got nothing"):
        sources(tmp_path / "record", data)


def test_an_error_for_programs_has_every_fact(capsys: pytest.CaptureFixture[str]) -> None:
    error = FractalLBAError(
        "rate_limited",
        "slow down",
        status=429,
        request_id="r",
        retry_after_ms=1500,
        attempts=3,
        stop="attempts_exhausted",
        queued=True,
    )
    Output(as_json=True).error(error, where="x line 1")
    assert json.loads(capsys.readouterr().err) == {
        "error": {
            "where": "x line 1",
            "code": "rate_limited",
            "message": "slow down",
            "fault": error.fault,
            "status": 429,
            "request_id": "r",
            "retry_after_ms": 1500,
            "attempts": 3,
            "stop": "attempts_exhausted",
            "queued": True,
        }
    }


def test_progress_is_for_terminals_and_long_work_only(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    class Terminal(io.StringIO):
        def isatty(self) -> bool:
            return True

    for stderr, as_json, after_s, shown in (
        (Terminal(), False, 0.0, True),
        (Terminal(), True, 0.0, False),
        (Terminal(), False, 3600.0, False),
        (io.StringIO(), False, 0.0, False),
    ):
        monkeypatch.setattr(sys, "stderr", stderr)
        monkeypatch.setattr(cli_output, "PROGRESS_AFTER_S", after_s)
        with LongWork(Output(as_json=as_json)) as work:
            work.update("reading", 10)
            work.update("reading", 20, 20)
        assert ("reading" in stderr.getvalue()) is shown
    assert capfd.readouterr() == ("", "")
