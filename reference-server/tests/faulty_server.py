"""Runs `flk-server` with a log whose calls fail when files in a folder say so.

A file `fail-<call>` in the folder named by FLK_FAULTS holds the name of the error with which
every such call fails, as long as the file is there.
"""

from __future__ import annotations

import errno
import os
from pathlib import Path

from fault_files import GatedFiles

from fractal_lba_server.cli import main
from fractal_lba_server.store import wal


class SwitchedFiles(GatedFiles):
    """Looks for a fault before each call."""

    def __init__(self) -> None:
        super().__init__()
        self._folder = Path(os.environ["FLK_FAULTS"])

    def _enter(self, name: str) -> None:
        switch = self._folder / f"fail-{name}"
        if switch.exists():
            self.errors[name] = getattr(errno, switch.read_text(encoding="ascii"))
        else:
            self.errors.pop(name, None)
        super()._enter(name)


if __name__ == "__main__":
    setattr(wal, "SystemFiles", SwitchedFiles)  # noqa: B010 - the name is an import there
    main()
