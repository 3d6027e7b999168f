"""Reads the frames of one stream with what they say: our own log, or the mirror of a peer's."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from ..core.facts import Facts, read_facts
from ..core.first_write import Origin
from ..core.segment import HEADER_BYTES, Frame, read_header
from .wal import read_frames


def stream_facts(
    directory: Path, *, region: str, placement: str, first_seq: int = 1
) -> Iterator[tuple[Path, Frame, Facts]]:
    """Give the frames from `first_seq` on, none left out; the header of a segment names its epoch.

    Raises WalCorruptError, or ValueError for a frame without facts.
    """
    last: Path | None = None
    origin = Origin(region, placement, 0)
    for path, frame in read_frames(directory, first_seq):
        if path is not last:
            with path.open("rb") as file:
                header = read_header(file.read(HEADER_BYTES))
            origin, last = origin._replace(region_epoch=header.region_epoch), path
        yield path, frame, read_facts(frame, origin)
