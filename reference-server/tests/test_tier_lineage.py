"""The lineage of cold reads: durable before the read, chained, closed by the first fault."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

import pytest

from fractal_lba_server.store.files import SystemFiles
from fractal_lba_server.store.tiers.lineage import (
    Lineage,
    LineageError,
    lineage_files,
    read_lineage,
)

FACTS = {"at_ms": 1, "length": 2, "object": "o", "offset": 3, "pcs_id": "p", "tenant": "t"}


def test_lines_follow_one_another_over_a_restart(tmp_path: Path) -> None:
    path = tmp_path / "lineage"
    for _ in range(3):
        lineage = Lineage(path)
        lineage.record(FACTS)
        lineage.record({**FACTS, "offset": 4})
        lineage.close()
    lines = list(read_lineage(path))
    assert [line["number"] for line in lines] == [1, 2, 3, 4, 5, 6]
    assert {line["offset"] for line in lines} == {3, 4}
    assert path.stat().st_mode & 0o777 == 0o700
    assert lineage_files(path)[0].stat().st_mode & 0o777 == 0o600


def test_full_file_is_closed_and_the_chain_goes_on_in_the_next(tmp_path: Path) -> None:
    path = tmp_path / "lineage"
    for _ in range(3):  # a restart in the middle of a file, and one at its end
        lineage = Lineage(path, file_bytes_max=500)
        for _ in range(4):
            lineage.record(FACTS)
        lineage.close()
    files = lineage_files(path)
    assert [each.name for each in files] == [f"seg-{n:016d}.ndjson" for n in (1, 4, 7, 10)]
    assert {each.stat().st_mode & 0o777 for each in files[:-1]} == {0o400}
    assert [line["number"] for line in read_lineage(path)] == list(range(1, 13))
    (path / f"seg-{13:016d}.ndjson").touch()  # a crash right after it was begun
    again = Lineage(path, file_bytes_max=500)
    again.record(FACTS)
    again.close()
    assert len(list(read_lineage(path))) == again.count == 13
    files[2].unlink()
    with pytest.raises(LineageError, match="does not follow"):
        list(read_lineage(path))


def test_torn_line_is_cut_at_the_start(tmp_path: Path) -> None:
    path = tmp_path / "lineage"
    lineage = Lineage(path)
    lineage.record(FACTS)
    lineage.close()
    with lineage_files(path)[0].open("ab") as file:
        file.write(b'{"at_ms":1,"len')
    lineage = Lineage(path)
    assert lineage.count == 1
    lineage.record(FACTS)
    lineage.close()
    assert len(list(read_lineage(path))) == 2


@pytest.mark.parametrize("edit", ["changed", "removed", "doubled", "no json"])
def test_edited_lineage_is_found(tmp_path: Path, edit: str) -> None:
    path = tmp_path / "lineage"
    lineage = Lineage(path)
    for _ in range(4):
        lineage.record(FACTS)
    lineage.close()
    (file,) = lineage_files(path)
    lines = file.read_bytes().splitlines(keepends=True)
    lines[1:2] = {
        "changed": [lines[1].replace(b'"p"', b'"q"')],
        "removed": [],
        "doubled": [lines[1], lines[1]],
        "no json": [b"x\n"],
    }[edit]
    file.write_bytes(b"".join(lines))
    with pytest.raises(LineageError, match="does not follow"):
        list(read_lineage(path))


class Faulty(SystemFiles):
    """Files that fail from a call on."""

    def __init__(self, method: str) -> None:
        self.method, self.is_on = method, False

    def pwrite(self, fd: int, data: bytes, offset: int) -> None:
        if self.is_on and self.method == "pwrite":
            super().pwrite(fd, data[:5], offset)
            raise OSError(errno.ENOSPC, "no space")
        super().pwrite(fd, data, offset)

    def fdatasync(self, fd: int) -> None:
        if self.is_on and self.method == "fdatasync":
            raise OSError(errno.EIO, "input/output error")
        super().fdatasync(fd)

    def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
        if self.method == "open":
            raise PermissionError(errno.EACCES, "denied")
        return super().open(path, flags, mode)


@pytest.mark.parametrize("method", ["pwrite", "fdatasync"])
def test_line_that_may_not_be_whole_closes_the_lineage(tmp_path: Path, method: str) -> None:
    path, files = tmp_path / "lineage", Faulty(method)
    lineage = Lineage(path, files=files)
    lineage.record(FACTS)
    files.is_on = True
    with pytest.raises(LineageError):
        lineage.record(FACTS)
    files.is_on = False
    with pytest.raises(LineageError, match="start again"):
        lineage.record(FACTS)
    lineage.close()
    again = Lineage(path)
    again.record(FACTS)
    again.close()
    assert len(list(read_lineage(path))) == again.count


def test_lineage_that_cannot_be_opened_is_said(tmp_path: Path) -> None:
    with pytest.raises(LineageError, match="denied"):
        Lineage(tmp_path / "lineage", files=Faulty("open"))


def test_line_has_a_limit(tmp_path: Path) -> None:
    lineage = Lineage(tmp_path / "lineage")
    long: dict[str, Any] = {**FACTS, "object": "x" * 5_000}
    with pytest.raises(LineageError, match="the longest"):
        lineage.record(long)
    lineage.record(FACTS)
    lineage.close()
