"""Run `flk-server` with a disk, a clock and, for controls, a protocol that is wrong on request.

Never a part of the product's own `serve`: only `python -m fractal_lba_server.drill.shim` reads
what is said here. The folder named by FLK_DRILL_FAULTS holds switches, looked at before each call:

    fail-<call>   name of an errno, with which every such call fails; `fail-zeros` only writes of
                  zeros, as a full disk does to space that is not there yet
    slow-<call>   milliseconds before each such call
    clock-ms      milliseconds that the wall clock is off

and takes one byte for each effect in `count-<name>`, so that a drill can prove that its fault did
something. FLK_DRILL_PLANTS names wrong protocols (`plants.py`).
"""

from __future__ import annotations

import errno
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

FAULTS: Final = "FLK_DRILL_FAULTS"
PLANTS: Final = "FLK_DRILL_PLANTS"

CLOCK_LOOK_S: Final = 0.01
"""How long an offset of the clock is believed before the switch is looked at again."""


class Switches:
    """The folder of switches."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def read(self, name: str) -> str | None:
        """Give what a switch says; None if it is not there."""
        try:
            return (self._folder / name).read_text(encoding="ascii").strip()
        except OSError:
            return None

    def count(self, name: str) -> None:
        """Note one effect."""
        fd = os.open(self._folder / f"count-{name}", os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(fd, b".")
        finally:
            os.close(fd)


class SkewedClock:
    """A wall clock that is off by what a switch says."""

    def __init__(self, switches: Switches, real_ns: Callable[[], int]) -> None:
        self._switches = switches
        self._real_ns = real_ns
        self._looked_s = -CLOCK_LOOK_S
        self._offset_ns = 0

    def time_ns(self) -> int:
        """Give the wrong time."""
        now_s = time.monotonic()
        if now_s - self._looked_s >= CLOCK_LOOK_S:
            self._looked_s = now_s
            said = self._switches.read("clock-ms")
            self._offset_ns = 0 if said is None else int(said) * 1_000_000
            if self._offset_ns:
                self._switches.count("clock-ms")
        return self._real_ns() + self._offset_ns

    def time(self) -> float:
        """Give the wrong time in seconds."""
        return self.time_ns() / 1e9


def faulty_files(switches: Switches) -> type:
    """Make a class of files whose calls are slow or fail as the switches say."""
    from ..store.files import SystemFiles  # noqa: PLC0415 - after the clock is in place

    def before(name: str) -> None:
        slow = switches.read(f"slow-{name}")
        if slow is not None:
            switches.count(f"slow-{name}")
            time.sleep(int(slow) / 1000)
        said = switches.read(f"fail-{name}")
        if said is not None:
            switches.count(f"fail-{name}")
            number = getattr(errno, said)
            raise OSError(number, os.strerror(number))

    class FaultyFiles(SystemFiles):
        """The real files, after a look at the switches."""

        def open(self, path: Path, flags: int, mode: int = 0o600) -> int:
            if flags & os.O_CREAT:
                before("open")
            return super().open(path, flags, mode)

        def pwrite(self, fd: int, data: bytes, offset: int) -> None:
            if not any(data[:64]) and not any(data):
                before("zeros")
            before("pwrite")
            super().pwrite(fd, data, offset)

        def fdatasync(self, fd: int) -> None:
            before("fdatasync")
            super().fdatasync(fd)

    return FaultyFiles


def install(environ: dict[str, str] | os._Environ[str]) -> None:
    """Put clock, files and plants in place of the right ones, before the server is imported."""
    folder = environ.get(FAULTS)
    if folder is not None:
        switches = Switches(Path(folder))
        clock = SkewedClock(switches, time.time_ns)
        time.time_ns, time.time = clock.time_ns, clock.time
        _replace_files(faulty_files(switches))
    names = [name for name in environ.get(PLANTS, "").split(",") if name]
    if names:
        from .plants import plant  # noqa: PLC0415 - it imports the server

        for name in names:
            plant(name)


def _replace_files(made: Any) -> None:
    """Give the faulty files to every module that makes files of its own."""
    from ..store import files, mirror, ring, wal  # noqa: PLC0415 - after the clock is in place

    for module in (files, mirror, ring, wal):
        if hasattr(module, "SystemFiles"):
            setattr(module, "SystemFiles", made)  # noqa: B010 - the name is an import there


if __name__ == "__main__":
    install(os.environ)
    from ..cli import main

    main(prog_name="flk-server")
