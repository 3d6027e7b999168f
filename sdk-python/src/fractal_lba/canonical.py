"""The signing rule: strict JSON in, the exact bytes that are signed out.

This file owns rounding, number text, the strict JSON profile, RFC 8785 and the two
payloads (spec/canonical.md). Nothing else in this package rounds a number or writes JSON
that is signed. Text comes from one of two back ends with the same answers: orjson where it
is installed, the standard library where it is not.

    >>> payload({"D_hat": 1.25, "budget": 0.125, "coh_star": 0.5, "epoch": 1, "r": 0.25,
    ...          "merkle_root": "b" * 64, "pcs_id": "a" * 64, "shard_id": "s"})[:44]
    b'{"D_hat":1.25,"budget":0.125,"coh_star":0.5,'
"""

# tidy: long because the signing rule is one rule: its text, its numbers, its payloads

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping
from hashlib import sha256
from json.decoder import JSONDecodeError, JSONDecoder
from json.encoder import encode_basestring
from typing import Any, Final, NoReturn

from .errors import SignatureError, ValidationError

try:
    import orjson
except ImportError:  # the standard library gives the same bytes, more slowly
    orjson = None  # type: ignore[assignment]  # absent is None

__all__ = [
    "MAX_DEPTH",
    "MAX_RECORD_BYTES",
    "MAX_SAFE_INTEGER",
    "MAX_SHARD_ID_BYTES",
    "SIGNED_FLOATS",
    "Canonical",
    "canonicalize",
    "jcs",
    "nano",
    "number_text",
    "parse",
    "parse_value",
    "payload",
    "rounded",
    "signature_version",
]

MAX_RECORD_BYTES: Final = 65_536
"""Longest JSON text of one record, in bytes (spec/canonical.md 3.9)."""

MAX_DEPTH: Final = 32
"""Deepest nesting of arrays and objects in one record (spec/canonical.md 3.9)."""

MAX_SAFE_INTEGER: Final = 2**53 - 1
"""Largest magnitude of an integer that every JSON reader keeps exactly."""

MAX_SHARD_ID_BYTES: Final = 256
"""Longest `shard_id`, in bytes of UTF-8 after unescaping (spec/canonical.md 3.1)."""

MAX_INTEGER_DIGITS: Final = 4_000
"""Longer integer tokens keep only their sign and order of magnitude: none is ever in range."""

SIGNED_FLOATS: Final[Mapping[str, float]] = {
    "D_hat": 3.5,
    "budget": 1.0,
    "coh_star": 1.05,
    "r": 1.0,
}
"""The four signed numbers and the largest value of each (spec/canonical.md 3.1)."""

NOT_CONTENT: Final = frozenset(
    {"attempt", "sent_at", "ft", "sig", "sig_v", "alg", "kid", "tenant_id"}
)
"""Members that say how a record was delivered, not what it holds (spec/canonical.md 5)."""

_NANO: Final = 1_000_000_000
_INFINITIES: Final = (math.inf, -math.inf)
_HUGE: Final = 10**400  # no double is as large
_HEX64: Final = re.compile(r"[0-9a-f]{64}\Z")


# --- numbers -------------------------------------------------------------------------------


def nano(x: float) -> int:
    """Round x to whole billionths, ties away from zero (spec/canonical.md 3.2(3), 3.2(4)).

    The domain is 0 <= x <= 3.5. `floor(p + 0.5)` is wrong for one double of it and
    `round()` for half of all ties, so neither is used.
    """
    p = x * 1e9
    whole = math.floor(p)
    return whole + (p - whole >= 0.5)


def rounded(x: float) -> float:
    """Give the number that is transmitted and used for x: n / 10^9 (spec/canonical.md 3.7)."""
    return nano(x) / 1e9


def number_text(n: int) -> str:
    """Write n billionths as RFC 8785 does (spec/canonical.md 3.2(5)).

    >>> number_text(1), number_text(120), number_text(1000), number_text(1_410_000_000)
    ('1e-9', '1.2e-7', '0.000001', '1.41')
    """
    if n >= 100_000:
        # Theorem 2 of the design: the shortest text of n / 10^9 is that of n itself.
        text = repr(n / 1e9)
        return text.removesuffix(".0")
    if n >= 1000:
        whole, fraction = divmod(n, _NANO)
        return f"{whole}.{fraction:09d}".rstrip("0") if fraction else str(whole)
    if n == 0:
        return "0"
    digits = str(n)
    exponent = 10 - len(digits)
    digits = digits.rstrip("0")
    head, tail = digits[0], digits[1:]
    return f"{head}.{tail}e-{exponent}" if tail else f"{head}e-{exponent}"


def _double_text(x: float) -> str:
    """Write any finite double as ECMAScript does (RFC 8785 section 3.2.2.3)."""
    if not math.isfinite(x):
        raise ValidationError("number_out_of_range", f"a number must be finite, got {x}")
    text = repr(x)
    if "e" not in text:
        if not text.endswith(".0"):
            return text
        return "0" if x == 0 else text[:-2]
    mantissa, exponent_text = text.split("e")
    exponent = int(exponent_text)
    sign = "-" if x < 0 else ""
    digits = mantissa.lstrip("-").replace(".", "")
    if 0 < exponent < 21:
        return sign + digits.ljust(exponent + 1, "0")
    if -7 < exponent < 0:
        return f"{sign}0.{'0' * (-exponent - 1)}{digits}"
    return f"{mantissa}e{exponent:+d}"


# --- strict JSON ---------------------------------------------------------------------------


class _DuplicateNameError(ValueError):
    """Carries the repeated name out of the decoder."""


def _members(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members = dict(pairs)
    if len(members) != len(pairs):
        names = [name for name, _ in pairs]
        raise _DuplicateNameError(next(name for name in names if names.count(name) > 1))
    return members


def _refuse_constant(token: str) -> NoReturn:
    raise ValidationError("json_malformed", f"{token} is not JSON")


def _integer(token: str) -> int | float:
    """Keep what the stock decoder loses: `-0` is no integer, and length has no limit."""
    if token == "-0":
        return -0.0
    if len(token) <= MAX_INTEGER_DIGITS:
        return int(token)
    huge: int = 10**MAX_INTEGER_DIGITS
    return -huge if token[0] == "-" else huge


# The fast decoder reads integers in C; the exact one asks `_integer` for each of them.
_fast: Final = JSONDecoder(object_pairs_hook=_members, parse_constant=_refuse_constant)
_exact: Final = JSONDecoder(
    object_pairs_hook=_members, parse_constant=_refuse_constant, parse_int=_integer
)
_NEGATIVE_ZERO: Final = re.compile(r"-0(?![.eE0-9])")
_SURROGATE_ESCAPE: Final = re.compile(r"\\u[dD][89a-fA-F]")
_BRACKET_OR_STRING: Final = re.compile(r'"(?:[^"\\]|\\.)*+"|["{}\[\]]', re.DOTALL)


def parse(data: bytes) -> dict[str, Any]:
    """Read one record (spec/canonical.md 3.9). Integer tokens become int, all others float.

    Raises ValidationError with `payload_too_large`, `json_malformed`, `json_limit`,
    `member_duplicate` or `string_surrogate`.
    """
    record = parse_value(data)
    if type(record) is not dict:
        raise ValidationError("json_malformed", "a record must be one JSON object")
    return record


def parse_value(data: bytes, *, max_bytes: int = MAX_RECORD_BYTES) -> Any:
    """Read one JSON text of any type under the rules of `parse`."""
    if len(data) > max_bytes:
        raise ValidationError(
            "payload_too_large", f"the JSON text must be at most {max_bytes} bytes, got {len(data)}"
        )
    if orjson is not None and data.count(b"{") + data.count(b"[") <= MAX_DEPTH:
        try:
            value = orjson.loads(data)
            # A text that is written again to the letter has no name twice, no `-0`, no number
            # that was changed and no white space: there is nothing left to refuse.
            if orjson.dumps(value, option=_SORTED) == data:
                return value
        except (orjson.JSONDecodeError, TypeError):  # the rules below say what is wrong
            pass
    try:
        text = str(data, "utf-8")
    except UnicodeDecodeError as error:
        raise ValidationError("json_malformed", f"not UTF-8 at byte {error.start}") from None
    if text.count("{") + text.count("[") > MAX_DEPTH:
        _check_depth(text)
    decoder = _exact if "-0" in text and _NEGATIVE_ZERO.search(text) else _fast
    value = _decode(decoder, text)
    if "\\u" in text and _SURROGATE_ESCAPE.search(text):
        _check_surrogates(value)
    if type(value) is dict:
        for name in SIGNED_FLOATS:
            if value.get(name) in _INFINITIES:  # a token beyond every double, no typed infinity
                value[name] = _HUGE if value[name] > 0 else -_HUGE
    return value


def _decode(decoder: JSONDecoder, text: str) -> Any:
    try:
        return decoder.decode(text)
    except _DuplicateNameError as error:
        name = str(error).encode("utf-8", "backslashreplace").decode()
        raise ValidationError(
            "member_duplicate", f"the member name {name!r} stands twice"
        ) from None
    except JSONDecodeError as error:
        where = len(text[: error.pos].encode())
        raise ValidationError("json_malformed", f"{error.msg} at byte {where}") from None
    except ValueError:
        # The stock decoder refuses integers of more than 4,300 digits; the profile does not.
        return _decode(_exact, text)


def _check_depth(text: str) -> None:
    depth = 0
    for token in _BRACKET_OR_STRING.finditer(text):
        mark = token.group()
        if mark in "{[":
            depth += 1
            if depth > MAX_DEPTH:
                raise ValidationError(
                    "json_limit", f"more than {MAX_DEPTH} nested arrays and objects"
                )
        elif mark in "}]":
            depth -= 1
        elif mark == '"':  # a string without an end: the decoder says so
            return


def _check_surrogates(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False).encode()
    except UnicodeEncodeError:
        raise ValidationError("string_surrogate", "an unpaired surrogate escape") from None


# --- RFC 8785 ------------------------------------------------------------------------------


def _utf16(name: str) -> bytes:
    if type(name) is not str:
        raise ValidationError("member_type", "the name of a member must be a string")
    return name.encode("utf-16-be", "surrogatepass")


def _string_text(value: str) -> str:
    try:
        value.encode()
    except UnicodeEncodeError:
        raise ValidationError("string_surrogate", "an unpaired surrogate in a string") from None
    return encode_basestring(value)


def _integer_text(value: int) -> str:
    if not -MAX_SAFE_INTEGER <= value <= MAX_SAFE_INTEGER:
        raise ValidationError("number_out_of_range", "an integer must lie within +-(2^53 - 1)")
    return str(value)


def _object_text(members: Mapping[str, Any]) -> str:
    inner = (f"{_string_text(k)}:{_text(members[k])}" for k in sorted(members, key=_utf16))
    return "{" + ",".join(inner) + "}"


_WRITERS: Final[Mapping[type, Callable[[Any], str]]] = {
    str: _string_text,
    int: _integer_text,
    float: _double_text,
    bool: lambda value: "true" if value else "false",
    type(None): lambda _: "null",
    list: lambda items: "[" + ",".join(map(_text, items)) + "]",
    tuple: lambda items: "[" + ",".join(map(_text, items)) + "]",
    dict: _object_text,
}


def _text(value: Any) -> str:
    writer = _WRITERS.get(type(value))
    if writer is None:
        raise ValidationError("member_type", f"{type(value).__name__} is not a JSON type")
    return writer(value)


if orjson is not None:
    # Passed through is what the other back end refuses: types that are not those of JSON.
    _SORTED: Final = (
        orjson.OPT_SORT_KEYS
        | orjson.OPT_STRICT_INTEGER
        | orjson.OPT_PASSTHROUGH_SUBCLASS
        | orjson.OPT_PASSTHROUGH_DATETIME
        | orjson.OPT_PASSTHROUGH_DATACLASS
    )
    # Older releases write exponents where ECMAScript does not, and without the sign that
    # `_may_differ` looks for.
    _WRITES_EXPONENTS_LATE: Final = orjson.dumps([1e-5, 1e-7, 1e16]) == b"[0.00001,1e-7,1e+16]"


def _may_differ(text: bytes) -> bool:
    """Say whether orjson may have written a double otherwise than ECMAScript.

    It does so for whole numbers (`1.0` for `1`, `1e+16` for 17 digits), from 1e-6 to 1e-5
    (`2e-6` for `0.000002`), and for what is not finite (`null`). A string that holds the same
    characters costs time, not correctness.
    """
    return (
        b"+" in text
        or _WHOLE.search(text) is not None
        or _SMALL.search(text) is not None
        or _NULL.search(text) is not None
        or text.endswith(b".0")
    )


# One literal each: a search for one is many times faster than a search for alternatives.
_WHOLE: Final = re.compile(rb"\.0[,}\]]")
_SMALL: Final = re.compile(rb"e-6")
_NULL: Final = re.compile(rb"null")

_PLAIN: Final[frozenset[type]] = frozenset({str, int, bool, type(None)})
"""Types whose values orjson writes as RFC 8785 does, or refuses."""


def _prepare(value: Any) -> Any:
    """Replace what orjson writes otherwise than RFC 8785: doubles, and names it would missort."""
    kind = type(value)
    if kind in _PLAIN:
        return value
    if kind is list or kind is tuple:
        return value if _PLAIN.issuperset(map(type, value)) else [_prepare(v) for v in value]
    if kind is dict and "".join(value).isascii():
        return {name: _prepare(item) for name, item in value.items()}
    return orjson.Fragment(_text(value))


def jcs(value: Any) -> bytes:
    """Write a JSON value in the one form of RFC 8785.

    Raises ValidationError with `number_out_of_range`, `string_surrogate` or `member_type`.
    """
    if orjson is not None:
        try:
            if _WRITES_EXPONENTS_LATE:
                text = orjson.dumps(value, option=_SORTED)
                if text.isascii() and not _may_differ(text):
                    return text
            return orjson.dumps(_prepare(value), option=_SORTED)
        except TypeError:  # orjson names no cause; the other back end does
            pass
    return _text(value).encode()


# --- signed members and payloads -----------------------------------------------------------


def signature_version(record: Mapping[str, Any]) -> int:
    """Say which version a record claims: 1 without `sig_v`, else 2 (spec/canonical.md 4)."""
    if "sig_v" not in record:
        return 1
    claimed = record["sig_v"]
    if type(claimed) is int and claimed == 2:
        return 2
    raise SignatureError(
        "sig_version_unsupported", "expected sig_v to be absent or 2", pointer="/sig_v"
    )


def _member(record: Mapping[str, Any], name: str) -> Any:
    try:
        return record[name]
    except KeyError:
        raise ValidationError("member_missing", f"{name} is missing", pointer=f"/{name}") from None


def _as_double(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        found = type(value).__name__
        raise ValidationError(
            "member_type", f"{name}: expected a number, got {found}", pointer=f"/{name}"
        )
    try:
        return float(value)
    except OverflowError:
        return math.inf


def _refuse_number(name: str, x: float, given: Any, high: float) -> NoReturn:
    # A JSON number cannot be NaN or infinite, only too large; `parse` gives an integer for that.
    finite = type(given) is int or math.isfinite(x)
    code = "number_out_of_range" if finite else "number_not_finite"
    raise ValidationError(
        code, f"{name}: expected 0 <= x <= {high}, got {given!r:.40}", pointer=f"/{name}"
    )


def _signed_nanos(record: Mapping[str, Any]) -> dict[str, int]:
    """Round the four floats; range is tested before rounding (spec/canonical.md 3.2(2))."""
    nanos = {}
    for name, high in SIGNED_FLOATS.items():
        given = _member(record, name)
        x = given if type(given) is float else _as_double(name, given)
        if not 0.0 <= x <= high:
            _refuse_number(name, x, given, high)
        p = x * 1e9
        whole = int(p)  # floor: x is not negative
        nanos[name] = whole + (p - whole >= 0.5)
    return nanos


def _epoch(record: Mapping[str, Any]) -> int:
    epoch = _member(record, "epoch")
    if type(epoch) is not int or not 0 <= epoch <= MAX_SAFE_INTEGER:
        code = "epoch_invalid" if type(epoch) in (int, float) else "member_type"
        raise ValidationError(
            code, "epoch: expected an integer from 0 to 2^53 - 1", pointer="/epoch"
        )
    return epoch


def _hex64(record: Mapping[str, Any], name: str) -> str:
    value = _member(record, name)
    if type(value) is not str:
        raise ValidationError("member_type", f"{name}: expected a string", pointer=f"/{name}")
    if not _HEX64.match(value):
        raise ValidationError(
            "hex_invalid", f"{name}: expected 64 characters 0-9 a-f", pointer=f"/{name}"
        )
    return value


def _shard_id(record: Mapping[str, Any]) -> str:
    """Give `shard_id` as JSON text."""
    value = _member(record, "shard_id")
    if type(value) is not str:
        raise ValidationError("member_type", "shard_id: expected a string", pointer="/shard_id")
    try:
        size = len(value.encode())
    except UnicodeEncodeError:
        raise ValidationError(
            "string_surrogate", "shard_id: an unpaired surrogate", pointer="/shard_id"
        ) from None
    if not 1 <= size <= MAX_SHARD_ID_BYTES:
        raise ValidationError(
            "string_length",
            f"shard_id: expected 1 to {MAX_SHARD_ID_BYTES} bytes, got {size}",
            pointer="/shard_id",
        )
    return encode_basestring(value)


class Canonical:
    """One record read once for everything that is derived from its text.

    `payload` are the bytes whose digest is signed, `digest` their SHA-256, `values` the four
    numbers as every later step must use them.
    """

    __slots__ = ("_content", "_members", "digest", "nanos", "payload")

    def __init__(self, record: Mapping[str, Any], sig_v: int) -> None:
        self.nanos = nanos = _signed_nanos(record)
        self._members = {**record, **self.values}
        self._members.pop("sig", None)
        self._content: str | None = None
        tail = (
            f'"budget":{number_text(nanos["budget"])},"coh_star":{number_text(nanos["coh_star"])},'
            f'"epoch":{_epoch(record)},"merkle_root":"{_hex64(record, "merkle_root")}",'
            f'"pcs_id":"{_hex64(record, "pcs_id")}","r":{number_text(nanos["r"])},'
            f'"shard_id":{_shard_id(record)}'
        )
        head = f'{{"D_hat":{number_text(nanos["D_hat"])},'
        if sig_v == 1:
            self.payload = f"{head}{tail}}}".encode()
        else:
            self.payload = f'{head}"body":"{self.body}",{tail},"sig_v":2}}'.encode()
        self.digest = sha256(self.payload).digest()

    @property
    def body(self) -> str:
        """Hash the whole record without `sig`, 64 hex digits (spec/canonical.md 4)."""
        return sha256(jcs(self._members)).hexdigest()

    @property
    def content(self) -> str:
        """Hash what the record holds, not how it came: 64 hex digits (spec/canonical.md 5)."""
        if self._content is None:
            members = {name: v for name, v in self._members.items() if name not in NOT_CONTENT}
            self._content = sha256(jcs(members)).hexdigest()
        return self._content

    @property
    def values(self) -> dict[str, float]:
        """Give the four numbers as they were signed, n / 10^9 (spec/canonical.md 3.8(4))."""
        return {name: n / 1e9 for name, n in self.nanos.items()}

    def signed_text(self, sig: str) -> bytes:
        """Write the record to send: rounded, with its signature, in RFC 8785 form."""
        return jcs({**self._members, "sig": sig})


def canonicalize(record: Mapping[str, Any], *, sig_v: int | None = None) -> Canonical:
    """Check the signed members and derive payload, digest and content.

    `sig_v` is taken from the record unless given. Raises ValidationError for a member outside
    its domain and SignatureError `sig_version_unsupported`.
    """
    version = signature_version(record) if sig_v is None else sig_v
    if version not in (1, 2):
        raise SignatureError("sig_version_unsupported", f"expected version 1 or 2, got {version}")
    return Canonical(record, version)


def payload(record: Mapping[str, Any], *, sig_v: int = 1) -> bytes:
    """Give the exact bytes whose SHA-256 is signed (spec/canonical.md 3.5, 4)."""
    return canonicalize(record, sig_v=sig_v).payload
