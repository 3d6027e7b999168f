"""What must hold of a whole run, found in its record.

Single exchanges were judged as they came (contract.py). Here are the rules that look at several:
the attempts of a call, the waits between them, the regions used, and whether every operation was
seen with every documented status.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

from .contract import RAW, Contract, Operation, Violation
from .record import read_record

SLACK_NS: Final = 5_000_000
"""How much earlier than `Retry-After` an attempt may seem, because two clocks are read."""

HTTP_DATE: Final = "%a, %d %b %Y %H:%M:%S GMT"
Line = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Expected:
    """What a run is held to beyond the rules that always hold."""

    coverage: bool = False
    regions: frozenset[str] | None = None
    """Regions that clients were allowed to use, where the upstream is one of several."""

    region: str = ""
    """The region of the upstream."""

    injected: bool = True
    """Whether answers of scripted faults count as seen."""


@dataclass(slots=True)
class Assessment:
    """What was found."""

    violations: list[Violation]
    exchanges: int
    seen: Counter[tuple[str, str]]
    missing: list[tuple[str, str]]
    excused: list[tuple[str, str, str]]
    retries: int = 0
    skipped: list[str] = field(default_factory=list)

    def summary(self) -> str:
        """Say in one line what was seen."""
        pairs = len(self.seen)
        excused = f", {len(self.excused)} not reachable" if self.excused else ""
        skipped = f"; not judged: {', '.join(self.skipped)}" if self.skipped else ""
        return (
            f"{self.exchanges} exchanges, {pairs} operations x statuses seen, "
            f"{len(self.missing)} missing{excused}, {self.retries} retries, "
            f"{len(self.violations)} violations{skipped}"
        )


def assess(
    records: Path | Sequence[Path], spec: Path, expected: Expected | None = None
) -> Assessment:
    """Read the records of a run and judge it; coverage counts over all of them."""
    expected = expected or Expected()
    contract = Contract(spec)
    paths = [records] if isinstance(records, Path) else list(records)
    found: list[Violation] = []
    skipped: list[str] = []
    exchanges: list[Line] = []
    retries = 0
    for path in paths:
        lines = list(read_record(path))
        mine = sorted((x for x in lines if x["type"] == "exchange"), key=lambda x: x["at_ns"])
        if not lines or lines[-1]["type"] != "footer":
            found.append(Violation("run", "record", f"{path.name} broke off: it has no footer"))
        virtual = bool(lines) and lines[0].get("clock") == "virtual"
        if virtual:
            skipped.append(f"waits in {path.name} (virtual clocks)")
        calls = list(_calls([x for x in mine if not _is_raw(x)], contract, found))
        found += [one for line in mine for one in _recorded(line)]
        found += [*_same_bytes(calls), *(() if virtual else _waited(calls))]
        retries += sum(len(call) - 1 for call in calls)
        exchanges += mine
    if expected.regions is not None and expected.region not in expected.regions:
        found += _outside((x for x in exchanges if not _is_raw(x)), expected.region)
    seen, missing, excused = _coverage(exchanges, contract, expected)
    if expected.coverage:
        found += [
            Violation("run", "coverage", f"status {status} was not seen", operation=name)
            for name, status in missing
        ]
    return Assessment(found, len(exchanges), seen, missing, excused, retries, skipped)


def _is_raw(line: Line) -> bool:
    return bool(line["case"].startswith(RAW))


def _recorded(line: Line) -> Iterator[Violation]:
    """Give the violations that were found in an exchange."""
    for row in line["violations"]:
        yield Violation(**row)


# --- the attempts of a call ----------------------------------------------------------------------


def _header(line: Line, name: str, side: str = "request") -> str | None:
    rows = line.get(side, {}).get("headers", ())
    return next((value for key, value in rows if key.lower() == name), None)


def _calls(
    lines: Iterable[Line], contract: Contract, found: list[Violation]
) -> Iterator[list[Line]]:
    """Group requests into calls by `Idempotency-Key`, target and `X-Retry-Attempt`.

    Attempt n of a call follows attempt n - 1 of the same case, key and target.
    """
    waiting: dict[tuple[str, str, str], list[list[Line]]] = {}
    calls: list[list[Line]] = []
    for line in lines:
        request = line["request"]
        operation = contract.named(request["method"], request["target"])
        if operation is None or operation.startswith(("getHealth", "getReadiness", "getLive")):
            continue
        key = (line["case"], request["target"], _header(line, "idempotency-key") or "")
        text = _header(line, "x-retry-attempt")
        if text is None:
            calls.append([line])
            waiting.setdefault(key, []).append(calls[-1])
            continue
        number = int(text) if text.isdecimal() and text[0] != "0" else 0
        call = next((one for one in waiting.get(key, ()) if len(one) == number), None)
        if call is None:
            message = f"X-Retry-Attempt {text} follows no attempt {number - 1} of this call"
            found.append(_of(line, "client", "attempt-number", message, operation))
        else:
            call.append(line)
    yield from calls


def _of(line: Line, side: str, rule: str, message: str, operation: str = "") -> Violation:
    return Violation(
        side, rule, message, operation=operation, case=line["case"], exchange=line["exchange"]
    )


def _same_bytes(calls: Iterable[list[Line]]) -> Iterator[Violation]:
    """Require one body and one tenant over all attempts of a call (retry 16)."""
    for first, *others in calls:
        for line in others:
            if line["request"]["sha256"] != first["request"]["sha256"]:
                text = "another body than in the first attempt"
                yield _of(line, "client", "attempt-body", text)
            for name in ("x-tenant-id", "pcs-min-ack"):
                if _header(line, name) != _header(first, name):
                    text = f"another {name} than in the first attempt"
                    yield _of(line, "client", "attempt-header", text)
    yield from _one_key(calls)


def _one_key(calls: Iterable[list[Line]]) -> Iterator[Violation]:
    """Require one `Idempotency-Key` for one body: it is the content (formats 12.2)."""
    keys: dict[tuple[str, str], str] = {}
    for first, *_ in calls:
        key = _header(first, "idempotency-key")
        if first["request"]["method"] != "POST" or not first["request"]["bytes"]:
            continue
        place = (first["request"]["sha256"], first["request"]["target"])
        if key is not None and keys.setdefault(place, key) != key:
            text = f"a second Idempotency-Key for the same body; the first was {keys[place]}"
            yield _of(first, "client", "attempt-key", text)


def _waited(calls: Iterable[list[Line]]) -> Iterator[Violation]:
    """Require every attempt to wait for the `Retry-After` of the one before it (retry 20)."""
    for call in calls:
        for before, after in pairwise(call):
            wait_ns = _asked_ns(before)
            if wait_ns is None or "answered_ns" not in before:
                continue
            early_ns = before["answered_ns"] + wait_ns - after["at_ns"]
            if early_ns > SLACK_NS:
                text = f"{early_ns / 1e6:.0f} ms before the end of Retry-After"
                yield _of(after, "client", "retry-after", text)


def _asked_ns(line: Line) -> int | None:
    text = _header(line, "retry-after", "answer")
    if text is None:
        return None
    if text.isdecimal():
        return int(text) * 1_000_000_000
    try:
        return _until_date_ns(text, _header(line, "date", "answer") or "")
    except ValueError:
        return None


def _until_date_ns(text: str, date: str) -> int:
    until, now = (datetime.strptime(t, HTTP_DATE).replace(tzinfo=UTC) for t in (text, date))
    return max(0, round((until - now).total_seconds() * 1e9))


def _outside(lines: Iterable[Line], region: str) -> Iterator[Violation]:
    """Forbid every request to a region outside the list (retry 27)."""
    for line in lines:
        yield _of(line, "client", "region", f"a request to {region or 'a server of no region'}")


# --- coverage ------------------------------------------------------------------------------------


def _coverage(
    lines: Iterable[Line], contract: Contract, expected: Expected
) -> tuple[Counter[tuple[str, str]], list[tuple[str, str]], list[tuple[str, str, str]]]:
    """Count operations x statuses; give those that are documented and were not seen."""
    seen: Counter[tuple[str, str]] = Counter()
    for line in lines:
        name = contract.named(line["request"]["method"], line["request"]["target"])
        counts = expected.injected or line.get("fault") != "status"
        if name is not None and "answer" in line and counts:
            seen[name, str(line["answer"]["status"])] += 1
    missing, excused = [], []
    for operation in contract.operations:
        for status in _documented(operation):
            pair = (operation.id, status)
            reason = operation.unreachable.get(status)
            if pair in seen:
                continue
            if reason is not None:
                excused.append((*pair, reason))
            else:
                missing.append(pair)
    return seen, missing, excused


def _documented(operation: Operation) -> list[str]:
    return [status for status in operation.statuses if status != "default"]


def table(found: Assessment, contract: Contract) -> str:
    """Write the matrix of operations and statuses."""
    rows = []
    for operation in contract.operations:
        cells = []
        for status in _documented(operation):
            count = found.seen[operation.id, status]
            mark = str(count) if count else "-"
            cells.append(f"{status}:{mark}")
        rows.append(f"{operation.id:18} {' '.join(cells)}")
    return "\n".join(rows)


def grouped(violations: Iterable[Violation]) -> list[str]:
    """Write violations, those that differ in nothing but where they were seen as one line."""
    rows: dict[tuple[str, ...], list[Violation]] = {}
    for one in violations:
        what = (one.side, one.rule, one.operation, one.media_type, one.pointer, one.message)
        rows.setdefault(what, []).append(one)
    return [
        str(found[0]) + (f" and {len(found) - 1} more" if len(found) > 1 else "")
        for found in rows.values()
    ]
