"""Random numbers by name: one stream for each cause and each thing it happens to.

The invariant of this file: what one stream gives depends on the seed and on its own name alone.
So two runs that differ in one cause meet the same chance everywhere else, and a cause that never
draws leaves every other one as it was.
"""

from __future__ import annotations

from hashlib import sha256
from random import Random
from typing import Final

import numpy as np

SEPARATOR: Final = "\x1f"


class Streams:
    """The streams of one run."""

    def __init__(self, seed: int) -> None:
        self.seed = seed
        self._streams: dict[str, Random] = {}
        self._arrays: dict[str, np.random.Generator] = {}

    def of(self, *name: str) -> Random:
        """Give the stream of a name, such as `("link", "euw", "use", "loss")`."""
        key = SEPARATOR.join(name)
        if key not in self._streams:
            self._streams[key] = Random(self._seed_of(key))
        return self._streams[key]

    def array(self, *name: str) -> np.random.Generator:
        """Give the stream of a name for arrays; it is another one than that of `of`."""
        key = SEPARATOR.join(name)
        if key not in self._arrays:
            self._arrays[key] = np.random.Generator(np.random.PCG64(self._seed_of(f"array:{key}")))
        return self._arrays[key]

    def anew(self) -> Streams:
        """Give the same streams with nothing taken from them; what is taken is not shared."""
        return Streams(self.seed)

    def _seed_of(self, key: str) -> int:
        return int.from_bytes(digest_of(self.seed, key)[:16])


def digest_of(seed: int, key: str) -> bytes:
    """Give 32 bytes that depend on a seed and a name alone."""
    return sha256(f"{seed}{SEPARATOR}{key}".encode()).digest()
