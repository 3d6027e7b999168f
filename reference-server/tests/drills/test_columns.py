"""A trace is judged alike as objects and as columns."""

from __future__ import annotations

import builtins
import json
from collections import Counter
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from click.testing import CliRunner
from traces import Book, content, frame
from wild import wild

from fractal_lba_server.cli_drill import drill
from fractal_lba_server.contract import schema
from fractal_lba_server.judge import files, intake
from fractal_lba_server.judge.check import FAILS, HOLDS, UNPROVEN, TraceError, check
from fractal_lba_server.judge.files import ColumnTrace, check_file
from fractal_lba_server.judge.summary import outcome

Events = list[dict[str, Any]]
LINE = jsonschema_rs.Draft202012Validator(schema("trace"))
EACH = 60


def written(folder: Path, events: Events) -> Path:
    path = folder / "trace.jsonl"
    path.write_text("".join(json.dumps(event) + "\n" for event in events))
    return path


def facts(report: Any) -> dict[str, Any]:
    told = outcome(report)
    del told["trace_sha256"]
    return told


@pytest.mark.parametrize("seed", range(8))
def test_columns_give_the_verdicts_of_the_plain_judge(seed: int, tmp_path: Path) -> None:
    states: dict[str, set[str]] = {}
    seen: Counter[str] = Counter()
    for turn in range(EACH):
        events = wild(seed * EACH + turn)
        plain = facts(check(events))
        columns = facts(check_file(written(tmp_path, events), listed_bytes_max=0))
        for name, value in plain.items():
            assert columns[name] == value, (seed * EACH + turn, name)
        for verdict in plain["verdicts"]:
            states.setdefault(verdict["name"], set()).add(verdict["state"])
        seen.update(plain["anomalies"])
    assert len(states) > 20
    mostly = {name for name, of in states.items() if {HOLDS, FAILS} <= of}
    assert mostly >= {"accounting", "answers", "phantom", "rto_s"}
    assert min(seen[name] for name in (
        "lost", "displaced", "recovered_late", "recovered_by_client", "double_winner", "phantom",
        "stale_read", "wrong_duplicate_answer", "resurrected", "audit_gap",
    )) > 0, seen  # fmt: skip
    assert UNPROVEN in states["accounting"]


def test_wild_traces_are_valid_lines() -> None:
    for seed in range(30):
        for event in wild(seed):
            LINE.validate(event)


def test_a_short_file_is_judged_line_by_line(tmp_path: Path) -> None:
    events = Book().put("x", 100).end()
    report = check_file(written(tmp_path, events))
    assert not isinstance(report.trace, ColumnTrace)
    assert outcome(report) == outcome(check(events))


def test_the_command_judges_a_long_trace_as_columns(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, wild(11))
    short = CliRunner().invoke(drill, ["check", str(path), "--json"])
    monkeypatch.setattr(files, "LISTED_BYTES_MAX", 0)
    long = CliRunner().invoke(drill, ["check", str(path), "--json"])
    told = [json.loads(one.output) | {"trace_sha256": None} for one in (short, long)]
    assert told[0] == told[1]
    assert (short.exit_code, long.exit_code) == (1, 1)


def test_chunks_may_end_anywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    events = wild(3)
    path = written(tmp_path, events)
    whole = facts(check_file(path, listed_bytes_max=0))
    for size in (7, 100, 1_000):
        monkeypatch.setattr(intake, "CHUNK_BYTES", size)
        assert facts(check_file(path, listed_bytes_max=0)) == whole
    path.write_text(path.read_text().rstrip("\n"))
    assert facts(check_file(path, listed_bytes_max=0)) == whole


@pytest.mark.parametrize(
    ("line", "number"), [("x", 3), ("[]", 3), ('{"event":"end"}', 3), ("{},{}", 3), ("", 3)]
)
def test_a_bad_line_is_named_by_its_number(line: str, number: int, tmp_path: Path) -> None:
    lines = [json.dumps(event) for event in Book().put("x", 100).end()]
    lines.insert(number - 1, line)
    path = tmp_path / "trace.jsonl"
    path.write_text("\n".join(lines))
    with pytest.raises(TraceError, match=f"line {number} is not"):
        check_file(path, listed_bytes_max=0)


def test_a_line_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(intake, "CHUNK_BYTES", 64)
    monkeypatch.setattr(intake, "LINE_BYTES_MAX", 200)
    path = written(tmp_path, Book().put("x" * 300, 100).end())
    with pytest.raises(TraceError, match="longer than 200"):
        check_file(path, listed_bytes_max=0)


def hide(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    real = builtins.__import__

    def absent(wanted: str, *arguments: Any, **options: Any) -> Any:
        if wanted == name:
            raise ImportError(wanted)
        return real(wanted, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", absent)


def test_without_numpy_a_long_trace_is_refused_with_what_to_install(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, Book().put("x", 100).end())
    hide(monkeypatch, "numpy")
    with pytest.raises(TraceError, match="pip install numpy"):
        check_file(path, listed_bytes_max=0)
    assert check_file(path).state_of("complete") == HOLDS


def test_without_orjson_the_standard_library_reads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = written(tmp_path, wild(5))
    fast = facts(check_file(path, listed_bytes_max=0))
    hide(monkeypatch, "orjson")
    assert facts(check_file(path, listed_bytes_max=0)) == fast


def test_an_empty_file_is_no_trace(tmp_path: Path) -> None:
    path = tmp_path / "empty"
    path.write_text("")
    with pytest.raises(TraceError, match="first line"):
        check_file(path, listed_bytes_max=-1)


def test_a_wrong_column_is_found_by_the_comparison(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The comparison itself must be able to fail."""
    book = Book({"stale_read_ms_max": 1}).put("x", 100)
    events = book.get("x", 400, "absent", frame=frame("euw", 100), outcome=content("x")).end()
    path = written(tmp_path, events)
    assert facts(check_file(path, listed_bytes_max=0)) == facts(check(events))
    monkeypatch.setitem(intake._RESULT, "absent", intake._RESULT["present"])
    assert facts(check_file(path, listed_bytes_max=0)) != facts(check(events))
