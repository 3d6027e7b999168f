"""The index: a SQLite view that follows the write-ahead log and answers look-ups.

Nothing is acknowledged because it is here; whatever is missing after a crash is read again
from the log. Ids are kept apart from outcomes: the ids are a B-tree in random order, which
should stay small, the outcomes an append-only table in the order of the log.
"""

from __future__ import annotations

import sqlite3
import time
from collections.abc import Iterable
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Final

import orjson

from ..core.facts import Key, Stored
from ..core.ingest import Apply
from .filter import IdFilter

CACHE_KIB: Final = 65_536
"""Page cache of each connection."""

CHECKPOINT_PAGES: Final = 1_000
"""SQLite folds its own journal back after this many pages; more makes the pause longer."""

SLICE_ROWS: Final = 64
"""Rows that are made ready before other threads get their turn: about 0.3 ms."""

FILTER_ROWS: Final = 4_096
"""Ids that are read at a time to fill the filter."""

_SCHEMA: Final = """
CREATE TABLE IF NOT EXISTS facts(name TEXT PRIMARY KEY, value INTEGER) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS tenants(number INTEGER PRIMARY KEY, id BLOB UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS kids(id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ids(
    tenant INTEGER, pcs_id BLOB, seq INTEGER NOT NULL, PRIMARY KEY(tenant, pcs_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outcomes(
    seq INTEGER PRIMARY KEY, content BLOB NOT NULL, status INTEGER NOT NULL, outcome BLOB NOT NULL
);
"""
_LOOKUP: Final = """
SELECT o.seq, o.content, o.status, o.outcome
FROM ids JOIN outcomes AS o USING (seq) WHERE ids.tenant = ? AND ids.pcs_id = ?
"""


def _connect(path: Path) -> sqlite3.Connection:
    connection = sqlite3.connect(path, check_same_thread=False, isolation_level=None)
    connection.execute("PRAGMA journal_mode=WAL")
    connection.execute("PRAGMA synchronous=NORMAL")
    connection.execute(f"PRAGMA wal_autocheckpoint={CHECKPOINT_PAGES}")
    connection.execute(f"PRAGMA cache_size=-{CACHE_KIB}")
    return connection


# One statement for a whole batch: SQLite then works on it without the interpreter, which a
# statement per row would take and let go of thousands of times on the path of every request.
_PUT_IDS: Final = """
INSERT OR IGNORE INTO ids SELECT ?1, substr(?2, 32 * key + 1, 32), value FROM json_each(?3)
"""
_PUT_OUTCOMES: Final = """
INSERT OR IGNORE INTO outcomes
SELECT ?1 + key, CAST(substr(value, 1, 64) AS BLOB), CAST(substr(value, 65, 3) AS INTEGER),
       CAST(substr(value, 68) AS BLOB)
FROM json_each(?2)
"""


class Index:
    """Two connections: one thread applies, another looks up. Methods raise sqlite3.Error."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._writer = _connect(path)
        self._writer.executescript(_SCHEMA)
        self._reader = _connect(path)
        self._filter = IdFilter()
        self._filter_is_whole = False
        rows = self._writer.execute("SELECT id, number FROM tenants").fetchall()
        self._tenants: dict[str, int] = {bytes(name).decode(): number for name, number in rows}
        kids = self._writer.execute("SELECT id FROM kids").fetchall()
        self.kids: frozenset[str] = frozenset(bytes(kid).decode() for (kid,) in kids)
        """Every key id that an outcome here was signed with."""
        found = self._writer.execute("SELECT value FROM facts WHERE name = 'applied'").fetchone()
        self.applied_seq: int = found[0] if found else 0
        """Every outcome up to this sequence number is here."""

    def fill_filter(self) -> None:
        """Read all ids once; until it is done every id is looked up. For a thread of its own."""
        connection = _connect(self._path)
        try:
            cursor = connection.execute("SELECT pcs_id FROM ids")
            while rows := cursor.fetchmany(FILTER_ROWS):
                self._filter.add(raw for (raw,) in rows)
        finally:
            connection.close()
        self._filter_is_whole = True

    def lookup(self, key: Key) -> Stored | None:
        """Give the outcome of an id, or None if the index does not hold it."""
        tenant, pcs_id = key
        if self._filter_is_whole and not self._filter.may_hold(pcs_id):
            return None
        number = self._tenants.get(tenant)
        if number is None:
            return None
        row = self._reader.execute(_LOOKUP, (number, bytes.fromhex(pcs_id))).fetchone()
        if row is None:
            return None
        seq, content, status, outcome = row
        return Stored(seq, content.decode(), status, outcome)

    def apply(self, rows: Iterable[Apply]) -> int:
        """Put outcomes in, all or none; give the last sequence number. Again is harmless.

        The rows follow one another, and what is here, without a gap: raises ValueError, because
        an id that is left out would be taken for a new one.
        """
        batch = list(rows)
        if not batch:
            return self.applied_seq
        first, last = batch[0].stored.seq, batch[-1].stored.seq
        if first > self.applied_seq + 1 or last - first != len(batch) - 1:
            held = self.applied_seq
            raise ValueError(f"{len(batch)} rows from {first} to {last} leave a gap after {held}")
        ids: list[tuple[str, bytes, int]] = []
        texts: list[bytes] = []
        for start in range(0, len(batch), SLICE_ROWS):
            self._take_slice(batch[start : start + SLICE_ROWS], ids, texts)
            time.sleep(0)  # lets waiting requests go first
        ids.sort()  # neighbours share pages
        last = max(last, self.applied_seq)
        writer = self._writer
        # What is kept in memory as well follows the commit: a batch may be rolled back.
        tenants, kids = dict(self._tenants), self.kids | {row.kid for row in batch}
        writer.execute("BEGIN IMMEDIATE")
        try:
            for tenant, group in groupby(ids, key=itemgetter(0)):
                _, raws, seqs = zip(*group, strict=True)
                number = self._tenant_number(tenants, tenant)
                writer.execute(_PUT_IDS, (number, b"".join(raws), orjson.dumps(seqs)))
            text = b"[" + b",".join(texts) + b"]"
            writer.execute(_PUT_OUTCOMES, (first, text))
            new_kids = [(kid.encode(),) for kid in kids - self.kids]
            writer.executemany("INSERT OR IGNORE INTO kids VALUES (?)", new_kids)
            writer.execute("INSERT OR REPLACE INTO facts VALUES ('applied', ?)", (last,))
            writer.execute("COMMIT")
        except sqlite3.Error:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            raise
        self._tenants, self.kids, self.applied_seq = tenants, kids, last
        return last

    def _take_slice(
        self, rows: list[Apply], ids: list[tuple[str, bytes, int]], texts: list[bytes]
    ) -> None:
        """Make a slice of a batch ready: ids to sort, outcomes as JSON text without brackets."""
        new = [(row.key[0], bytes.fromhex(row.key[1]), row.stored.seq) for row in rows]
        self._filter.add(raw for _, raw, _ in new)
        ids += new
        parts = [f"{s.content}{s.status}{s.outcome.decode()}" for _, s, _ in rows]
        texts.append(orjson.dumps(parts)[1:-1])

    def _tenant_number(self, tenants: dict[str, int], tenant: str) -> int:
        number = tenants.get(tenant)
        if number is None:
            row = (tenant.encode(),)
            self._writer.execute("INSERT OR IGNORE INTO tenants(id) VALUES (?)", row)
            found = self._writer.execute("SELECT number FROM tenants WHERE id = ?", row).fetchone()
            number = tenants[tenant] = int(found[0])
        return number

    def count(self) -> int:
        """Count the ids. Walks the whole table."""
        (found,) = self._reader.execute("SELECT count(*) FROM ids").fetchone()
        return int(found)

    def close(self) -> None:
        """Close both connections."""
        self._reader.close()
        self._writer.close()
