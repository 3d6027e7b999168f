"""Records from the logs: our own and the mirrors, in any order, what is gone left empty."""

from __future__ import annotations

import queue
from pathlib import Path
from typing import Any

import pytest
from tier_parts import HOME, key_of, stored_of

from fractal_lba_server.core.ingest_events import FrameSynced
from fractal_lba_server.core.segment import encode_frame
from fractal_lba_server.store.data_dir import DataDir
from fractal_lba_server.store.tiers.protocols import TierUnavailableError, WarmRow
from fractal_lba_server.store.tiers.wal_records import read_records
from fractal_lba_server.store.wal import Wal, segment_paths


def row(seq: int, region: str = "eu1") -> WarmRow:
    """Make a row of warm whose record stands in a log."""
    key = key_of(seq)
    stored = stored_of(key, seq)._replace(origin=HOME._replace(region=region))
    return WarmRow(seq, key, stored, None, None, has_ended=False)


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Write twenty frames of our own, in several segments, and a mirror of them."""
    opened = DataDir.open(tmp_path / "data", region="eu1")
    said: queue.SimpleQueue[Any] = queue.SimpleQueue()
    wal = Wal(opened.wal, notify=said.put, segment_bytes=1_000)
    wal.start()
    for seq in range(1, 21):
        wal.append([(seq, encode_frame(seq, seq << 16, b"{}", f"record {seq}".encode() * 9))])
        assert said.get(timeout=30) == FrameSynced(seq)
    wal.stop()
    mirror = opened.path / "peers" / "us1" / "open"
    mirror.mkdir(parents=True)
    for path in segment_paths(opened.wal):
        (mirror / path.name).write_bytes(path.read_bytes())
    opened.close()
    return opened.path


def record(seq: int) -> bytes:
    return f"record {seq}".encode() * 9


def test_records_are_found_in_any_order_and_in_every_stream(data: Path) -> None:
    assert len(segment_paths(data / "wal" / "open")) > 1
    rows = [row(17), row(3), row(4, "us1"), row(20), row(1, "us1"), row(9, "ap1")]
    expected = [record(17), record(3), record(4), record(20), record(1), b""]
    assert read_records(data, rows) == expected
    assert read_records(data, []) == []


def test_record_beyond_the_log_is_left_empty(data: Path) -> None:
    assert read_records(data, [row(20), row(21)]) == [record(20), b""]


def test_damaged_log_is_said(data: Path) -> None:
    path = segment_paths(data / "wal" / "open")[0]
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-200])
    with pytest.raises(TierUnavailableError, match="eu1/open"):
        read_records(data, [row(20), row(1)])
