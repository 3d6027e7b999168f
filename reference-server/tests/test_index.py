"""The index holds what was applied, all of a batch or nothing, also after it failed once."""

from __future__ import annotations

import hashlib
import sqlite3
from pathlib import Path

import pytest

from fractal_lba_server.core.first_write import Apply, Key, Origin, Stored
from fractal_lba_server.store.sqlite import Index

ORIGIN = Origin("loc", "open", 1)


def row(seq: int, tenant: str = "acme", kid: str = "acme-1", size: int = 300) -> Apply:
    """Make an outcome of its own id."""
    digest = hashlib.sha256(str(seq).encode()).hexdigest()
    return Apply((tenant, digest), Stored(seq, digest, 200, b"x" * size, ORIGIN, seq), kid)


def key(seq: int, tenant: str = "acme") -> Key:
    """Name that id."""
    return row(seq, tenant).key


def test_outcomes_are_found_after_they_were_applied(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    assert index.lookup(key(1)) is None
    assert (index.applied("loc", "open"), index.apply([])) == (0, 0)
    assert index.apply([row(1), row(2), row(3, "beta", "beta-1")]) == 3
    assert index.lookup(key(1)) == row(1).stored
    assert index.lookup(key(3)) is None, "an id belongs to its tenant"
    assert index.lookup(key(3, "beta")) == row(3).stored
    index.close()
    again = Index(tmp_path / "index.sqlite")
    assert (again.applied("loc", "open"), again.count()) == (3, 3)
    assert again.kids == {"acme-1", "beta-1"}
    assert again.lookup(key(3, "beta")) == row(3).stored
    again.close()


def test_first_outcome_of_an_id_stays(tmp_path: Path) -> None:
    index = Index(tmp_path / "index.sqlite")
    index.apply([row(1), row(2)])
    index.apply([row(1), row(2)])
    later = Apply(key(1), Stored(3, "ff" * 32, 202, b"later", ORIGIN, 3), "acme-1")
    index.apply([later])
    assert index.lookup(key(1)) == row(1).stored
    assert (index.applied("loc", "open"), index.count()) == (3, 2)
    index.close()


def test_batch_that_failed_leaves_nothing_behind_but_its_second_try(tmp_path: Path) -> None:
    path = tmp_path / "index.sqlite"
    index = Index(path)
    (pages,) = index._writer.execute("PRAGMA page_count").fetchone()
    index._writer.execute(f"PRAGMA max_page_count={pages + 2}")
    batch = [row(seq, "acme", "acme-1", size=4_000) for seq in range(1, 9)]
    with pytest.raises(sqlite3.Error, match="full"):
        index.apply(batch)
    assert (index.applied("loc", "open"), index.kids) == (0, frozenset())
    assert index.lookup(key(1)) is None
    index._writer.execute("PRAGMA max_page_count=1000000")
    assert index.apply(batch) == 8
    index.close()
    again = Index(path)
    assert again.kids == {"acme-1"}
    # Another tenant comes after the restart: it must not be given the number of the first.
    assert again.apply([row(9, "beta", "beta-1")]) == 1
    for one in (*batch, row(9, "beta")):
        assert again.lookup(one.key) == one.stored
        other = "beta" if one.key[0] == "acme" else "acme"
        assert again.lookup((other, one.key[1])) is None
    again.close()
