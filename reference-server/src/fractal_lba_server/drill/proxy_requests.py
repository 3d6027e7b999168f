"""Find where HTTP requests begin in a stream of bytes, so that a proxy can hold one back whole."""

from __future__ import annotations

import re
from typing import Final

HEAD_BYTES_MAX: Final = 65_536
"""A head longer than this is no request; the stream is then carried as it is."""

_LENGTH = re.compile(rb"\r\ncontent-length: *([0-9]+)\r\n", re.IGNORECASE)


class Requests:
    """Follow one connection. A stream that is not HTTP with lengths has no beginnings."""

    def __init__(self) -> None:
        self._head = bytearray()
        self._body = 0
        self._opaque = False

    def begins(self, data: bytes) -> bool:
        """Take the next bytes; say whether a request begins in them."""
        found = False
        while data and not self._opaque:
            if self._body:
                taken = min(self._body, len(data))
                self._body -= taken
                data = data[taken:]
                continue
            found = found or not self._head
            self._head += data
            end = self._head.find(b"\r\n\r\n")
            if end < 0:
                self._opaque = len(self._head) > HEAD_BYTES_MAX
                return found
            head, data = bytes(self._head[: end + 4]), bytes(self._head[end + 4 :])
            self._head.clear()
            length = _LENGTH.search(head)
            self._body = int(length[1]) if length else 0
            self._opaque = b"transfer-encoding" in head.lower()
        return found
