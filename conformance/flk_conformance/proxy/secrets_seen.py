"""Look for keys and tokens in what was exchanged, in every form in which they are written."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from .contract import Got, Sent, Violation

SHORTEST: Final = 8
"""A shorter secret would be found by chance."""


class Secrets:
    """Secrets by the name of their file, and the texts that would give one away."""

    def __init__(self, secrets: Iterable[tuple[str, bytes]] = ()) -> None:
        self._forms = [
            (name, form)
            for name, secret in secrets
            for form in forms(secret)
            if len(form) >= SHORTEST
        ]

    def find(self, sent: Sent, got: Got | None) -> Iterator[Violation]:
        """Give a violation for each secret that stands where it must not."""
        told = [value for name, value in sent.headers if not _may_hold(name, sent)]
        said = "\n".join([sent.target, *told]).encode("latin-1") + b"\n" + sent.body
        yield from self._in("client", said)
        if got is not None:
            lines = "\n".join(value for _, value in got.headers).encode("latin-1")
            yield from self._in("server", lines + b"\n" + got.body)

    def _in(self, side: str, text: bytes) -> Iterator[Violation]:
        for name in sorted({name for name, form in self._forms if form in text}):
            yield Violation(side, "secret", f"the secret of {name} is in it")


def _may_hold(name: str, sent: Sent) -> bool:
    """Tell whether this is the one header into which a token belongs (formats 12.3)."""
    return name == "authorization" and sent.method in ("GET", "HEAD")


def forms(secret: bytes) -> Iterator[bytes]:
    """Give a secret raw, in hexadecimal and in both alphabets of base64."""
    yield secret
    yield secret.hex().encode()
    yield secret.hex().upper().encode()
    for encode in (base64.b64encode, base64.urlsafe_b64encode):
        yield encode(secret).rstrip(b"=")


def read_secrets(paths: Iterable[Path]) -> Secrets:
    """Read files that hold a secret each: its hexadecimal digits, or its text."""
    found = []
    for path in paths:
        raw = path.read_bytes().strip()
        try:
            found.append((path.name, bytes.fromhex(raw.decode("ascii"))))
        except ValueError:
            found.append((path.name, raw))
    return Secrets(found)
