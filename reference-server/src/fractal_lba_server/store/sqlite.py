"""The index: a SQLite view that follows the logs and answers look-ups.

Nothing is acknowledged because it is here; whatever is missing after a crash is read again
from the logs, our own and the mirrors of other regions. Ids are kept apart from outcomes: the
ids are a B-tree in random order, which should stay small, the outcomes an append-only table in
the order in which they came. Which outcome of an id stands is decided before (core/ingest.py);
an outcome that does not stand is kept in `overridden`.
"""

from __future__ import annotations

import contextlib
import sqlite3
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby
from operator import itemgetter
from pathlib import Path
from typing import Any, Final

import orjson

from ..core.first_write import Apply, Key, Origin, Stored
from .data_dir import DataDirError, sync
from .filter import IdFilter

CACHE_KIB: Final = 65_536
"""Page cache of each connection."""

CHECKPOINT_PAGES: Final = 1_000
"""SQLite folds its own journal back after this many pages; more makes the pause longer."""

SLICE_ROWS: Final = 64
"""Rows that are made ready before other threads get their turn: about 0.3 ms."""

FILTER_ROWS: Final = 4_096
"""Ids that are read at a time to fill the filter."""

LAYOUT: Final = 2
"""Version of the tables; an index of another version is removed and built anew from the logs."""

_SCHEMA: Final = f"""
CREATE TABLE IF NOT EXISTS applied(
    region BLOB, placement BLOB, seq INTEGER NOT NULL, hlc INTEGER NOT NULL,
    PRIMARY KEY(region, placement)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS streams(
    number INTEGER PRIMARY KEY, region BLOB NOT NULL, placement BLOB NOT NULL,
    region_epoch INTEGER NOT NULL, UNIQUE(region, placement, region_epoch)
);
CREATE TABLE IF NOT EXISTS tenants(number INTEGER PRIMARY KEY, id BLOB UNIQUE NOT NULL);
CREATE TABLE IF NOT EXISTS kids(id BLOB PRIMARY KEY) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS ids(
    tenant INTEGER, pcs_id BLOB, number INTEGER NOT NULL, PRIMARY KEY(tenant, pcs_id)
) WITHOUT ROWID;
CREATE TABLE IF NOT EXISTS outcomes(
    number INTEGER PRIMARY KEY, stream INTEGER NOT NULL, seq INTEGER NOT NULL,
    hlc INTEGER NOT NULL, content BLOB NOT NULL, status INTEGER NOT NULL, outcome BLOB NOT NULL
);
CREATE TABLE IF NOT EXISTS overridden(
    tenant INTEGER, pcs_id BLOB, stream INTEGER, seq INTEGER, hlc INTEGER NOT NULL,
    content BLOB NOT NULL, status INTEGER NOT NULL, outcome BLOB NOT NULL,
    PRIMARY KEY(tenant, pcs_id, stream, seq)
) WITHOUT ROWID;
PRAGMA user_version={LAYOUT};
"""
_LOOKUP: Final = """
SELECT o.stream, o.seq, o.hlc, o.content, o.status, o.outcome
FROM ids JOIN outcomes AS o USING (number) WHERE ids.tenant = ? AND ids.pcs_id = ?
"""
_APPLIED: Final = "SELECT region, placement, seq FROM applied"
_OVERRIDDEN: Final = """
SELECT stream, seq, hlc, content, status, outcome FROM overridden
WHERE tenant = ? AND pcs_id = ? ORDER BY stream, seq
"""
# Where names are joined in, a row can be read on any connection, at any moment.
_ALL_OVERRIDDEN: Final = """
SELECT t.id, o.pcs_id, s.region, s.placement, s.region_epoch, o.seq, o.hlc, o.content, o.status,
       o.outcome
FROM overridden AS o JOIN tenants AS t ON t.number = o.tenant
     JOIN streams AS s ON s.number = o.stream
ORDER BY t.id, o.pcs_id, s.region, o.seq
"""
_STANDING: Final = """
SELECT t.id, i.pcs_id, s.region, s.placement, s.region_epoch, o.seq, o.hlc, o.content, o.status,
       o.outcome
FROM ids AS i JOIN outcomes AS o USING (number) JOIN tenants AS t ON t.number = i.tenant
     JOIN streams AS s ON s.number = o.stream
"""
_SCAN: Final = f"{_STANDING} ORDER BY i.tenant, i.pcs_id"
_BETWEEN: Final = f"""
{_STANDING} WHERE s.placement = ? AND o.hlc >= ? AND o.hlc < ?
ORDER BY o.hlc, t.id, i.pcs_id LIMIT ?
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
# A row is one text: numbers of fixed width, then the outcome. SQLite reads parts of it faster
# than it reads a second array.
_PUT_OUTCOMES: Final = """
INSERT OR IGNORE INTO outcomes
SELECT ?1 + key, ?2, CAST(substr(value, 68, 16) AS INTEGER), CAST(substr(value, 84, 20) AS INTEGER),
       CAST(substr(value, 1, 64) AS BLOB), CAST(substr(value, 65, 3) AS INTEGER),
       CAST(substr(value, 104) AS BLOB)
FROM json_each(?3)
"""
_OVERRIDE: Final = "INSERT OR REPLACE INTO overridden VALUES (?, ?, ?, ?, ?, ?, ?, ?)"
_PUT_ONE: Final = "INSERT OR REPLACE INTO outcomes VALUES (?, ?, ?, ?, ?, ?, ?)"

_Row = tuple[int, int, int, bytes, int, bytes]


@contextlib.contextmanager
def faults_named(path: Path) -> Iterator[None]:
    """Say of an error of SQLite which index it is about, and what to do. Raises DataDirError."""
    try:
        yield
    except sqlite3.Error as error:
        text = f"{path}: {error}"
        if not isinstance(error, sqlite3.OperationalError):  # a lock, a right or space is no damage
            command = f"flk-server replay --rebuild --data {path.parent}"
            text += f"; the logs hold all that was in it: `{command}` makes it anew"
        raise DataDirError(text) from None


class Index:
    """Two connections: one thread applies, another looks up. Methods raise sqlite3.Error."""

    def __init__(
        self, path: Path, *, on_applied: Callable[[Sequence[Apply]], None] = lambda rows: None
    ) -> None:
        """Open an index, or make an empty one. Raises DataDirError."""
        self._path = path
        self._on_applied = on_applied
        self._filter = IdFilter()
        self._filter_is_whole = False
        with faults_named(path):
            self._open(path)

    def _open(self, path: Path) -> None:
        _remove_other_layouts(path)
        self._writer = _connect(path)
        self._writer.executescript(_SCHEMA)
        self._reader = _connect(path)
        rows = self._writer.execute("SELECT id, number FROM tenants").fetchall()
        self._tenants: dict[str, int] = {bytes(name).decode(): number for name, number in rows}
        kids = self._writer.execute("SELECT id FROM kids").fetchall()
        self.kids: frozenset[str] = frozenset(bytes(kid).decode() for (kid,) in kids)
        """Every key id that an outcome here was signed with."""
        streams = self._writer.execute("SELECT * FROM streams").fetchall()
        self._streams = {
            Origin(bytes(region).decode(), bytes(placement).decode(), region_epoch): number
            for number, region, placement, region_epoch in streams
        }
        self._origins = {number: origin for origin, number in self._streams.items()}
        self._applied = _applied(self._writer.execute(_APPLIED).fetchall())
        last = self._writer.execute("SELECT max(number) FROM outcomes").fetchone()
        self._next_number: int = (last[0] or 0) + 1
        latest = self._writer.execute("SELECT max(hlc) FROM applied").fetchone()
        self.last_hlc: int = latest[0] or 0
        """The largest hybrid time of all that is here: what comes now must be later."""
        some = self._writer.execute("SELECT 1 FROM overridden LIMIT 1").fetchone()
        self._has_overridden = some is not None

    def applied(self, region: str, placement: str) -> int:
        """Give the number up to which every outcome of a region's stream is here."""
        return self._applied.get((region, placement), 0)

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
        """Give the outcome that stands under an id, or None if the index holds none."""
        place = self._place(key)
        row = None if place is None else self._reader.execute(_LOOKUP, place).fetchone()
        return None if row is None else self._stored(row)

    def overridden(self, key: Key) -> tuple[Stored, ...]:
        """Give the outcomes of an id that do not stand."""
        if not self._has_overridden:
            return ()
        place = self._place(key)
        if place is None:
            return ()
        return tuple(self._stored(row) for row in self._reader.execute(_OVERRIDDEN, place))

    def _place(self, key: Key) -> tuple[int, bytes] | None:
        tenant, pcs_id = key
        raw = bytes.fromhex(pcs_id)
        if self._filter_is_whole and not self._filter.may_hold(pcs_id):
            return None
        number = self._tenants.get(tenant)
        return None if number is None else (number, raw)

    def _stored(self, row: _Row) -> Stored:
        stream, seq, hlc, content, status, outcome = row
        return Stored(seq, content.decode(), status, outcome, self._origins[stream], hlc)

    def between(
        self, low: int, high: int, *, placement: str, limit: int
    ) -> list[tuple[Key, Stored]]:
        """Give what stands of hybrid times from `low` up to and without `high`, in their order.

        Walks the whole table on a connection of its own: for a thread, where states differ.
        """
        connection = _connect(self._path)
        try:
            rows = connection.execute(_BETWEEN, (placement.encode(), low, high, limit)).fetchall()
        finally:
            connection.close()
        return [_entry(row) for row in rows]

    def all_overridden(self) -> list[tuple[Key, Stored]]:
        """Give every outcome that does not stand."""
        return [_entry(row) for row in self._reader.execute(_ALL_OVERRIDDEN)]

    def snapshot(self) -> Iterator[tuple[Key, Stored]]:
        """Give every id and the outcome that stands now, whatever is written while it is read."""
        return Snapshot(self._path).entries()

    # --- writing

    def apply(self, rows: Iterable[Apply]) -> int:
        """Put outcomes in, all or none; give how many came. What is here already is left alone.

        The rows of a stream follow one another, and what is here, without a gap: raises
        ValueError, because an id that is left out would be taken for a new one.
        """
        given = list(rows)
        applied = dict(self._applied)
        batch = [row for row in given if _advance(applied, row.stored)]
        if not batch:
            return len(given)
        writer = self._writer
        # What is kept in memory as well follows the commit: a batch may be rolled back.
        known = _Known(dict(self._tenants), dict(self._streams), self._next_number)
        writer.execute("BEGIN IMMEDIATE")
        try:
            for plain, group in groupby(batch, key=_is_plain):
                if plain:
                    self._put_all(list(group), known)
                else:
                    for row in group:
                        self._put_merged(row, known)
            last_hlc = max(self.last_hlc, *(row.stored.hlc for row in batch))
            self._put_facts(batch, applied, last_hlc)
            writer.execute("COMMIT")
        except sqlite3.Error:
            if writer.in_transaction:
                writer.execute("ROLLBACK")
            raise
        self._tenants, self._streams = known.tenants, known.streams
        self._on_applied(batch)  # before anybody can see that these rows are here
        self._next_number, self._applied = known.next_number, applied
        self.last_hlc = last_hlc
        self.kids |= {row.kid for row in batch}
        self._has_overridden |= not all(map(_is_plain, batch))
        return len(given)

    def _put_all(self, batch: Sequence[Apply], known: _Known) -> None:
        """Put outcomes of new ids in."""
        ids: list[tuple[str, bytes, int]] = []
        for origin, group in groupby(batch, key=lambda row: row.stored.origin):
            rows = list(group)
            first = known.next_number
            texts: list[bytes] = []
            for start in range(0, len(rows), SLICE_ROWS):
                self._take_slice(rows[start : start + SLICE_ROWS], first + start, ids, texts)
                time.sleep(0)  # lets waiting requests go first
            known.next_number += len(rows)
            text = b"[" + b",".join(texts) + b"]"
            self._writer.execute(_PUT_OUTCOMES, (first, self._stream(origin, known), text))
        ids.sort()  # neighbours share pages
        for tenant, part in groupby(ids, key=itemgetter(0)):
            _, raws, numbers = zip(*part, strict=True)
            number = self._tenant(tenant, known)
            self._writer.execute(_PUT_IDS, (number, b"".join(raws), orjson.dumps(numbers)))

    def _take_slice(
        self,
        rows: Sequence[Apply],
        first: int,
        ids: list[tuple[str, bytes, int]],
        texts: list[bytes],
    ) -> None:
        """Make a slice of a batch ready: ids to sort, outcomes as JSON text without brackets."""
        new = [
            (row.key[0], bytes.fromhex(row.key[1]), first + place) for place, row in enumerate(rows)
        ]
        self._filter.add(raw for _, raw, _ in new)
        ids += new
        parts = [
            f"{s.content}{s.status}{s.seq:016d}{s.hlc:020d}{s.outcome.decode()}"
            for _, s, *_ in rows
        ]
        texts.append(orjson.dumps(parts)[1:-1])

    def _put_merged(self, row: Apply, known: _Known) -> None:
        """Put an outcome in that met another one of its id."""
        raw = bytes.fromhex(row.key[1])
        self._filter.add((raw,))
        tenant = self._tenant(row.key[0], known)
        loser = row.replaced if row.wins else row.stored
        assert loser is not None
        stream = self._stream(loser.origin, known)
        values = (loser.seq, loser.hlc, loser.content.encode(), loser.status, loser.outcome)
        self._writer.execute(_OVERRIDE, (tenant, raw, stream, *values))
        if not row.wins:
            return
        winner, number = row.stored, known.next_number
        known.next_number += 1
        stream = self._stream(winner.origin, known)
        values = (winner.seq, winner.hlc, winner.content.encode(), winner.status, winner.outcome)
        self._writer.execute(_PUT_ONE, (number, stream, *values))
        self._writer.execute(
            "DELETE FROM outcomes WHERE number = "
            "(SELECT number FROM ids WHERE tenant = ? AND pcs_id = ?)",
            (tenant, raw),
        )
        self._writer.execute("INSERT OR REPLACE INTO ids VALUES (?, ?, ?)", (tenant, raw, number))

    def _put_facts(
        self, batch: Sequence[Apply], applied: dict[tuple[str, str], int], last_hlc: int
    ) -> None:
        new_kids = {row.kid for row in batch} - self.kids
        kids = [(kid.encode(),) for kid in new_kids]
        self._writer.executemany("INSERT OR IGNORE INTO kids VALUES (?)", kids)
        facts = [(r.encode(), p.encode(), seq, last_hlc) for (r, p), seq in applied.items()]
        self._writer.executemany("INSERT OR REPLACE INTO applied VALUES (?, ?, ?, ?)", facts)

    def _tenant(self, tenant: str, known: _Known) -> int:
        number = known.tenants.get(tenant)
        if number is None:
            row = (tenant.encode(),)
            self._writer.execute("INSERT OR IGNORE INTO tenants(id) VALUES (?)", row)
            found = self._writer.execute("SELECT number FROM tenants WHERE id = ?", row).fetchone()
            number = known.tenants[tenant] = int(found[0])
        return number

    def _stream(self, origin: Origin, known: _Known) -> int:
        number = known.streams.get(origin)
        if number is None:
            number = known.streams[origin] = max(known.streams.values(), default=0) + 1
            self._origins[number] = origin  # a look-up may meet it as soon as it is committed
            row = (number, origin.region.encode(), origin.placement.encode(), origin.region_epoch)
            self._writer.execute("INSERT INTO streams VALUES (?, ?, ?, ?)", row)
        return number

    def count(self) -> int:
        """Count the ids. Walks the whole table."""
        (found,) = self._reader.execute("SELECT count(*) FROM ids").fetchone()
        return int(found)

    def count_overridden(self) -> int:
        """Count the outcomes that do not stand."""
        (found,) = self._reader.execute("SELECT count(*) FROM overridden").fetchone()
        return int(found)

    def close(self) -> None:
        """Close both connections."""
        self._reader.close()
        self._writer.close()


class Snapshot:
    """One moment of an index, on a connection of its own."""

    def __init__(self, path: Path) -> None:
        self._connection = _connect(path)
        self._connection.execute("BEGIN")
        rows = self._connection.execute(_APPLIED).fetchall()  # fixes the moment
        self._applied = _applied(rows)

    def holds(self, stored: Stored) -> bool:
        """Tell whether the row of this frame was applied at that moment."""
        return stored.seq <= self._applied.get(stored.origin[:2], 0)

    def entries(self) -> Iterator[tuple[Key, Stored]]:
        """Give every id and the outcome that stood, tenant by tenant in order of the ids; once."""
        try:
            cursor = self._connection.execute(_SCAN)
            while rows := cursor.fetchmany(SLICE_ROWS):
                yield from map(_entry, rows)
        finally:
            self._connection.close()


def _entry(row: tuple[Any, ...]) -> tuple[Key, Stored]:
    tenant, raw, region, placement, region_epoch, seq, hlc, content, status, outcome = row
    origin = Origin(region.decode(), placement.decode(), region_epoch)
    return (tenant.decode(), raw.hex()), Stored(seq, content.decode(), status, outcome, origin, hlc)


def _applied(rows: list[tuple[bytes, bytes, int]]) -> dict[tuple[str, str], int]:
    return {(region.decode(), placement.decode()): seq for region, placement, seq in rows}


class _Known:
    """Numbers of tenants, streams and outcomes as a batch sees them."""

    __slots__ = ("next_number", "streams", "tenants")

    def __init__(
        self, tenants: dict[str, int], streams: dict[Origin, int], next_number: int
    ) -> None:
        self.tenants = tenants
        self.streams = streams
        self.next_number = next_number


def _is_plain(row: Apply) -> bool:
    return row.wins and row.replaced is None


def _advance(applied: dict[tuple[str, str], int], stored: Stored) -> bool:
    """Count a row of a stream; False if it is here already."""
    stream = stored.origin[:2]
    seq = applied.get(stream, 0)
    if stored.seq <= seq:
        return False
    if stored.seq != seq + 1:
        raise ValueError(f"row {stored.seq} of {'/'.join(stream)} leaves a gap after {seq}")
    applied[stream] = stored.seq
    return True


def layout_of(path: Path) -> int | None:
    """Give the layout of an index file; None if there is nothing in it."""
    if not path.exists():
        return None
    connection = sqlite3.connect(path)
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        (tables,) = connection.execute("SELECT count(*) FROM sqlite_master").fetchone()
    finally:
        connection.close()
    return int(version) if tables else None


def _remove_other_layouts(path: Path) -> None:
    """Remove an index of another version: the logs hold everything that was in it."""
    if layout_of(path) not in (None, LAYOUT):
        remove_index(path)


def remove_index(path: Path) -> None:
    """Remove an index with its journal, if it is there."""
    for part in path.parent.glob(f"{path.name}*"):
        part.unlink()


def put_in_place(new: Path, path: Path) -> None:
    """Put a closed index in the place of another one, which is given up; durable on return."""
    remove_index(path)  # a journal that stayed would be taken for that of the new one
    sync(new)
    new.rename(path)
    sync(path.parent)
