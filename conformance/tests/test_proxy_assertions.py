"""Each assertion about a whole run has a record here that breaks it, and one that does not."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest
import yaml

from flk_conformance.places import root_of
from flk_conformance.proxy.assertions import Assessment, Expected, assess, grouped, table
from flk_conformance.proxy.contract import Contract, Violation

SPEC = root_of("spec/openapi.yaml") / "spec" / "openapi.yaml"
SECOND = 1_000_000_000
KEY = "0" * 64
NOW, LATER = "Sun, 06 Nov 1994 08:49:37 GMT", "Sun, 06 Nov 1994 08:49:39 GMT"
Line = dict[str, Any]


def attempt(
    number: int | None = None, *, at_s: float = 0.0, status: int | None = 200, body: bytes = b"one",
    key: str | None = KEY, wait: str | None = None, case: str = "c", target: str = "/v1/pcs/submit",
    date: str | None = None, method: str = "POST", **headers: str,
) -> Line:  # fmt: skip
    """Give one line of a record: attempt `number`, answered a tenth of a second later."""
    rows = [[name.replace("_", "-"), value] for name, value in headers.items()]
    rows += [["idempotency-key", key]] if key else []
    rows += [["X-Retry-Attempt", str(number)]] if number is not None else []
    at_ns = round(at_s * SECOND)
    line: Line = {
        "type": "exchange", "exchange": 1, "connection": 1, "case": case, "at_ns": at_ns,
        "sent_ns": at_ns + 1, "violations": [],
        "request": {"method": method, "target": target, "headers": rows, "bytes": len(body),
                    "sha256": hashlib.sha256(body).hexdigest(), "body": "", "whole": True},
    }  # fmt: skip
    if status is not None:
        waits = [["Retry-After", wait]] if wait else []
        waits += [["Date", date]] if date else []
        line["answered_ns"] = at_ns + SECOND // 10
        line["answer"] = {"status": status, "headers": waits, "sha256": "", "body": "", "bytes": 0}
    return line


def judged(
    folder: Path, lines: Sequence[Line], expected: Expected | None = None, *, clock: str = "real",
    footer: bool = True, spec: Path = SPEC,
) -> Assessment:  # fmt: skip
    rows: list[Line] = [{"type": "header", "clock": clock}]
    rows += [{**line, "exchange": number} for number, line in enumerate(lines, 1)]
    rows += [{"type": "footer", "exchanges": len(lines), "violations": 0}] if footer else []
    path = folder / "run.ndjson"
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return assess(path, spec, expected)


GOOD = {
    "one call": [attempt()],
    "three attempts": [attempt(status=503), attempt(1, at_s=1, status=None), attempt(2, at_s=2)],
    "two calls of one record": [attempt(), attempt(at_s=1)],
    "two calls at once": [
        attempt(status=503), attempt(at_s=0.1, status=503), attempt(1, at_s=1), attempt(1, at_s=2),
    ],
    "two cases": [attempt(case="a", status=503), attempt(case="b", status=503),
                  attempt(1, at_s=1, case="b"), attempt(1, at_s=1, case="a")],
    "waits as asked": [attempt(status=503, wait="2"), attempt(1, at_s=2.1)],
    "waits for a date": [
        attempt(status=503, wait=LATER, date=NOW),
        attempt(1, at_s=2.2),
    ],
    "unreadable wait": [attempt(status=503, wait="soon"), attempt(1)],
    "reads": [attempt(key=None, method="GET", target="/v1/pcs/a", body=b"", status=503),
              attempt(1, key=None, method="GET", target="/v1/pcs/a", body=b"")],
    "probes": [attempt(key=None, method="GET", target="/health", body=b"") for _ in range(3)],
    "what no client sends": [attempt(7, case="raw:suite"), attempt(7, case="raw:suite", body=b"2")],
}  # fmt: skip


@pytest.mark.parametrize("name", GOOD)
def test_right_run_has_no_violation(name: str, tmp_path: Path) -> None:
    assert judged(tmp_path, GOOD[name]).violations == []


PLANTED = {
    "another body": ("attempt-body", [attempt(status=503), attempt(1, at_s=1, body=b"two")]),
    "another key": ("attempt-number", [attempt(status=503), attempt(1, at_s=1, key="1" * 64)]),
    "a new key for the same body": ("attempt-key", [attempt(), attempt(at_s=1, key="1" * 64)]),
    "another tenant": (
        "attempt-header",
        [attempt(status=503, x_tenant_id="a"), attempt(1, x_tenant_id="b", at_s=1)],
    ),
    "another level": (
        "attempt-header", [attempt(status=503, pcs_min_ack="durable"), attempt(1, at_s=1)],
    ),
    "counts from two": ("attempt-number", [attempt(status=503), attempt(2, at_s=1)]),
    "counts from zero": ("attempt-number", [attempt(status=503), attempt(0, at_s=1)]),
    "counts in words": (
        "attempt-number", [attempt(status=503), attempt(at_s=1, x_retry_attempt="one")],
    ),
    "counts twice": (
        "attempt-number", [attempt(status=503), attempt(1, at_s=1), attempt(1, at_s=2)],
    ),
    "leaves one out": (
        "attempt-number", [attempt(status=503), attempt(1, at_s=1, status=503), attempt(3, at_s=2)],
    ),
    "too early": ("retry-after", [attempt(status=503, wait="2"), attempt(1, at_s=1.5)]),
    "too early after 429": ("retry-after", [attempt(status=429, wait="60"), attempt(1, at_s=8)]),
    "before the date": (
        "retry-after",
        [attempt(status=503, wait=LATER, date=NOW), attempt(1, at_s=1)],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", PLANTED)
def test_planted_violation_is_found(name: str, tmp_path: Path) -> None:
    rule, lines = PLANTED[name]
    found = judged(tmp_path, lines).violations
    assert rule in {one.rule for one in found}
    assert {one.side for one in found} == {"client"}
    assert all(one.exchange for one in found)


def test_waits_of_virtual_clocks_are_not_judged_and_that_is_said(tmp_path: Path) -> None:
    rule, lines = PLANTED["too early"]
    found = judged(tmp_path, lines, clock="virtual")
    assert rule not in {one.rule for one in found.violations}
    assert "not judged: waits in run.ndjson" in found.summary()


def test_violations_of_exchanges_are_taken_over(tmp_path: Path) -> None:
    row = Violation("server", "maximum", "too large", "/r", exchange=1).members()
    found = judged(tmp_path, [{**attempt(), "violations": [row]}])
    assert [(one.side, one.rule, one.pointer) for one in found.violations] == [
        ("server", "maximum", "/r")
    ]


def test_record_that_broke_off_is_a_violation(tmp_path: Path) -> None:
    found = judged(tmp_path, [attempt()], footer=False)
    assert [one.rule for one in found.violations] == ["record"]


def test_region_outside_the_list(tmp_path: Path) -> None:
    inside = Expected(regions=frozenset({"eu1"}), region="eu1")
    outside = Expected(regions=frozenset({"eu1"}), region="us1")
    assert judged(tmp_path, [attempt()], inside).violations == []
    assert [one.rule for one in judged(tmp_path, [attempt()], outside).violations] == ["region"]


# --- coverage ------------------------------------------------------------------------------------


def document(folder: Path, **operation: Any) -> Path:
    """Write a small document with one operation, 200 and 503."""
    responses = {
        "200": {"description": "ok"},
        "503": {"description": "no"},
        "default": {"description": "?"},
    }
    path = {"get": {"operationId": "getIt", "responses": responses, "security": [{}], **operation}}
    spec = folder / "openapi.yaml"
    (folder / "schemas").mkdir(exist_ok=True)
    (folder / "schemas" / "problem.json").write_text("{}")
    whole = {
        "openapi": "3.1.0", "info": {"title": "t", "version": "1"},
        "servers": [{"url": "http://127.0.0.1"}], "paths": {"/it": path},
    }  # fmt: skip
    spec.write_text(yaml.safe_dump(whole))
    return spec


def seen(*statuses: int) -> list[Line]:
    return [
        attempt(status=status, method="GET", target="/it", key=None, body=b"")
        for status in statuses
    ]


def test_status_that_was_not_seen_is_missing(tmp_path: Path) -> None:
    spec = document(tmp_path)
    found = judged(tmp_path, seen(200), Expected(coverage=True), spec=spec)
    assert found.missing == [("getIt", "503")]
    assert [(one.rule, one.operation) for one in found.violations] == [("coverage", "getIt")]
    assert judged(tmp_path, seen(200, 503), Expected(coverage=True), spec=spec).violations == []


def test_missing_status_without_the_demand_is_only_counted(tmp_path: Path) -> None:
    found = judged(tmp_path, seen(200), spec=document(tmp_path))
    assert found.violations == []
    assert "1 operations x statuses seen, 1 missing" in found.summary()


def test_status_that_is_not_reachable_is_listed_with_its_reason(tmp_path: Path) -> None:
    responses = {
        "200": {"description": "ok"},
        "503": {"description": "no", "x-not-reachable": "it never sleeps"},
    }
    spec = document(tmp_path, responses=responses)
    found = judged(tmp_path, seen(200), Expected(coverage=True), spec=spec)
    assert found.violations == []
    assert found.excused == [("getIt", "503", "it never sleeps")]
    assert "1 not reachable" in found.summary()


def test_answer_of_a_fault_counts_unless_it_must_be_the_servers(tmp_path: Path) -> None:
    spec = document(tmp_path)
    lines = [*seen(200), {**seen(503)[0], "fault": "status"}]
    assert judged(tmp_path, lines, Expected(coverage=True), spec=spec).missing == []
    own = Expected(coverage=True, injected=False)
    assert judged(tmp_path, lines, own, spec=spec).missing == [("getIt", "503")]


def test_coverage_counts_over_several_records(tmp_path: Path) -> None:
    spec = document(tmp_path)
    paths = []
    for name, status in (("a", 200), ("b", 503)):
        (tmp_path / name).mkdir()
        judged(tmp_path / name, seen(status), spec=spec)
        paths.append(tmp_path / name / "run.ndjson")
    assert assess(paths, spec, Expected(coverage=True)).violations == []


def test_table_shows_what_was_seen(tmp_path: Path) -> None:
    spec = document(tmp_path)
    found = judged(tmp_path, seen(200, 200), spec=spec)
    assert table(found, Contract(spec)).split() == ["getIt", "200:2", "503:-"]


def test_equal_violations_are_one_line(tmp_path: Path) -> None:
    found = [Violation("client", "r", "m", exchange=n) for n in range(1, 5)]
    assert grouped([*found, Violation("server", "r", "m", exchange=9)]) == [
        "client: r: : m (exchange 1) and 3 more",
        "server: r: : m (exchange 9)",
    ]
