"""A token: one failing run in one line of text, which replays to the same trace.

The invariant of this file: `parse_token` gives exactly what `token_of` was given, or says why it
cannot. The bytes are

    version (1) | first 6 bytes of the SHA-256 of what follows (6) | zlib of the RFC 8785 form

in base64url without padding, behind `flk1-`. The form holds the engine, the seed, the planted
wrong protocols, the scenario, the first 8 bytes of the digest of its trace, and the version of
the simulator that made it.
"""

from __future__ import annotations

import base64
import binascii
import re
import zlib
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, Final

from fractal_lba.canonical import jcs, parse_value
from fractal_lba.errors import FractalLBAError
from fractal_lba_sim import __version__

PREFIX: Final = "flk1-"
VERSION: Final = 1

CHECK_BYTES: Final = 6
TRACE_DIGITS: Final = 16
"""Hex digits of the trace's digest that a token holds."""

TOKEN_CHARS_MAX: Final = 32_768
"""Longest token: a scenario with 64 faults has about 4,000 characters."""

DOCUMENT_BYTES_MAX: Final = 1 << 20
"""Longest document inside a token, unpacked."""

MEMBERS: Final = {"engine", "plants", "scenario", "seed", "simulator", "trace"}
SHAPE: Final = re.compile(r"flk([0-9]{1,3})-([A-Za-z0-9_-]+)")


class TokenError(Exception):
    """This is no token, or none that can be played here; the message says which."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Run:
    """What is needed to play one run again."""

    scenario: Mapping[str, Any]
    seed: int
    engine: str = "exact"
    plants: tuple[str, ...] = ()
    trace: str = ""
    """The first digits of the digest of its trace; empty if it was not played."""

    simulator: str = __version__


def token_of(run: Run) -> str:
    """Write a run as one line."""
    packed = zlib.compress(
        jcs({
            "engine": run.engine,
            "plants": list(run.plants),
            "scenario": dict(run.scenario),
            "seed": run.seed,
            "simulator": run.simulator,
            "trace": run.trace[:TRACE_DIGITS],
        }),
        level=9,
    )  # fmt: skip
    data = bytes((VERSION,)) + _check(packed) + packed
    return PREFIX + base64.urlsafe_b64encode(data).decode().rstrip("=")


def is_token(text: str) -> bool:
    """Say whether a text means to be a token, of whatever version."""
    return SHAPE.fullmatch(text.strip()) is not None


def parse_token(text: str) -> Run:
    """Read a token. Raises TokenError for one that is damaged or of another version."""
    match = SHAPE.fullmatch(text.strip())
    if match is None or len(text) > TOKEN_CHARS_MAX:
        raise TokenError(f"not a token: it is {PREFIX} and up to {TOKEN_CHARS_MAX} characters")
    if match[1] != str(VERSION):
        raise TokenError(f"a token of version {match[1]}; this flk-sim reads version {VERSION}")
    try:
        data = base64.urlsafe_b64decode(match[2] + "=" * (-len(match[2]) % 4))
        whole = base64.urlsafe_b64encode(data).decode().rstrip("=") == match[2]
    except (ValueError, binascii.Error):
        whole = False
    if not whole:
        raise TokenError("the token is damaged: it is not base64url")
    packed = data[1 + CHECK_BYTES :]
    if data[:1] != bytes((VERSION,)) or data[1 : 1 + CHECK_BYTES] != _check(packed):
        raise TokenError("the token is damaged: its check bytes do not fit")
    return _run(_unpacked(packed))


def _check(packed: bytes) -> bytes:
    return sha256(packed).digest()[:CHECK_BYTES]


def _unpacked(packed: bytes) -> Any:
    reader = zlib.decompressobj()
    try:
        data = reader.decompress(packed, DOCUMENT_BYTES_MAX)
        if reader.unconsumed_tail or not reader.eof or reader.unused_data:
            raise TokenError(f"the token is damaged: at most {DOCUMENT_BYTES_MAX} bytes, whole")
        return parse_value(data, max_bytes=DOCUMENT_BYTES_MAX)
    except (zlib.error, FractalLBAError) as error:
        raise TokenError(f"the token is damaged: {error}") from None


def _run(value: Any) -> Run:
    if not isinstance(value, dict) or set(value) != MEMBERS:
        raise TokenError(f"the token is damaged: expected the members {', '.join(sorted(MEMBERS))}")
    return Run(
        scenario=value["scenario"], seed=value["seed"], engine=value["engine"],
        plants=tuple(value["plants"]), trace=value["trace"], simulator=value["simulator"],
    )  # fmt: skip
