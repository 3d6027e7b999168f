"""Judge a server by its URL: the cases of `spec/`, sent over HTTP.

`add_arguments` and `run` are what the command line asks for; `command.py` has both.
"""

from __future__ import annotations

from .command import add_arguments
from .command import execute as run

__all__ = ["add_arguments", "run"]
