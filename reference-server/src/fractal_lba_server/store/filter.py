"""Remembers in a few bits per id which ids the index may hold, so that a new one costs no look-up.

A Bloom filter (Bloom, 1970): "no" is certain, "perhaps" asks the index. Ids are SHA-256 digests,
so their own digits serve as hash functions.
"""

from __future__ import annotations

import threading
from collections.abc import Iterable
from typing import Final

FILTER_BITS: Final = 27
"""2^27 bits are 16 MiB: at 10^7 ids one new id in 120 is looked up for nothing."""

_PROBES: Final = 3
_BYTES: Final = 12
"""Leading bytes of an id that are used: three probes of up to 32 bits."""


class IdFilter:
    """Holds ids; any thread may add, one that forgets nothing it was told."""

    def __init__(self, *, bits: int = FILTER_BITS) -> None:
        self._cells = bytearray(1 << (bits - 3))
        self._mask = (1 << bits) - 1
        self._shift = bits
        # Setting a bit reads and writes its byte: two threads at once could lose one.
        self._adding = threading.Lock()

    def add(self, ids: Iterable[bytes]) -> None:
        """Remember ids of 32 bytes."""
        cells, mask, shift = self._cells, self._mask, self._shift
        with self._adding:
            for raw in ids:
                digits = int.from_bytes(raw[:_BYTES], "big")
                for _ in range(_PROBES):
                    place = digits & mask
                    cells[place >> 3] |= 1 << (place & 7)
                    digits >>= shift

    def may_hold(self, text: str) -> bool:
        """Say False only about an id, given as 64 hex digits, that was never added."""
        cells, mask, shift = self._cells, self._mask, self._shift
        digits = int(text[: 2 * _BYTES], 16)
        for _ in range(_PROBES):
            place = digits & mask
            if not cells[place >> 3] >> (place & 7) & 1:
                return False
            digits >>= shift
        return True
