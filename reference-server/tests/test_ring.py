"""The bounded log of raw bytes: what it keeps, what it lets go, and what a crash leaves."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from fractal_lba_server.store.ring import RingLog

ENTRY_HEAD = 16


def test_entries_come_back_in_order_also_after_a_restart(tmp_path: Path) -> None:
    ring = RingLog(tmp_path, max_bytes=10_000)
    ring.append([b"one", b""], received_ns=1, sync=True)
    ring.append([b"two"], received_ns=2, sync=False)
    ring.close()
    again = RingLog(tmp_path, max_bytes=10_000)
    again.append([b"three"], received_ns=3, sync=True)
    assert list(again.entries()) == [(1, b"one"), (1, b""), (2, b"two"), (3, b"three")]
    again.close()


@settings(max_examples=40, deadline=None)
@given(bodies=st.lists(st.binary(min_size=1, max_size=200), min_size=1, max_size=200))
def test_the_newest_are_kept_within_the_bound(bodies: list[bytes]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        ring = RingLog(Path(folder), max_bytes=2_000)
        for number, body in enumerate(bodies):
            ring.append([body], received_ns=number, sync=False)
        kept = [body for _, body in ring.entries()]
        size = sum(path.stat().st_size for path in Path(folder).iterdir())
        ring.close()
    assert kept == bodies[len(bodies) - len(kept) :]
    assert size <= 2_000
    assert sum(len(body) + ENTRY_HEAD for body in kept) > 500 or kept == bodies


def test_a_torn_entry_ends_its_file(tmp_path: Path) -> None:
    ring = RingLog(tmp_path, max_bytes=10_000)
    ring.append([b"whole", b"torn"], received_ns=7, sync=True)
    ring.close()
    path = tmp_path / "a.log"
    path.write_bytes(path.read_bytes()[:-1])
    again = RingLog(tmp_path, max_bytes=10_000)
    assert list(again.entries()) == [(7, b"whole")]
    again.close()
