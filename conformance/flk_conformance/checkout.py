"""Find the parts of a checkout that are no part of the package: control programs, wrong servers.

They belong to the reference server, not to the judge: whoever judges a server of his own brings a
control command of his own.
"""

from __future__ import annotations

import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

from .places import PACKAGE, MissingError
from .server.control import Command

PLACES: Final = (PACKAGE.parent, Path.cwd() / "conformance")
"""`conformance/` of the checkout that holds this package, or of the working directory."""


def part(name: str) -> Path:
    """Find a file below `conformance/`; raises MissingError."""
    for place in PLACES:
        if (place / name).exists():
            return place / name
    raise MissingError(f"conformance/{name} is not there: run this in a checkout")


def written(home: Path, *init: str, mutant: str | None = None) -> Command:
    """Write the folder of a reference server, and give the command that controls it.

    `mutant` names a wrong server to be started instead.
    """
    words = [sys.executable, str(part("control/reference.py")), "--home", str(home)]
    command = [*words, "init", *init]
    subprocess.run(command, check=True, capture_output=True)
    return Command(shlex.join([*words, *(("--as", mutant) if mutant else ())]))


def end_in_order() -> None:
    """Let SIGTERM end this program as an exception does, so that no server is left running."""
    signal.signal(signal.SIGTERM, lambda number, _: sys.exit(128 + number))


def url_of(home: Path) -> str:
    """Give the URL of the server of a folder."""
    return (home / "url").read_text(encoding="ascii")
