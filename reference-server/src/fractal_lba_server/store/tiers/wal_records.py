"""Reads the bytes of records from the logs, for objects that keep them beside the outcomes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ..data_dir import streams_in
from ..wal import WalCorruptError, read_frames
from .protocols import TierUnavailableError, WarmRow


def read_records(data: Path, rows: Sequence[WarmRow]) -> list[bytes]:
    """Give the record of each row, b"" where no log has it any more. For a thread of its own."""
    folders = {(stream.region, stream.placement): stream.path for stream in streams_in(data)}
    wanted: dict[tuple[str, str], dict[int, int]] = {}
    for place, row in enumerate(rows):
        origin = row.stored.origin
        wanted.setdefault((origin.region, origin.placement), {})[row.stored.seq] = place
    found = [b""] * len(rows)
    for stream, places in wanted.items():
        if stream not in folders:
            continue
        last = max(places)
        try:
            for _, frame in read_frames(folders[stream], min(places)):
                if frame.seq in places:
                    found[places[frame.seq]] = frame.body
                if frame.seq >= last:
                    break
        except (WalCorruptError, OSError) as error:
            raise TierUnavailableError(f"the log of {'/'.join(stream)}: {error}") from error
    return found
