"""The bare group-commit loop: what the disk alone allows, measured around a latency run."""

from __future__ import annotations

import os
import time
from pathlib import Path

FRAME_BYTES = 1_150
FILE_BYTES = 16 * 1024 * 1024


def commit_p99_ms(folder: Path, *, frames_per_commit: int, commits: int = 2_000) -> float:
    """Give the 99th percentile of pwrite + fdatasync into zero-filled space, in milliseconds."""
    path = folder / "bare-commit"
    fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        os.pwrite(fd, bytes(FILE_BYTES), 0)
        os.fsync(fd)
        data = b"x" * (FRAME_BYTES * frames_per_commit)
        times, offset = [], 0
        for _ in range(commits):
            if offset + len(data) > FILE_BYTES:
                offset = 0
            start = time.perf_counter()
            os.pwrite(fd, data, offset)
            os.fdatasync(fd)
            times.append(time.perf_counter() - start)
            offset += len(data)
    finally:
        os.close(fd)
        path.unlink()
    return sorted(times)[int(len(times) * 0.99)] * 1e3
