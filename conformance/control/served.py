"""Run the reference server of one folder, with a store that can be made to fail.

While the folder holds a file `store-down`, every look-up and every write of the index fails as on
a disk that does not answer. Nothing else differs from `flk-server serve`.
"""

from __future__ import annotations

import sqlite3
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from fractal_lba_server.cli import main
from fractal_lba_server.store.sqlite import Index

SWITCH = "store-down"


def switched(folder: Path, method: Callable[..., Any]) -> Callable[..., Any]:
    """Let a method of the index fail while the switch is there."""

    def call(*arguments: Any) -> Any:
        if (folder / SWITCH).exists():
            raise sqlite3.OperationalError("disk I/O error")
        return method(*arguments)

    return call


def serve(folder: Path) -> None:
    """Serve until a signal; ends the process."""
    setattr(Index, "lookup", switched(folder, Index.lookup))  # noqa: B010 - a method is replaced
    setattr(Index, "apply", switched(folder, Index.apply))  # noqa: B010 - the same
    main(["serve", "--config", str(folder / "flk.yaml")])


if __name__ == "__main__":
    serve(Path(sys.argv[1]))
