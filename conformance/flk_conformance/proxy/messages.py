"""Follow HTTP/1.1 messages in bytes that somebody else forwards.

A follower changes nothing and refuses nothing: it says where one message ends and the next begins.
What it cannot follow is `broken`, and the rest of that direction is then opaque. It never decides
what is forwarded.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import Final

HEAD_BYTES_MAX: Final = 1_048_576
"""A longer head is not followed."""

BODY_KEPT_MAX: Final = 8 * 1024 * 1024
"""Of a longer body the rest is counted and not kept."""

LINE_BYTES_MAX: Final = 65_536
"""Longest line between chunks."""

WITHOUT_BODY: Final = (204, 304)
_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) (\S+) HTTP/1\.[01]")
_STATUS_LINE: Final = re.compile(rb"HTTP/1\.[01] ([0-9]{3})(?: .*)?")

Header = tuple[str, str]


class _At(Enum):
    HEAD = auto()
    LENGTH = auto()
    SIZE = auto()
    CHUNK = auto()
    CHUNK_END = auto()
    TRAILER = auto()
    UNTIL_END = auto()
    DONE = auto()
    BROKEN = auto()


@dataclass(slots=True)
class Message:
    """One message as far as it has come. Header names are as they were sent."""

    first_line: str = ""
    headers: tuple[Header, ...] = ()
    body: bytearray = field(default_factory=bytearray)
    body_bytes: int = 0
    has_head: bool = False
    is_whole: bool = False
    is_broken: bool = False
    method: str = ""
    target: str = ""
    status: int = 0
    started_ns: int = 0
    ended_ns: int = 0

    def values(self, name: str) -> list[str]:
        """Give the values of a header; the name is given in lower case."""
        return [value for key, value in self.headers if key.lower() == name]


class Follower:
    """Follows one direction of one connection, a message at a time.

    `to_head` must be set before the body of an answer is met: an answer to HEAD has none.
    """

    def __init__(self, *, answers: bool) -> None:
        self._answers = answers
        self.to_head = False
        self.message = Message()
        self._at = _At.HEAD
        self._buffer = bytearray()
        self._left = 0

    @property
    def is_broken(self) -> bool:
        """Tell whether nothing more can be followed."""
        return self._at is _At.BROKEN

    @property
    def is_idle(self) -> bool:
        """Tell whether no byte of a message has come."""
        return self._at is _At.HEAD and not self._buffer

    def start_next(self) -> None:
        """Begin with the next message."""
        self.message = Message()
        self._at = _At.HEAD
        self._buffer.clear()

    def feed(self, data: bytes, now_ns: int) -> int:
        """Take bytes up to the end of this message; give how many were taken."""
        if not self.message.started_ns:
            self.message.started_ns = now_ns
        taken = 0
        while taken < len(data) and self._at not in (_At.DONE, _At.BROKEN):
            taken += self._step(data, taken)
        if self._at is _At.DONE and not self.message.is_whole:
            self.message.is_whole = True
            self.message.ended_ns = now_ns
        if self._at is _At.BROKEN:
            self.message.is_broken = True
            self.message.ended_ns = now_ns
            self._keep(data[taken:])
            return len(data)
        return taken

    def end(self, now_ns: int) -> None:
        """Take the end of the direction, which ends an answer without a length."""
        if self._at is _At.UNTIL_END:
            self._at = _At.DONE
            self.message.is_whole = True
        if not self.message.ended_ns:
            self.message.ended_ns = now_ns

    # --- one step

    def _step(self, data: bytes, at: int) -> int:
        match self._at:
            case _At.HEAD:
                return self._head(data, at)
            case _At.LENGTH | _At.CHUNK:
                return self._counted(data, at)
            case _At.UNTIL_END:
                self._keep(data[at:])
                return len(data) - at
            case _:
                return self._line(data, at)

    def _head(self, data: bytes, at: int) -> int:
        before = len(self._buffer)
        self._buffer += data[at:]
        end = self._buffer.find(b"\r\n\r\n", max(0, before - 3))
        if end < 0:
            if len(self._buffer) > HEAD_BYTES_MAX:
                self._at = _At.BROKEN
            self._guess()
            return len(data) - at
        head = bytes(self._buffer[:end])
        self._buffer.clear()
        self._read_head(head)
        return end + 4 - before

    def _guess(self) -> None:
        """Read the first line of a head that may never end, to know what was asked."""
        line, found, _ = self._buffer.partition(b"\r\n")
        if found and not self.message.first_line:
            self._read_first_line(bytes(line))

    def _read_first_line(self, line: bytes) -> bool:
        message = self.message
        message.first_line = line.decode("latin-1")
        if self._answers:
            match = _STATUS_LINE.fullmatch(line)
            if match is not None:
                message.status = int(match[1])
        else:
            match = _REQUEST_LINE.fullmatch(line)
            if match is not None:
                message.method, message.target = match[1].decode(), match[2].decode("latin-1")
        return match is not None

    def _read_head(self, head: bytes) -> None:
        first, *lines = head.split(b"\r\n")
        pairs = [line.decode("latin-1").partition(":") for line in lines]
        self.message.headers = tuple((name, value.strip(" \t")) for name, _, value in pairs)
        self.message.has_head = True
        whole = self._read_first_line(first) and all(
            colon and name and name == name.strip() for name, colon, _ in pairs
        )
        self._at = self._framing() if whole else _At.BROKEN

    def _framing(self) -> _At:
        message = self.message
        if self._answers and (
            self.to_head or message.status < 200 or message.status in WITHOUT_BODY
        ):
            return _At.DONE
        codings, lengths = message.values("transfer-encoding"), message.values("content-length")
        if codings:
            chunked = not lengths and [one.lower() for one in codings] == ["chunked"]
            return _At.SIZE if chunked else _At.BROKEN
        if lengths:
            text = lengths[0]
            if len(set(lengths)) != 1 or not (text.isascii() and text.isdecimal()):
                return _At.BROKEN
            self._left = int(text)
            return _At.LENGTH if self._left else _At.DONE
        return _At.UNTIL_END if self._answers else _At.DONE

    def _counted(self, data: bytes, at: int) -> int:
        size = min(self._left, len(data) - at)
        self._keep(data[at : at + size])
        self._left -= size
        if not self._left:
            self._at = _At.DONE if self._at is _At.LENGTH else _At.CHUNK_END
        return size

    def _line(self, data: bytes, at: int) -> int:
        """Take a line between chunks: a size, the end of a chunk, or a trailer."""
        before = len(self._buffer)
        self._buffer += data[at:]
        end = self._buffer.find(b"\r\n", max(0, before - 1))
        if end < 0:
            if len(self._buffer) > LINE_BYTES_MAX:
                self._at = _At.BROKEN
            return len(data) - at
        line = bytes(self._buffer[:end])
        self._buffer.clear()
        self._at = self._after_line(line)
        return end + 2 - before

    def _after_line(self, line: bytes) -> _At:
        if self._at is _At.CHUNK_END:
            return _At.SIZE if line == b"" else _At.BROKEN
        if self._at is _At.TRAILER:
            return _At.DONE if line == b"" else _At.TRAILER
        size = line.partition(b";")[0].strip()
        if not re.fullmatch(rb"[0-9A-Fa-f]{1,16}", size):
            return _At.BROKEN
        self._left = int(size, 16)
        return _At.CHUNK if self._left else _At.TRAILER

    def _keep(self, data: bytes) -> None:
        message = self.message
        message.body_bytes += len(data)
        room = BODY_KEPT_MAX - len(message.body)
        message.body += data[:room]
