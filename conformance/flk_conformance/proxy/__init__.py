"""Stand between clients and a server: forward every byte, record it, and judge it elsewhere.

`add_arguments` and `run` are what the command line asks for; `service.Proxy` is for programs.
"""

from __future__ import annotations

from .command import add_arguments
from .command import execute as run

__all__ = ["add_arguments", "run"]
