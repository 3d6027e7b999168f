"""Hold one record, typed and closed, and say whether a record is in its format.

`check_record` is the hand-written twin of `spec/schemas/pcs.json` and of the residual rules of
`spec/formats.md` 1, which no JSON Schema can state; tests hold it to both. It needs no library.
This file owns the shape of a record in this package; the signing rule reads eight members of it
on its own (`canonical`), because a signature is also checked on what is no whole record.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import date
from types import MappingProxyType
from typing import Any, Final, NamedTuple, Self

from .canonical import MAX_SAFE_INTEGER, MAX_SHARD_ID_BYTES, SIGNED_FLOATS, parse
from .errors import ValidationError
from .ids import derive_pcs_id

__all__ = ["REGIMES", "SCHEMA", "VERSION", "Ft", "Record", "check_record"]

SCHEMA: Final = "fractal-lba-kakeya"
VERSION: Final = "0.1"
REGIMES: Final = ("sticky", "mixed", "non_sticky")

MAX_SCALE: Final = 2**31 - 1
"""Largest scale."""

MAX_SCALES: Final = 32
"""Most scales; two are the least that give a slope."""

MAX_DIMENSIONS: Final = 2048
"""Longest `v_star`; more doubles do not fit into a record."""

MAX_FALLBACKS: Final = 16
"""Most entries of `ft.fallbacks`."""

MAX_FALLBACK_BYTES: Final = 64
"""Longest entry of `ft.fallbacks`, in bytes of UTF-8."""

MAX_NAME_BYTES: Final = 64
"""Longest `kid` and `tenant_id`, in bytes of UTF-8."""

MAX_CLOCK_SKEW_MS: Final = 86_400_000
"""Largest magnitude of `ft.clock_skew_ms`: one day."""

NORM_SLACK: Final = 1e-6
"""How far the norm of `v_star` may be from 1; no vector comes within 1e-8 of this bound."""

_TOLD_FIRST: Final = ("/schema", "/version")
_TOLD_LAST: Final = ("/alg", "/sig_v")
"""Of several faults, those of another format come first and those of the signature last."""

_HEX64 = re.compile(r"[0-9a-f]{64}\Z")
_SENT_AT = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})"
    r"T(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\.[0-9]{1,9})?Z\Z"
)


class _Fault(NamedTuple):
    code: str
    pointer: str
    expected: str


class _Check:
    """Collect the faults of one record. `typed` values can be NaN or infinite, tokens cannot."""

    __slots__ = ("faults", "typed")

    def __init__(self, typed: bool) -> None:
        self.typed = typed
        self.faults: list[_Fault] = []

    def add(self, code: str, pointer: str, expected: str) -> None:
        self.faults.append(_Fault(code, pointer, expected))


_Rule = Callable[[_Check, Any, str], None]


def _hex64(check: _Check, value: Any, pointer: str) -> None:
    if type(value) is not str:
        check.add("member_type", pointer, "a string")
    elif not _HEX64.match(value):
        check.add("hex_invalid", pointer, "64 characters 0-9 a-f")


def _integer(low: int, high: int = MAX_SAFE_INTEGER) -> _Rule:
    def rule(check: _Check, value: Any, pointer: str) -> None:
        if type(value) is not int:
            check.add("member_type", pointer, "a lexical integer")
        elif not low <= value <= high:
            check.add("number_out_of_range", pointer, f"an integer from {low} to {high}")

    return rule


def _epoch(check: _Check, value: Any, pointer: str) -> None:
    if type(value) is int or type(value) is float:
        if type(value) is float or not 0 <= value <= MAX_SAFE_INTEGER:
            check.add("epoch_invalid", pointer, f"a lexical integer from 0 to {MAX_SAFE_INTEGER}")
    else:
        check.add("member_type", pointer, "an integer")


def _finite(check: _Check, value: Any, pointer: str) -> bool:
    """Say whether a value is a number with a double, and add the fault if not."""
    if type(value) is not float and type(value) is not int:
        check.add("member_type", pointer, "a number")
        return False
    try:
        if math.isfinite(value):
            return True
        code = "number_not_finite" if check.typed else "number_out_of_range"
    except OverflowError:  # an integer beyond every double
        code = "number_out_of_range"
    check.add(code, pointer, "a finite number")
    return False


def _number(high: float) -> _Rule:
    def rule(check: _Check, value: Any, pointer: str) -> None:
        if _finite(check, value, pointer) and not 0 <= value <= high:
            check.add("number_out_of_range", pointer, f"a number from 0 to {high}")

    return rule


def _text(low: int, high: int) -> _Rule:
    """Take a string of so many bytes of UTF-8."""

    def rule(check: _Check, value: Any, pointer: str) -> None:
        if type(value) is not str:
            check.add("member_type", pointer, "a string")
            return
        try:
            size = len(value.encode())
        except UnicodeEncodeError:
            check.add("string_surrogate", pointer, "no unpaired surrogate")
            return
        if not low <= size <= high:
            check.add("string_length", pointer, f"{low} to {high} bytes of UTF-8")

    return rule


def _constant(expected: str, code: str) -> _Rule:
    def rule(check: _Check, value: Any, pointer: str) -> None:
        if type(value) is not str:
            check.add("member_type", pointer, "a string")
        elif value != expected:
            check.add(code, pointer, f"{expected!r}")

    return rule


def _one_of(choices: Sequence[str], code: str) -> _Rule:
    def rule(check: _Check, value: Any, pointer: str) -> None:
        if type(value) is not str:
            check.add("member_type", pointer, "a string")
        elif value not in choices:
            check.add(code, pointer, f"one of {', '.join(choices)}")

    return rule


def _sent_at(check: _Check, value: Any, pointer: str) -> None:
    if type(value) is not str:
        check.add("member_type", pointer, "a string")
    elif not _is_time(value):
        check.add("member_type", pointer, "a UTC time like 2026-01-15T12:00:00Z")


def _is_time(text: str) -> bool:
    """Say whether a text is a real calendar time of `sent_at`."""
    parts = _SENT_AT.match(text)
    if parts is None:
        return False
    try:
        date(int(parts[1]), int(parts[2]), int(parts[3]))
    except ValueError:
        return False
    return True


def _boolean(check: _Check, value: Any, pointer: str) -> None:
    if type(value) is not bool:
        check.add("member_type", pointer, "true or false")


def _string(check: _Check, value: Any, pointer: str) -> None:
    if type(value) is not str:
        check.add("member_type", pointer, "a string")


def _sig_v(check: _Check, value: Any, pointer: str) -> None:
    if type(value) is not int or value != 2:
        check.add("sig_version_unsupported", pointer, "2, or no such member")


def _list(low: int, high: int, rule: _Rule) -> _Rule:
    def of_list(check: _Check, value: Any, pointer: str) -> None:
        if not isinstance(value, list | tuple):
            check.add("member_type", pointer, "an array")
            return
        if not low <= len(value) <= high:
            check.add("string_length", pointer, f"{low} to {high} items")
            return
        for index, item in enumerate(value):
            rule(check, item, f"{pointer}/{index}")

    return of_list


def _v_star(check: _Check, value: Any, pointer: str) -> None:
    is_list = isinstance(value, list | tuple) and 1 <= len(value) <= MAX_DIMENSIONS
    if is_list and set(map(type, value)) == {float} and all(map(math.isfinite, value)):
        return  # the usual case, at the speed of C
    _DIRECTION(check, value, pointer)


def _finite_rule(check: _Check, value: Any, pointer: str) -> None:
    _finite(check, value, pointer)


_DIRECTION: Final = _list(1, MAX_DIMENSIONS, _finite_rule)
_COUNT: Final = _integer(1)


def _counts(check: _Check, value: Any, pointer: str) -> None:
    if not isinstance(value, Mapping):
        check.add("member_type", pointer, "an object")
        return
    for name, count in value.items():
        if type(name) is str:
            _COUNT(check, count, _below(pointer, name))
        else:
            check.add("member_type", pointer, "names that are strings")


def _ft(check: _Check, value: Any, pointer: str) -> None:
    if not isinstance(value, Mapping):
        check.add("member_type", pointer, "an object")
    else:
        _members(check, value, pointer, _FT, _FT)


_FT: Final[Mapping[str, _Rule]] = {
    "outbox_seq": _integer(0),
    "degraded": _boolean,
    "fallbacks": _list(0, MAX_FALLBACKS, _text(1, MAX_FALLBACK_BYTES)),
    "clock_skew_ms": _integer(-MAX_CLOCK_SKEW_MS, MAX_CLOCK_SKEW_MS),
}

_REQUIRED: Final[Mapping[str, _Rule]] = {
    "pcs_id": _hex64,
    "schema": _constant(SCHEMA, "schema_unsupported"),
    "version": _constant(VERSION, "schema_unsupported"),
    "shard_id": _text(1, MAX_SHARD_ID_BYTES),
    "epoch": _epoch,
    "attempt": _integer(1),
    "sent_at": _sent_at,
    "seed": _integer(0),
    "scales": _list(2, MAX_SCALES, _integer(1, MAX_SCALE)),
    "N_j": _counts,
    "v_star": _v_star,
    **{name: _number(high) for name, high in SIGNED_FLOATS.items()},
    "regime": _one_of(REGIMES, "member_type"),
    "merkle_root": _hex64,
    "ft": _ft,
}

_NAME: Final = _text(1, MAX_NAME_BYTES)

_OPTIONAL: Final[Mapping[str, _Rule]] = {
    "sig": _string,
    "sig_v": _sig_v,
    "alg": _one_of(("HMAC", "Ed25519"), "alg_mismatch"),
    "kid": _NAME,
    "tenant_id": _NAME,
}

_ALL: Final[Mapping[str, _Rule]] = {**_REQUIRED, **_OPTIONAL}

VERSION_2_MEMBERS: Final = ("alg", "kid", "tenant_id")
"""Members that version 2 always carries."""


def _below(pointer: str, name: str) -> str:
    """Extend a JSON pointer (RFC 6901)."""
    return f"{pointer}/{name.replace('~', '~0').replace('/', '~1')}"


def _members(
    check: _Check,
    value: Mapping[str, Any],
    pointer: str,
    required: Mapping[str, _Rule],
    rules: Mapping[str, _Rule],
) -> None:
    """Check a closed object."""
    for name in required:
        if name not in value:
            check.add("member_missing", f"{pointer}/{name}", "this member")
    for name, item in value.items():
        rule = rules.get(name)
        if rule is None:
            check.add("member_unknown", _below(pointer, name), "no such member")
        else:
            rule(check, item, f"{pointer}/{name}")


def _version_members(check: _Check, record: Mapping[str, Any], signed: bool) -> None:
    if signed and "sig" not in record:
        check.add("member_missing", "/sig", "this member")
    if "sig_v" in record:
        for name in VERSION_2_MEMBERS:
            if name not in record:
                check.add("member_missing", f"/{name}", "this member with sig_v")
    elif "tenant_id" in record:
        check.add("member_unknown", "/tenant_id", "no such member without sig_v")


def check_record(record: Mapping[str, Any], *, signed: bool = False, typed: bool = False) -> None:
    """Refuse a record that is not in its format (spec/schemas/pcs.json, spec/formats.md 1).

    `signed` asks for the member `sig`. `typed` says that the values never were JSON text: then
    an infinite number is `number_not_finite`, not a token that is too large. Raises
    ValidationError with code and JSON pointer. Whether `pcs_id` is the derived one is asked by
    `ids.check_pcs_id`.
    """
    check = _Check(typed)
    _members(check, record, "", _REQUIRED, _ALL)
    _version_members(check, record, signed)
    if not check.faults:
        _residual(check, record)
    if check.faults:
        fault = min(check.faults, key=_rank)
        raise ValidationError(
            fault.code,
            f"{fault.pointer.lstrip('/') or 'record'}: expected {fault.expected}",
            pointer=fault.pointer,
        )


def _rank(fault: _Fault) -> int:
    if fault.pointer in _TOLD_FIRST:
        return 0
    return 2 if fault.pointer in _TOLD_LAST else 1


def _residual(check: _Check, record: Mapping[str, Any]) -> None:
    """Ask what relates members, or items of one, to each other."""
    scales = record["scales"]
    for index in range(1, len(scales)):
        if scales[index] <= scales[index - 1]:
            check.add("number_out_of_range", f"/scales/{index}", "strictly increasing scales")
    names = set(map(str, scales))
    for name in sorted(names - record["N_j"].keys()):
        check.add("member_missing", f"/N_j/{name}", "this member, a scale")
    for name in record["N_j"]:
        if name not in names:
            check.add("member_unknown", _below("/N_j", name), "only scales as names")
    if not abs(math.hypot(*record["v_star"]) - 1) <= NORM_SLACK:
        check.add("number_out_of_range", "/v_star", "a vector of norm 1")


# --- the typed record ----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Ft:
    """Hold the delivery conditions of a record; not part of its content."""

    outbox_seq: int = 0
    degraded: bool = False
    fallbacks: tuple[str, ...] = ()
    clock_skew_ms: int = 0

    def __post_init__(self) -> None:
        object.__setattr__(self, "fallbacks", tuple(self.fallbacks))

    def to_dict(self) -> dict[str, Any]:
        """Give the members as the format names them."""
        return {
            "outbox_seq": self.outbox_seq,
            "degraded": self.degraded,
            "fallbacks": list(self.fallbacks),
            "clock_skew_ms": self.clock_skew_ms,
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Record:
    """Hold one Proof-of-Computation Summary: frozen, closed, and valid from the start.

    `pcs_id` is derived if it is not given. The last five members belong to a signed record and
    are absent (None) before.
    """

    merkle_root: str
    epoch: int
    shard_id: str
    sent_at: str
    scales: tuple[int, ...]
    N_j: Mapping[str, int]
    coh_star: float
    v_star: tuple[float, ...] = field(repr=False)
    D_hat: float
    r: float
    regime: str
    budget: float
    seed: int = 0
    attempt: int = 1
    ft: Ft = field(default_factory=Ft)
    schema: str = SCHEMA
    version: str = VERSION
    pcs_id: str = None  # type: ignore[assignment]  # None: derived from the three it names
    sig: str | None = field(default=None, repr=False)
    sig_v: int | None = None
    alg: str | None = None
    kid: str | None = None
    tenant_id: str | None = None

    def __post_init__(self) -> None:
        members = dict(self._items())
        if self.pcs_id is None:
            members["pcs_id"] = "0" * 64  # checked below with the rest, then replaced
        check_record(members, typed=True)
        self._freeze()
        if self.pcs_id is None:
            derived = derive_pcs_id(self.merkle_root, self.epoch, self.shard_id)
            object.__setattr__(self, "pcs_id", derived)

    def _freeze(self) -> None:
        object.__setattr__(self, "scales", tuple(self.scales))
        object.__setattr__(self, "v_star", tuple(self.v_star))
        object.__setattr__(self, "N_j", MappingProxyType(dict(self.N_j)))

    def _items(self) -> Iterator[tuple[str, Any]]:
        for name in _FIELDS:
            value = getattr(self, name)
            if value is not None:
                yield name, value.to_dict() if isinstance(value, Ft) else value

    @classmethod
    def from_dict(cls, members: Mapping[str, Any]) -> Self:
        """Take the members of a record as JSON gives them. Raises ValidationError."""
        check_record(members)
        record = object.__new__(cls)  # checked already, by the rules of JSON
        for name in _FIELDS:
            object.__setattr__(record, name, members.get(name))
        object.__setattr__(record, "ft", Ft(**members["ft"]))
        record._freeze()
        return record

    @classmethod
    def from_json(cls, data: bytes) -> Self:
        """Read a record from JSON text. Raises ValidationError."""
        return cls.from_dict(parse(data))

    def to_dict(self) -> dict[str, Any]:
        """Give the members as JSON has them; the caller may change what it gets."""
        members = dict(self._items())
        members["scales"] = list(self.scales)
        members["v_star"] = list(self.v_star)
        members["N_j"] = dict(self.N_j)
        return members

    def __hash__(self) -> int:
        return hash(self.pcs_id)

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self).from_dict, (self.to_dict(),)


_FIELDS: Final = tuple(item.name for item in fields(Record))
