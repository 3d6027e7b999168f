"""Write one JSON line per event to stderr, and never a body, a key or a token.

A line holds named facts: text, numbers, truth values and lists of them. Anything else that is
passed, a `Secret`, bytes or a key record included, is written as `***`. Lines go out from one
thread of their own, so that a reader of stderr that hangs never holds up a request; when it hangs
for long, lines are dropped and counted, and the count is the first line after it.
"""

from __future__ import annotations

import logging
import re
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, BinaryIO, Literal, Self

import orjson

from fractal_lba.errors import FractalLBAError

FLUSH_INTERVAL_S = 0.2
"""The longest time that a line below `warning` waits in memory."""

WAITING_LINES_MAX = 65_536
"""Lines that wait for a reader of stderr; one that comes after them is dropped and counted."""

BATCH_LINES_MAX = 1_024
"""Lines of one write call, about 300 KiB."""

CLOSE_TIMEOUT_S = 2.0
"""How long `close` and `flush` wait for a reader of stderr that hangs."""

FRAMES_MAX = 12
"""Innermost frames that are kept of the place where an unexpected error was raised."""

Level = Literal["debug", "info", "warning", "error"]
Fact = str | int | float | bool | None | Sequence[str]

_PLAIN_KEY = re.compile(r"[A-Za-z0-9._-]{1,128}\Z")

_RANKS: dict[str, int] = {"debug": 10, "info": 20, "warning": 30, "error": 40}

# Without the two passthroughs orjson writes the fields of a dataclass, so the bytes of a key
# record, and the text of a subclass of str that means to hide it.
_OPTIONS = (
    orjson.OPT_APPEND_NEWLINE | orjson.OPT_PASSTHROUGH_DATACLASS | orjson.OPT_PASSTHROUGH_SUBCLASS
)


def _mask(_value: object) -> str:
    return "***"


class Log:
    """Own the lines on their way to one stream; every method may be called from any thread."""

    def __init__(
        self,
        stream: BinaryIO,
        *,
        level: Level = "info",
        clock_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._stream = stream
        self._rank = _RANKS[level]
        self._clock_ns = clock_ns
        self._second = (-1, "")
        self._waiting: deque[bytes] = deque()
        self._dropped = 0  # since the last note of it
        self._dropped_ever = 0
        self._counting = threading.Lock()
        self._writing = threading.Lock()
        self._wake = threading.Event()
        self._closed = False
        self._writer = threading.Thread(target=self._run, name="flk-log", daemon=True)
        self._writer.start()

    def request(
        self,
        *,
        request_id: str,
        method: str,
        route: str,
        status: int,
        duration_us: int,
        tenant: str | None = None,
        pcs_id: str | None = None,
        kid: str | None = None,
        code: str | None = None,
        replayed: bool | None = None,
        client_request_id: str | None = None,
        idempotency_key: str | None = None,
    ) -> None:
        """Write the one line of an answered request; facts that are None are left out.

        Without a `code` the request was carried out, so that `tenant` and `pcs_id` are the
        checked names of a record: they need no escaping, and the line of a record is written
        without the library.
        """
        level = "info" if status < 500 else "warning"
        if _RANKS[level] < self._rank:
            return
        if (
            code is kid is client_request_id is None
            and level == "info"
            and not (tenant is None or pcs_id is None or replayed is None)
            and (idempotency_key is None or _PLAIN_KEY.match(idempotency_key))
        ):
            self._put_text(
                f'{{"ts":"{self._now_text()}","level":"info","event":"request",'
                f'"request_id":"{request_id}","method":"{method}","route":"{route}",'
                f'"status":{status},"duration_us":{duration_us},"tenant":"{tenant}",'
                f'"pcs_id":"{pcs_id}","replayed":{"true" if replayed else "false"}'
                + (f',"idempotency_key":"{idempotency_key}"}}\n' if idempotency_key else "}\n")
            )
            return
        line: dict[str, Any] = {
            "ts": self._now_text(),
            "level": level,
            "event": "request",
            "request_id": request_id,
            "method": method,
            "route": route,
            "status": status,
            "duration_us": duration_us,
        }
        if tenant is not None:
            line["tenant"] = tenant
        if pcs_id is not None:
            line["pcs_id"] = pcs_id
        if kid is not None:
            line["kid"] = kid
        if code is not None:
            line["code"] = code
        if replayed is not None:
            line["replayed"] = replayed
        if client_request_id is not None:
            line["client_request_id"] = client_request_id
        if idempotency_key is not None:
            line["idempotency_key"] = idempotency_key
        self._put(line, level)

    def event(self, event: str, *, level: Level = "info", **facts: Fact) -> None:
        """Write the line of something that is not a request."""
        if _RANKS[level] >= self._rank:
            self._put({"ts": self._now_text(), "level": level, "event": event, **facts}, level)

    def failure(self, event: str, error: BaseException, **facts: Fact) -> None:
        """Write where an error was raised, and its text only where that cannot quote a body.

        The texts of the project's own errors and of the operating system are safe; those of other
        libraries quote what they could not read.
        """
        frames = traceback.extract_tb(error.__traceback__)[-FRAMES_MAX:]
        at = [
            f"{frame.filename.rpartition('/')[2]}:{frame.lineno} {frame.name}" for frame in frames
        ]
        text = str(error) if isinstance(error, FractalLBAError | OSError) else None
        self.event(event, level="error", error=type(error).__name__, text=text, at=at, **facts)

    @property
    def dropped_lines(self) -> int:
        """Count the lines that were never written."""
        return self._dropped_ever

    def flush(self) -> None:
        """Write what waits now, unless the reader of the stream hangs."""
        if self._writing.acquire(timeout=CLOSE_TIMEOUT_S):
            try:
                self._drain()
            finally:
                self._writing.release()

    def close(self) -> None:
        """Write what waits, and stop; lines that come later are lost."""
        self._closed = True
        self._wake.set()
        self._writer.join(CLOSE_TIMEOUT_S)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _now_text(self) -> str:
        """Write the time as RFC 3339 with milliseconds; the seconds are formatted once each."""
        second, rest_ns = divmod(self._clock_ns(), 1_000_000_000)
        known, text = self._second  # one tuple: another thread never sees half a change
        if second != known:
            text = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(second))
            self._second = (second, text)
        return f"{text}.{rest_ns // 1_000_000:03d}Z"

    def _put_text(self, text: str) -> None:
        """Put the line of an answered record: its facts are names and digits, nothing to escape."""
        if len(self._waiting) >= WAITING_LINES_MAX:
            self._drop(1)
        else:
            self._waiting.append(text.encode())

    def _put(self, line: dict[str, Any], level: str) -> None:
        if len(self._waiting) >= WAITING_LINES_MAX:
            self._drop(1)
            return
        self._waiting.append(_encode(line))
        if level in ("warning", "error"):
            self._wake.set()

    def _run(self) -> None:
        while not self._closed:
            self._wake.wait(FLUSH_INTERVAL_S)
            self._wake.clear()
            with self._writing:
                self._drain()
        with self._writing:
            self._drain()

    def _drop(self, lines: int) -> None:
        with self._counting:
            self._dropped += lines
            self._dropped_ever += lines

    def _drain(self) -> None:
        """Write every waiting line; the caller holds the lock of the writer."""
        waiting = self._waiting
        while waiting:
            batch = [waiting.popleft() for _ in range(min(len(waiting), BATCH_LINES_MAX))]
            with self._counting:
                dropped, self._dropped = self._dropped, 0
            note = self._dropped_note(dropped) if dropped else b""
            try:
                self._stream.write(note + b"".join(batch))
                self._stream.flush()
            except (OSError, ValueError):
                # Nobody reads stderr now (a broken pipe, a closed file): there is nowhere left
                # to say so, and a request must not fail for it.
                with self._counting:
                    self._dropped += dropped
                self._drop(len(batch))
                return

    def _dropped_note(self, lines: int) -> bytes:
        return _encode(
            {"ts": self._now_text(), "level": "warning", "event": "log_dropped", "lines": lines}
        )


def _encode(line: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(line, default=_mask, option=_OPTIONS)
    except orjson.JSONEncodeError:
        # A lone surrogate or an integer over 64 bits: the line still has to be written.
        safe = {name: _writable(value) for name, value in line.items()}
        return orjson.dumps(safe, default=_mask, option=_OPTIONS)


def _writable(value: Any) -> Any:
    if type(value) is str:
        return value.encode("ascii", "backslashreplace").decode()
    if type(value) is int:
        return str(value)
    if type(value) is list:
        return [_writable(one) for one in value]
    return value if isinstance(value, bool | float | None) else _mask(value)


class LogHandler(logging.Handler):
    """Carry the lines of libraries that use `logging`, such as the HTTP server, into a `Log`."""

    def __init__(self, log: Log) -> None:
        super().__init__()
        self._log = log

    def emit(self, record: logging.LogRecord) -> None:
        """Write one record; of an exception only what `Log.failure` allows."""
        facts: dict[str, Fact] = {"logger": record.name, "message": record.getMessage()}
        if record.exc_info is not None and record.exc_info[1] is not None:
            self._log.failure("library", record.exc_info[1], **facts)
            return
        self._log.event("library", level=_level_of(record.levelno), **facts)


def _level_of(number: int) -> Level:
    if number >= logging.ERROR:
        return "error"
    if number >= logging.WARNING:
        return "warning"
    return "info" if number >= logging.INFO else "debug"
