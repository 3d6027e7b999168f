"""Run `flk` in this process, for tests: an empty directory, no variables, captured output."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from fractal_lba import cli_root

KEY = "0123456789abcdef" * 4
NEW_KEY = "fedcba9876543210" * 4


class Done(NamedTuple):
    """What a command line left behind."""

    code: int
    out: str
    err: str

    def json(self) -> Any:
        """Read the one object of stdout."""
        return json.loads(self.out)

    def lines(self) -> list[Any]:
        """Read the objects of stdout."""
        return [json.loads(line) for line in self.out.splitlines()]

    def error(self) -> dict[str, Any]:
        """Read the one error of stderr."""
        (error,) = self.errors()
        return error

    def errors(self) -> list[dict[str, Any]]:
        """Read the errors of stderr."""
        return [json.loads(line)["error"] for line in self.err.splitlines()]


Flk = Callable[..., Done]


def runner(
    directory: Path, monkeypatch: pytest.MonkeyPatch, captured: pytest.CaptureFixture[bytes]
) -> Flk:
    """Give a function that runs a command line, with `stdin` as bytes."""
    monkeypatch.chdir(directory)
    for name in ("FLK_ENDPOINT", "FLK_TENANT", "PCS_HMAC_KEY", "PCS_KID"):
        monkeypatch.delenv(name, raising=False)

    def run(*arguments: str, stdin: bytes = b"") -> Done:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(stdin)))
        code = cli_root.run(arguments)
        streams = captured.readouterr()
        return Done(code, streams.out.decode(), streams.err.decode())

    return run


def write_key(name: str, *, kid: str, key: str = KEY) -> str:
    """Write a key file of tenant `acme`."""
    path = Path(name)
    path.write_text(json.dumps({"kid": kid, "alg": "HMAC", "tenant": "acme", "key": key}))
    path.chmod(0o600)
    return name
