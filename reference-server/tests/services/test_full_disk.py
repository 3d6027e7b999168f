"""A disk that is really full: a small file system, mounted for the test; needs root.

`tests/test_disk.py` scripts the errors of a full disk; here the system itself gives them, to the
log and to SQLite alike.
"""

from __future__ import annotations

import itertools
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from region import ServerProcess, ask, signed, submit, wait_until, write_home

pytestmark = pytest.mark.services

DISK_BYTES = 32 * 2**20
"""Room for the log, which grows in steps of 4 MiB, and for the index."""

SPARE_BYTES = 2**18
"""What the ballast leaves free at first; less than one step of the log."""

RECORDS_MAX = 20_000
"""More than the room that the log had zero-filled before the disk was full."""


def run(*command: str) -> None:
    subprocess.run(command, check=True, capture_output=True)


@pytest.fixture(params=["tmpfs", "ext4"])
def disk(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Mount a small file system, and have the server keep its data there."""
    write_home(tmp_path, data="disk/data")
    mounted = tmp_path / "disk"
    mounted.mkdir()
    if request.param == "tmpfs":
        run("mount", "-t", "tmpfs", "-o", f"size={DISK_BYTES}", "tmpfs", str(mounted))
    else:
        image = tmp_path / "disk.img"
        image.write_bytes(b"")
        os.truncate(image, DISK_BYTES)
        run("mkfs.ext4", "-q", "-F", "-m", "0", str(image))
        run("mount", "-o", "loop", str(image), str(mounted))
    try:
        yield mounted
    finally:
        run("umount", str(mounted))


def fill(disk: Path) -> Path:
    """Take all but a little of the free room with one file."""
    ballast = disk / "ballast"
    room = os.statvfs(disk)
    with ballast.open("wb") as file:
        left = room.f_bavail * room.f_frsize - SPARE_BYTES
        while left > 0:
            left -= file.write(bytes(min(left, 2**20)))
        os.fsync(file.fileno())
    return ballast


def test_full_disk_refuses_loses_nothing_and_recovers_by_itself(disk: Path) -> None:
    server = ServerProcess(disk.parent)
    server.start()
    try:
        first = [signed() for _ in range(50)]
        answers = {record.body: submit(server.port, record.body) for record in first}
        ballast = fill(disk)
        refused = None
        for _ in itertools.repeat(None, RECORDS_MAX):
            record = signed()
            reply = submit(server.port, record.body)
            if reply.status != 200:
                refused = record
                assert reply.code == "unavailable"
                break
            answers[record.body] = reply
        assert refused is not None, "the disk was never full"
        assert ask(server.port, "GET", "/health").status == 503
        assert ask(server.port, "GET", "/healthz").status == 200
        ballast.unlink()
        wait_until(lambda: ask(server.port, "GET", "/health").status == 200)
        again = submit(server.port, refused.body)
        assert (again.status, again.headers["idempotency-replayed"]) == (200, "false")
        answers[refused.body] = again
    finally:
        server.kill()
    server.start()
    try:
        for body, promised in answers.items():
            reply = submit(server.port, body)
            assert (reply.headers["idempotency-replayed"], reply.body) == ("true", promised.body)
    finally:
        assert server.stop() == 0
