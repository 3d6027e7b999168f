"""Run a testee: start it, write to it and read from it without ever waiting for one alone, end it.

Owner of the pipes. Both directions are non-blocking and one `poll` waits for all of them, so that
a testee which reads nothing while it writes cannot lock the harness up. What is written between is
the business of `session`.
"""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Final

from . import PROTOCOL
from .judge import Policies
from .message_table import RULES
from .messages import violations

LINE_BYTES_MAX: Final = 1_048_576
"""A longer line is no message (tp.3)."""

STDERR_BYTES_MAX: Final = 65_536
"""How much of what a testee wrote to standard error is kept for a case (tp.5)."""

HELLO_S: Final = 120.0
"""How long the first answer may take: a testee may build itself first (tp.10)."""

END_S: Final = 5.0
"""How long a testee has to end after `bye`, the end of its input, or SIGTERM (tp.26, tp.27)."""

READ_BYTES: Final = 1 << 18
NO_PROTOCOL_STATUS: Final = 3
NOT_TEXT: Final = "\x00not UTF-8: "


class StartError(Exception):
    """Say that a testee did not start or speaks no common protocol."""


class EndedError(Exception):
    """Say that a testee ended, or closed its output, and how."""


class LineError(Exception):
    """Say that a testee wrote a line that is too long to be a message."""


@dataclass(frozen=True, slots=True)
class Greeting:
    """What a testee says about itself in its first answer."""

    identity: Mapping[str, str]
    policies: Policies
    in_flight: int
    raw: Mapping[str, Any]

    @property
    def name(self) -> str:
        return self.identity["name"]


class Testee:
    """One process that answers."""

    def __init__(self, command: Sequence[str], *, cwd: str | None = None) -> None:
        self.command = list(command)
        self.cwd = cwd
        self._process: subprocess.Popen[bytes] | None = None
        self.stderr_total = 0

    # --- beginning ------------------------------------------------------------------------------

    def start(self, vectors: str, *, hello_s: float = HELLO_S) -> Greeting:
        """Start the process and exchange the hello. Raises StartError."""
        try:
            self._process = subprocess.Popen(
                self.command,
                bufsize=0,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                start_new_session=True,
                cwd=self.cwd,
            )
        except OSError as error:
            raise StartError(f"{self.command[0]} cannot be started: {error}") from error
        self._adopt(self._process)
        hello = {"cmd": "hello", "protocol": PROTOCOL, "vectors": vectors}
        try:
            self.write(json.dumps(hello, separators=(",", ":")).encode() + b"\n")
            line = self._first_line(time.monotonic() + hello_s)
        except EndedError as ended:
            why = self._why_no_hello(ended)
            self.kill()
            raise StartError(why) from ended
        except LineError as error:
            self.kill()
            raise StartError(f"the first line is no hello (tp.3): {error}") from error
        greeting = read_greeting(line)
        if isinstance(greeting, str):
            self.kill()
            raise StartError(greeting + self._said())
        return greeting

    def _adopt(self, process: subprocess.Popen[bytes]) -> None:
        assert process.stdin
        assert process.stdout
        assert process.stderr
        self._in, self._out, self._err = (
            process.stdin.fileno(), process.stdout.fileno(), process.stderr.fileno(),
        )  # fmt: skip
        for fd in (self._in, self._out, self._err):
            os.set_blocking(fd, False)
        self._readable, self._both = select.poll(), select.poll()
        for poll in (self._readable, self._both):
            poll.register(self._out, select.POLLIN)
            poll.register(self._err, select.POLLIN)
        self._both.register(self._in, select.POLLOUT)
        self._unsent = b""
        self._begun: list[bytes] = []
        self._begun_bytes = 0
        self._stderr = bytearray()
        self._stderr_open = True

    def _first_line(self, deadline: float) -> str:
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self.kill()
                raise StartError(f"no hello within {HELLO_S:.0f} s (tp.10)" + self._said())
            if lines := self.lines(left_s):
                if len(lines) > 1:
                    self.kill()
                    raise StartError(
                        f"{len(lines)} lines came before any request (tp.10); the first: "
                        f"{lines[0]:.200}"
                    )
                return lines[0]

    def _why_no_hello(self, ended: EndedError) -> str:
        process = self._process
        if process is not None and process.returncode == NO_PROTOCOL_STATUS:
            return f"the testee knows none of the protocols 1 to {PROTOCOL} (tp.11)"
        return f"the testee ended before its hello (tp.10): {ended}" + self._said()

    def _said(self) -> str:
        text = self.stderr_since(0).decode("utf-8", "replace").strip()
        return f"; it wrote to standard error:\n{text}" if text else ""

    # --- lines ----------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send lines; what the pipe does not take now goes out while answers are read."""
        self._unsent += data
        self._flush()

    def _flush(self) -> None:
        try:
            while self._unsent:
                sent = os.write(self._in, self._unsent)
                self._unsent = self._unsent[sent:]
        except BlockingIOError:
            return
        except BrokenPipeError:
            self._unsent = b""  # it has ended; reading will say how

    def lines(self, timeout_s: float) -> list[str]:
        """Give the lines that come within a time; none is silence. Raises EndedError, LineError.

        A line that is not UTF-8 begins with a mark that no JSON text begins with.
        """
        poll = self._both if self._unsent else self._readable
        events = dict(poll.poll(max(0, int(timeout_s * 1000) + 1)))
        if self._err in events:
            self._read_stderr()
        if self._in in events:
            self._flush()
        if self._out not in events:
            return []
        try:
            data = os.read(self._out, READ_BYTES)
        except BlockingIOError:
            return []
        if not data:
            raise EndedError(self._reap(END_S))
        return self._split(data)

    def _split(self, data: bytes) -> list[str]:
        head, found, rest = data.rpartition(b"\n")
        if not found:
            self._begun.append(rest)
            self._begun_bytes += len(rest)
            if self._begun_bytes >= LINE_BYTES_MAX:
                raise LineError(f"a line has more than {LINE_BYTES_MAX} bytes")
            return []
        if self._begun:
            head = b"".join([*self._begun, head])
            self._begun = []
        if len(head) >= LINE_BYTES_MAX and any(
            len(line) >= LINE_BYTES_MAX for line in head.split(b"\n")
        ):
            raise LineError(f"a line has more than {LINE_BYTES_MAX} bytes")
        if rest:
            self._begun = [rest]
        self._begun_bytes = len(rest)
        try:
            return head.decode("utf-8").split("\n")
        except UnicodeDecodeError:
            return [text_of(line) for line in head.split(b"\n")]

    # --- standard error -------------------------------------------------------------------------

    def _read_stderr(self) -> None:
        try:
            data = os.read(self._err, READ_BYTES)
        except BlockingIOError:
            return
        if not data:
            self._readable.unregister(self._err)
            self._both.unregister(self._err)
            self._stderr_open = False
            return
        self.stderr_total += len(data)
        self._stderr += data
        del self._stderr[:-STDERR_BYTES_MAX]

    def stderr_since(self, mark: int) -> bytes:
        """Give what came after a mark of `stderr_total`, at most the last 64 KiB."""
        while self._stderr_open and select.select([self._err], [], [], 0)[0]:
            self._read_stderr()
        size = min(self.stderr_total - mark, len(self._stderr))
        return bytes(self._stderr[len(self._stderr) - size :])

    # --- ending ---------------------------------------------------------------------------------

    def bye(self, *, by_end_of_input: bool = False) -> str | None:
        """Say bye, or close the input; give what the testee did wrong at its end, or None."""
        assert self._process is not None
        assert self._process.stdin is not None
        if by_end_of_input:
            self._both.unregister(self._in)
            self._process.stdin.close()
        else:
            self.write(b'{"cmd":"bye"}\n')
        deadline = time.monotonic() + END_S
        late: list[str] = []
        while True:
            left_s = deadline - time.monotonic()
            if left_s <= 0:
                self.kill()
                return f"it did not end within {END_S:.0f} s after bye (tp.26)"
            try:
                late += self.lines(left_s)
            except EndedError:
                break
            except LineError as error:
                self.kill()
                return f"after bye: {error} (tp.3)"
        return self._how_it_ended(late)

    def _how_it_ended(self, late: list[str]) -> str | None:
        process = self._process
        assert process is not None
        left_open = process.returncode is None
        self.kill()
        if late:
            return f"it wrote {len(late)} lines after bye (tp.26): {late[0]:.200}"
        if self._begun_bytes:
            return "its last line has no LF (tp.2)"
        if left_open:
            return f"it closed its output and did not end within {END_S:.0f} s (tp.26)"
        status = process.returncode
        return None if status == 0 else f"it ended with {how(status)} after bye, not 0 (tp.26)"

    def _reap(self, timeout_s: float) -> str:
        assert self._process is not None
        broken = " in the middle of a line" if self._begun_bytes else ""
        try:
            status = self._process.wait(timeout_s)
        except subprocess.TimeoutExpired:
            return f"it closed its output{broken}"
        return f"it ended with {how(status)}{broken}"

    def terminate(self) -> int | None:
        """Send SIGTERM; give the status, or None if it did not end (tp.27)."""
        assert self._process is not None
        with suppress(ProcessLookupError):
            os.killpg(self._process.pid, signal.SIGTERM)
        try:
            return self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            return None

    def kill(self) -> None:
        """End the process and everything that it started."""
        process, self._process = self._process, None
        if process is None:
            return
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self.stderr_since(self.stderr_total)
        self._stderr_open = False
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                with suppress(OSError):
                    stream.close()


def how(status: int) -> str:
    """Name an exit status or the signal behind it."""
    if status >= 0:
        return f"status {status}"
    try:
        return signal.Signals(-status).name
    except ValueError:
        return f"signal {-status}"


def text_of(line: bytes) -> str:
    """Decode a line; one that is not UTF-8 becomes something that no message is."""
    try:
        return line.decode("utf-8")
    except UnicodeDecodeError:
        return NOT_TEXT + repr(line[:200])


def read_greeting(line: str) -> Greeting | str:
    """Read the answer to hello, or say what is wrong with it."""
    try:
        found = json.loads(line)
    except ValueError:
        return f"the first line must be the answer to hello (tp.4, tp.10), got: {line:.200}"
    wrong = violations(RULES, "greeting", found)
    if wrong:
        return "the answer to hello is wrong: " + "; ".join(str(each) for each in wrong[:5])
    policies = Policies(frozenset(found["levels"]), frozenset(found["ops"]), found["policies"])
    return Greeting(found["testee"], policies, found["in_flight"], found)
