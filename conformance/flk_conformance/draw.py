"""Draw what depends on a seed and an index alone, so that a case is rebuilt anywhere."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final, NamedTuple, TypeVar

T = TypeVar("T")

WORD_BYTES: Final = 8
BLOCK_WORDS: Final = 4


class Question(NamedTuple):
    """What is asked of every testee."""

    op: str
    args: dict[str, Any]
    grammar: str = ""


class Draw:
    """Draw numbers of SHA-256(seed || u64be(index) || u32be(counter)), eight bytes each."""

    __slots__ = ("_counter", "_prefix", "_words")

    def __init__(self, seed: bytes, index: int) -> None:
        self._prefix = hashlib.sha256(seed + index.to_bytes(8, "big"))
        self._counter = 0
        self._words: list[int] = []

    def word(self) -> int:
        """Draw 64 bits."""
        if not self._words:
            block = self._prefix.copy()
            block.update(self._counter.to_bytes(4, "big"))
            data = block.digest()
            self._counter += 1
            self._words = [
                int.from_bytes(data[at : at + WORD_BYTES], "big")
                for at in range(0, BLOCK_WORDS * WORD_BYTES, WORD_BYTES)
            ]
        return self._words.pop()

    def below(self, limit: int) -> int:
        """Draw an integer in [0, limit)."""
        return self.word() % limit

    def pick(self, items: Sequence[T]) -> T:
        """Draw one of several."""
        return items[self.word() % len(items)]

    def one_in(self, count: int) -> bool:
        """Say yes once in so many times."""
        return self.word() % count == 0

    def data(self, size: int) -> bytes:
        """Draw bytes."""
        words = b"".join(
            self.word().to_bytes(WORD_BYTES, "big") for _ in range(0, size, WORD_BYTES)
        )
        return words[:size]

    def order(self, items: Sequence[T]) -> list[T]:
        """Draw an order."""
        left = list(items)
        return [left.pop(self.below(len(left))) for _ in range(len(left))]
