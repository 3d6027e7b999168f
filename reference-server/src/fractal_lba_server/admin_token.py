"""The bearer token of the administrative listener, where neither loopback nor mTLS guards it.

The file holds 32 random bytes as 43 characters of base64url, and nobody but its owner may read
it. The token is compared in constant time and printed by nothing.
"""

from __future__ import annotations

import hmac
import os
import re
import stat
from pathlib import Path
from typing import Final

from fractal_lba.errors import ConfigError

_TOKEN: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_FILE_BYTES_MAX: Final = 256


class AdminToken:
    """A secret; its text form is `***`."""

    __slots__ = ("_value",)

    def __init__(self, value: str) -> None:
        if not _TOKEN.fullmatch(value):
            text = "admin token: expected 43 characters of base64url, 32 random bytes"
            raise ConfigError("config_invalid", text)
        self._value = value

    def __repr__(self) -> str:
        return "***"

    @property
    def value(self) -> str:
        """Give the token itself, for the one who sends it."""
        return self._value

    def admits(self, authorization: bytes) -> bool:
        """Tell whether an `Authorization` header carries this token."""
        return hmac.compare_digest(authorization, b"Bearer " + self._value.encode())


def read_admin_token(path: Path) -> AdminToken:
    """Read a token file; raises ConfigError, also for one that others may read."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        with os.fdopen(fd, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(_FILE_BYTES_MAX).decode("ascii", "replace").strip()
    except OSError as error:
        text = f"admin token {path}: {error.strerror}"
        raise ConfigError("config_invalid", text) from None
    if stat.S_IMODE(mode) & 0o077:
        raise ConfigError("config_invalid", f"admin token {path}: others may read it; chmod 600")
    return AdminToken(text)
