"""Read what a region holds, from the files under it and past all of its code.

The index is opened read-only beside the running server; what it holds is compared between
regions by a digest of its own, so that a wrong digest of the server cannot hide a difference.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path
from typing import Any, NamedTuple

from .trace import TraceWriter

_HELD = """
SELECT t.id, i.pcs_id, s.region, s.placement, o.hlc, o.content, o.outcome
FROM ids AS i JOIN outcomes AS o USING (number)
JOIN streams AS s ON s.number = o.stream JOIN tenants AS t ON t.number = i.tenant
"""
_OVERRIDDEN = """
SELECT t.id, o.pcs_id, s.region, s.placement, o.hlc, o.content, o.outcome
FROM overridden AS o JOIN streams AS s ON s.number = o.stream
JOIN tenants AS t ON t.number = o.tenant
"""


OF_NODE = "--"
"""Between the placement and the process in the name of a stream (spec/shipping.md)."""


class Row(NamedTuple):
    """One frame that a region keeps under an id."""

    key: str
    placement: str
    frame: str
    hlc_ms: int
    content: str
    outcome: str | None
    """None where the outcome itself is kept elsewhere, in a cold tier."""


class State(NamedTuple):
    """What a region holds: the frames that stand, and those that do not."""

    standing: list[Row]
    overridden: list[Row]


def read_state(data: Path) -> State:
    """Read the index of a data directory; one without an index holds nothing."""
    path = data / "index.sqlite"
    if not path.exists():
        return State([], [])
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None)
    with contextlib.closing(connection):
        connection.execute("BEGIN")  # both look-ups see one moment
        return State(list(_rows(connection, _HELD)), list(_rows(connection, _OVERRIDDEN)))


def _rows(connection: sqlite3.Connection, query: str) -> Iterator[Row]:
    for tenant, raw, region, placement, hlc, content, outcome in connection.execute(query):
        yield Row(
            key=f"{bytes(tenant).decode()}/{bytes(raw).hex()}",
            placement=bytes(placement).decode().partition(OF_NODE)[0],
            frame=f"{bytes(region).decode()}:{hlc:016x}.{bytes(raw).hex()[:8]}",
            hlc_ms=hlc >> 16,
            content=bytes(content).decode()[:16],
            outcome=sha256(outcome).hexdigest()[:16] if outcome else None,
        )


def digests_of(state: State, *, until_ms: int | None = None) -> dict[str, tuple[str, int]]:
    """Give by placement a digest of what stands and its count; of what was written by a time.

    First write wins, so what stands of the frames up to a time does not change any more once
    all of them have arrived, whatever is written later.
    """
    found: dict[str, list[Row]] = {}
    for row in state.standing:
        if until_ms is None or row.hlc_ms <= until_ms:
            found.setdefault(row.placement, []).append(row)
    return {placement: (_digest(rows), len(rows)) for placement, rows in sorted(found.items())}


def _digest(rows: list[Row]) -> str:
    lines = sorted(f"{row.key} {row.frame} {row.content}\n" for row in rows)
    return sha256("".join(lines).encode()).hexdigest()


def write_census(trace: TraceWriter, name: str, region: str, state: State, at_ns: int) -> None:
    """Write what a region held at a moment as lines of a trace."""
    under: dict[str, list[Row]] = {}
    for row in state.overridden:
        under.setdefault(row.key, []).append(row)
    trace.write("census", at_ns=at_ns, census=name, region=region, keys=len(state.standing))
    for row in state.standing:
        trace.write(
            "held", at_ns=at_ns, census=name, region=region, key=row.key, frame=row.frame,
            content=row.content, outcome=row.outcome, placement=row.placement,
            overridden=[_lower(row, other) for other in under.get(row.key, ())],
        )  # fmt: skip


def _lower(row: Row, other: Row) -> dict[str, Any]:
    kind = "duplicate" if other.content == row.content else "displaced"
    return {"frame": other.frame, "content": other.content, "kind": kind}
