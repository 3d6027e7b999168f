"""Run the command that starts and hurts a server: `CMD start|stop|kill|drain|...`.

The contract of the command: each verb is harmless where it has nothing left to do; `start` returns
when the server answers, `stop`, `kill` and `drain` when that is done; the exit status is 0.
"""

from __future__ import annotations

import shlex
import subprocess
from typing import Final

VERBS: Final = ("start", "stop", "kill", "drain", "store-down", "store-up")
TIMEOUT_S: Final = 60.0
"""A command that takes longer hangs."""


class ControlError(Exception):
    """The command failed, so nothing can be said about the server."""


class Command:
    """Runs one command with a verb behind it."""

    def __init__(self, line: str) -> None:
        self.line = line
        self._words = shlex.split(line)

    def do(self, verb: str) -> None:
        """Run it; raises ControlError."""
        assert verb in VERBS
        command = [*self._words, verb]
        try:
            done = subprocess.run(command, capture_output=True, timeout=TIMEOUT_S, check=False)
        except (OSError, subprocess.TimeoutExpired) as error:
            raise ControlError(f"{verb}: {error}") from error
        if done.returncode != 0:
            said = done.stderr.decode("utf-8", "replace").strip()[-400:]
            raise ControlError(f"{verb}: exit status {done.returncode}: {said}")
