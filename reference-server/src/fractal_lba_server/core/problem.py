"""Write refusals as RFC 9457 problem details.

This file owns the members of a problem and the rule that 429 and 503 always say when to come
back. Status and title of a code stand in `spec/errors.json`; the closed list that the SDK holds
equal to it is what is read here.
"""

from __future__ import annotations

from typing import Any, Final

from fractal_lba.canonical import jcs
from fractal_lba.errors import CODES

TYPE_BASE: Final = "https://fractal-lba.example/problems/"
"""What the `type` of every problem begins with; the code follows."""

RETRY_AFTER_MS_DEFAULT: Final = 1_000
"""What a client is told to wait where a status needs `Retry-After` and nobody knows better."""

STATUSES_WITH_RETRY_AFTER: Final = frozenset({429, 503})
"""Statuses that never go without `Retry-After`."""

DETAIL_CHARACTERS_MAX: Final = 1_000
"""Longer details are cut: a caller must not choose how much is sent back."""


def problem(
    code: str, detail: str, *, request_id: str, pointer: str | None = None, **extras: Any
) -> tuple[int, bytes]:
    """Give the status and the body of a refusal; `extras` are further members.

    A refusal with 429 or 503 carries `retry_after_ms` even if the caller gives none. Raises
    KeyError for a code that no server sends.
    """
    info = CODES[code]
    if info.status is None:
        raise KeyError(f"{code} is not an answer of a server")
    members: dict[str, Any] = {
        **extras,
        "type": TYPE_BASE + code,
        "title": info.sentence,
        "status": info.status,
        "detail": detail[:DETAIL_CHARACTERS_MAX],
        "code": code,
        "request_id": request_id,
    }
    if pointer is not None:
        members["pointer"] = pointer
    wait_ms = retry_after_ms(code, extras.get("retry_after_ms"))
    if wait_ms is not None:
        members["retry_after_ms"] = wait_ms
    return info.status, jcs(members)


def retry_after_ms(code: str, given_ms: int | None = None) -> int | None:
    """Say how long a refused client waits: as given, else what the status asks for."""
    if given_ms is None and CODES[code].status in STATUSES_WITH_RETRY_AFTER:
        return RETRY_AFTER_MS_DEFAULT
    return given_ms


def retry_after_text(wait_ms: int) -> str:
    """Write the value of `Retry-After`: whole seconds, never less than asked for."""
    return str(-(-wait_ms // 1_000))
