"""Read what the server says about a record: the stored outcome, and the facts of the exchange.

The response body *is* the stored outcome (`spec/schemas/outcome.json`), the same bytes for the
first answer, every duplicate and GET. What belongs to one exchange is in headers. This file owns
the reading of both; anything outside the format is `response_malformed`, never a guess.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, NamedTuple, Never

from .canonical import parse_value
from .errors import APIError, ValidationError

__all__ = ["LEVELS", "REASONS", "FirstSeen", "Outcome", "Position", "Raw", "Submitted"]

LEVELS = ("durable", "replicated", "witnessed")
"""The durability levels; each includes those before it."""

REFUSING_REASONS = ("d_hat_out_of_tolerance", "coh_star_out_of_range", "n_j_implausible")
"""Reasons of an outcome that is escalated and not accepted."""

ACCEPTING_REASONS = ("regime_mismatch", "budget_deviation")
"""Reasons of an outcome that is escalated and accepted."""

REASONS = REFUSING_REASONS + ACCEPTING_REASONS
"""Why an outcome escalates, in the order in which the first that applies is taken."""

MAX_OUTCOME_BYTES = 1024 * 1024
"""Longest body read as an outcome when the caller names no other limit."""

_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_HEX16 = re.compile(r"[0-9a-f]{16}\Z")
_REGION = re.compile(r"[a-z0-9]{3}\Z")
_POSITION = re.compile(
    r"([a-z0-9]{3})/([a-z0-9-]{1,64})/(0|[1-9][0-9]{0,9})/(0|[1-9][0-9]{0,15})\Z"
)

_REQUIRED = frozenset(
    {
        "accepted", "escalated", "first_seen", "pcs_id", "policy_version", "recomputed_D_hat",
        "recomputed_budget",
    }
)  # fmt: skip


def _refuse(what: str) -> Never:
    raise APIError("response_malformed", f"outcome: {what}")


class FirstSeen(NamedTuple):
    """Say where and when the first write of this id was recorded."""

    region: str
    hlc: str


@dataclass(frozen=True, slots=True)
class Outcome:
    """Hold the stored verdict about one record; final, and the same for every duplicate.

    `accepted` is the verdict, `escalated` says that a person should look, `reason` why.
    """

    accepted: bool
    escalated: bool
    first_seen: FirstSeen
    pcs_id: str
    policy_version: str
    reason: str | None
    recomputed_D_hat: float
    recomputed_budget: float

    @classmethod
    def from_json(cls, body: bytes, *, max_bytes: int = MAX_OUTCOME_BYTES) -> Outcome:
        """Read an outcome. Raises APIError `response_malformed`."""
        try:
            members = parse_value(body, max_bytes=max_bytes)
        except ValidationError as error:
            raise APIError("response_malformed", f"outcome: {error.message}") from None
        return cls.from_dict(members)

    @classmethod
    def from_dict(cls, members: Any) -> Outcome:
        """Check the members of an outcome and give them types."""
        if not isinstance(members, dict):
            _refuse("expected one JSON object")
        names = members.keys() - {"reason"}
        if names != _REQUIRED:
            _refuse(f"missing or unknown members: {', '.join(sorted(names ^ _REQUIRED))}")
        outcome = cls(
            accepted=_flag(members, "accepted"),
            escalated=_flag(members, "escalated"),
            first_seen=_first_seen(members["first_seen"]),
            pcs_id=_text(members, "pcs_id", _HEX64),
            policy_version=_text(members, "policy_version", _HEX16),
            reason=members.get("reason"),
            recomputed_D_hat=_number(members, "recomputed_D_hat", 3.5),
            recomputed_budget=_number(members, "recomputed_budget", 1.0),
        )
        _check_reason(outcome, "reason" in members)
        return outcome

    def to_dict(self) -> dict[str, Any]:
        """Give the members as the format names them."""
        members: dict[str, Any] = {
            "accepted": self.accepted,
            "escalated": self.escalated,
            "first_seen": self.first_seen._asdict(),
            "pcs_id": self.pcs_id,
            "policy_version": self.policy_version,
            "recomputed_D_hat": self.recomputed_D_hat,
            "recomputed_budget": self.recomputed_budget,
        }
        if self.reason is not None:
            members["reason"] = self.reason
        return members


def _flag(members: Mapping[str, Any], name: str) -> bool:
    value = members[name]
    if not isinstance(value, bool):
        _refuse(f"{name}: expected true or false")
    return value


def _text(members: Mapping[str, Any], name: str, form: re.Pattern[str]) -> str:
    value = members[name]
    if not isinstance(value, str) or not form.match(value):
        _refuse(f"{name}: expected text of the form {form.pattern[:-2]}")
    return value


def _number(members: Mapping[str, Any], name: str, high: float) -> float:
    value = members[name]
    if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= high:
        _refuse(f"{name}: expected a number from 0 to {high}")
    return float(value)


def _first_seen(value: Any) -> FirstSeen:
    if not isinstance(value, dict) or value.keys() != {"region", "hlc"}:
        _refuse("first_seen: expected region and hlc")
    return FirstSeen(_text(value, "region", _REGION), _text(value, "hlc", _HEX16))


def _check_reason(outcome: Outcome, given: bool) -> None:
    """Refuse a verdict whose parts contradict each other."""
    if not outcome.escalated:
        if given or not outcome.accepted:
            _refuse("not escalated: expected accepted and no reason")
        return
    allowed = ACCEPTING_REASONS if outcome.accepted else REFUSING_REASONS
    if outcome.reason not in allowed:
        _refuse(f"reason: expected one of {', '.join(allowed)}")


@dataclass(frozen=True, slots=True)
class Position:
    """Name a place in a region's log: `<region>/<placement>/<region_epoch>/<seq>`."""

    region: str
    placement: str
    region_epoch: int
    seq: int

    @classmethod
    def parse(cls, text: str, *, header: str = "PCS-Position") -> Position:
        """Read the value of a header. Raises APIError `response_malformed`."""
        parts = _POSITION.match(text)
        if parts is None:
            raise APIError("response_malformed", f"{header}: not a position: {text:.80}")
        return cls(parts[1], parts[2], int(parts[3]), int(parts[4]))

    def __str__(self) -> str:
        return f"{self.region}/{self.placement}/{self.region_epoch}/{self.seq}"


@dataclass(frozen=True, slots=True)
class Raw:
    """Keep the exchange as it was, so that nothing needs a second API.

    `headers` have lower-case names; several fields of one name are joined by `, `.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes
    request_id: str | None = None
    attempts: int = 1


@dataclass(frozen=True, slots=True)
class Submitted:
    """Hold a recorded submit: the outcome, and how this exchange went.

    `replayed` is true for a duplicate, `level` the durability reached, `replicated` how far the
    region that answered is replicated, `receipt` None until the server issues receipts.
    """

    outcome: Outcome
    replayed: bool
    level: str
    position: Position | None
    raw: Raw
    receipt: bytes | None = None
    replicated: Position | None = None
