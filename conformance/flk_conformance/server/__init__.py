"""Judge a server by its URL: the cases of `spec/`, sent over HTTP.

`add_arguments` and `run` are what the command line asks for; `command.py` has both.
"""

from __future__ import annotations

import sys

from ..places import root_of

# The oracle belongs to the published contract, which is no package of this one.
sys.path.append(str(root_of("golden/oracle")))

from .command import add_arguments
from .command import execute as run

__all__ = ["add_arguments", "run"]
