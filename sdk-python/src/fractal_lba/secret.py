"""Hold key bytes and tokens so that nothing prints them by accident.

A `Secret` shows `***` in str, repr and format, is not JSON, and refuses pickling. The only way
to the bytes is `reveal()`, which is easy to search for.
"""

from __future__ import annotations

import hmac
from typing import NoReturn

MASK = "***"


class Secret:
    """Wrap bytes that must not be printed, logged or pickled."""

    __slots__ = ("_bytes",)

    def __init__(self, value: bytes | str) -> None:
        self._bytes = value.encode() if isinstance(value, str) else bytes(value)

    def reveal(self) -> bytes:
        """Give the bytes."""
        return self._bytes

    def __str__(self) -> str:
        return MASK

    def __repr__(self) -> str:
        return f"Secret({MASK})"

    def __format__(self, format_spec: str) -> str:
        return MASK

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Secret):
            return NotImplemented
        return hmac.compare_digest(self._bytes, other._bytes)

    __hash__ = None  # type: ignore[assignment]  # a hash of a short secret is a hint

    def __copy__(self) -> Secret:
        return self

    def __deepcopy__(self, memo: object) -> Secret:
        return self

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("a Secret cannot be pickled")


def reveal(value: bytes | Secret) -> bytes:
    """Give the bytes of a key that may or may not be wrapped."""
    return value.reveal() if isinstance(value, Secret) else bytes(value)
