"""Say whether a parsed record has the shape of `spec/schemas/pcs.json`, and if not, one code.

This file owns the record's shape on the server: the schema, compiled once, says what JSON Schema
can say; the residual rules of `spec/formats.md` are one function each below. Which code a
violation has is data of the schema (`x-code`), for residual rules too, so nothing here maps
keywords to codes. The derivation of `pcs_id` is the one rule that is checked elsewhere
(`core/ingest.py`), after the signed members have been read.

A record comes from `fractal_lba.canonical.parse`: lexical integers are int, all other numbers
float, and a number that overflows a double is infinite.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from itertools import pairwise
from typing import Any, Final, NamedTuple

import jsonschema_rs

from fractal_lba.errors import ValidationError

from .faults import pointer_of
from .shape import compile_schema

SHARD_ID_BYTES_MAX: Final = 256
"""Longest `shard_id`, in bytes of UTF-8 (spec/canonical.md 3.1)."""

NAME_BYTES_MAX: Final = 64
"""Longest `kid` and `tenant_id`, in bytes of UTF-8."""

FALLBACK_BYTES_MAX: Final = 64
"""Longest string in `ft.fallbacks`, in bytes of UTF-8."""

UTF8_BYTES_PER_CHARACTER_MAX: Final = 4
"""A string this many times shorter than its byte limit needs no encoding to be judged."""

NORM_MIN: Final = 0.9999990000000001
NORM_MAX: Final = 1.000001
"""First and last double within 1e-6 of 1, as rationals: the norm of `v_star` lies between."""

SCALE_LISTS_CACHED_MAX: Final = 64
"""Scale lists whose names are kept; producers use few, and a miss costs microseconds."""

FRESH_MARGIN_MS: Final = 86_400_000
"""A tenant's records are refused this long before their id can be forgotten."""

FUTURE_MARGIN_MS: Final = 600_000
"""How far `sent_at` may lie ahead of the server's clock where ids are forgotten."""

Path = tuple[str | int, ...]


class Violation(NamedTuple):
    """Name the place, the keyword and the sentence of one fault; the schema gives its code."""

    path: Path
    keyword: str
    message: str


class RecordShape:
    """Check records against one schema. `check` is the hot path; all else runs on refusal."""

    def __init__(self, schema: Mapping[str, Any]) -> None:
        """Compile `spec/schemas/pcs.json`, given as a value."""
        properties: dict[str, Any] = dict(schema["properties"])
        for name, keyword in schema["x-with-key"].items():
            properties[name] = {k: v for k, v in properties[name].items() if k != keyword}
        self._schema = schema
        whole = {**schema, "properties": properties}
        self._fits = compile_schema(whole)
        self._first = _validator({"properties": {n: properties[n] for n in schema["x-first"]}})
        self._whole = _validator(whole)

    def check(self, record: Mapping[str, Any]) -> None:
        """Refuse a record outside the schema or the residual rules, with one code and pointer.

        What `alg` and `sig_v` say is left to the key record (spec/formats.md 9.6). Raises
        ValidationError.
        """
        violation = None if self._fits(record) else self._first_violation(record)
        if violation is None:
            violation = residual_violation(record)
        if violation is not None:
            raise self._error(violation)

    def _first_violation(self, record: Mapping[str, Any]) -> Violation | None:
        """Give the violation that the schema library meets first, else a lexical one.

        Never all of them: a hostile record of 64 KiB has 30,000, and to list them takes 85 ms
        instead of 2.
        """
        try:
            self._first.validate(record)
            self._whole.validate(record)
        except jsonschema_rs.ValidationError as error:
            return _read_violation(error, self._schema, record)
        return check_lexical_integers(record)

    def _error(self, violation: Violation) -> ValidationError:
        path, keyword, message = violation
        where = ".".join(map(str, path))
        return ValidationError(
            _code(self._schema, path, keyword), f"{where}: {message}", pointer=pointer_of(path)
        )


# --- the schema's part ---------------------------------------------------------------------


def _validator(schema: dict[str, Any]) -> jsonschema_rs.Draft202012Validator:
    return jsonschema_rs.Draft202012Validator(schema)


def _read_violation(
    error: jsonschema_rs.ValidationError, schema: Mapping[str, Any], record: Mapping[str, Any]
) -> Violation:
    keyword, limit = error.kind.name, error.kind.value
    path, value = _find(record, error.instance_path)
    if keyword == "required":
        return Violation((*path, limit), keyword, "missing")
    if keyword == "additionalProperties":
        name = min(limit)
        return Violation((*path, name), keyword, "no such member")
    if keyword == "falseSchema":
        return Violation(path, keyword, "no such member without sig_v")
    if type(value) is float:
        # The schema library knows no lexical integers, and reads infinity as null.
        declared = _nodes(schema, path)[-1].get("type")
        if declared == "integer":
            keyword = "integer"
        elif declared == "number" and keyword == "type":
            keyword = "finite"
    expected = _EXPECTED.get(keyword, "{}").format(_limit_text(limit))
    return Violation(path, keyword, f"expected {expected}, got {_describe(value)}")


_EXPECTED: Final[Mapping[str, str]] = {
    "minimum": ">= {}",
    "maximum": "<= {}",
    "minLength": "at least {} characters",
    "maxLength": "at most {} characters",
    "minItems": "at least {} items",
    "maxItems": "at most {} items",
    "pattern": "text of the form {}",
    "finite": "a finite number",
    "integer": "an integer without fraction or exponent",
}


def _limit_text(limit: Any) -> str:
    return " or ".join(map(str, limit)) if isinstance(limit, list) else str(limit)


def _describe(value: Any) -> str:
    """Say what was found without quoting text, which may be long or secret."""
    if isinstance(value, str):
        return f"a string of {len(value)} characters"
    if isinstance(value, list):
        return f"an array of {len(value)} items"
    if isinstance(value, dict):
        return "an object"
    if value is None or isinstance(value, bool):
        return str(value).lower().replace("none", "null")
    return f"{value!r:.24}"


def _find(record: Mapping[str, Any], path: Sequence[str | int]) -> tuple[Path, Any]:
    """Follow a path of the schema library, which gives names made of digits as numbers."""
    value: Any = record
    found: list[str | int] = []
    for given in path:
        step = given
        if isinstance(step, int) and isinstance(value, dict):
            step = next(name for name in value if name.isdecimal() and int(name) == given)
        value = value[step]
        found.append(step)
    return tuple(found), value


def _code(schema: Mapping[str, Any], path: Path, keyword: str) -> str:
    """Find the code that the nearest `x-code` gives the keyword, at or above the path."""
    code = ""
    for node in _nodes(schema, path):
        code = node.get("x-code", {}).get(keyword, code)
    assert code, f"no x-code for {keyword} at {path}"
    return code


def _nodes(schema: Mapping[str, Any], path: Path) -> list[Mapping[str, Any]]:
    """List the subschemas that describe the path, from the root down."""
    node: Any = schema
    nodes = [schema]
    for step in path:
        if isinstance(step, int):
            node = node["items"]
        else:
            node = node.get("properties", {}).get(step, node["additionalProperties"])
        if not isinstance(node, Mapping):  # `false`: an unknown member has no subschema
            break
        nodes.append(node)
        if "$ref" in node:
            node = schema["$defs"][node["$ref"].removeprefix("#/$defs/")]
            nodes.append(node)
    return nodes


# --- the residual rules --------------------------------------------------------------------


def check_lexical_integers(record: Mapping[str, Any]) -> Violation | None:
    """Refuse `1.0` where an integer is meant; JSON Schema takes it (spec/formats.md 1.4).

    The compiled function of the schema asks for this already; this says where.
    """
    ft = record["ft"]
    found: list[tuple[Path, Any]] = [((name,), record[name]) for name in _INTEGERS]
    found += [(("scales", index), scale) for index, scale in enumerate(record["scales"])]
    found += [(("N_j", name), count) for name, count in record["N_j"].items()]
    found += [(("ft", name), ft[name]) for name in _FT_INTEGERS]
    for path, value in found:
        if type(value) is float:
            expected = _EXPECTED["integer"]
            return Violation(path, "integer", f"expected {expected}, got {_describe(value)}")
    return None


_INTEGERS: Final = ("epoch", "attempt", "seed")
_FT_INTEGERS: Final = ("outbox_seq", "clock_skew_ms")


def check_bytes(record: Mapping[str, Any]) -> Violation | None:
    """Hold strings to their limits in bytes of UTF-8 (spec/formats.md 1.3, 1.10, 1.12)."""
    for name, bytes_max in _BYTES_MAX:
        if _too_long(record.get(name, ""), bytes_max):
            return Violation((name,), "maxBytes", _bytes_text(bytes_max))
    for index, text in enumerate(record["ft"]["fallbacks"]):
        if _too_long(text, FALLBACK_BYTES_MAX):
            path = ("ft", "fallbacks", index)
            return Violation(path, "maxBytes", _bytes_text(FALLBACK_BYTES_MAX))
    return None


_BYTES_MAX: Final = (
    ("shard_id", SHARD_ID_BYTES_MAX),
    ("kid", NAME_BYTES_MAX),
    ("tenant_id", NAME_BYTES_MAX),
)


def _too_long(text: str, bytes_max: int) -> bool:
    if len(text) * UTF8_BYTES_PER_CHARACTER_MAX <= bytes_max:
        return False
    return len(text.encode()) > bytes_max


def _bytes_text(bytes_max: int) -> str:
    return f"expected at most {bytes_max} bytes of UTF-8"


def check_calendar(record: Mapping[str, Any]) -> Violation | None:
    """Refuse a `sent_at` on a day that its month does not have (spec/formats.md 1.9)."""
    sent_at: str = record["sent_at"]
    if sent_at[8:10] <= "28" and sent_at[:4] != "0000":
        return None
    year, month, day = int(sent_at[:4]), int(sent_at[5:7]), int(sent_at[8:10])
    if year and day <= _days_in_month(year, month):
        return None
    return Violation(("sent_at",), "calendar", f"there is no day {sent_at[:10]}")


def _days_in_month(year: int, month: int) -> int:
    if month == 2:
        leap = year % 4 == 0 and (year % 100 != 0 or year % 400 == 0)
        return 29 if leap else 28
    return 30 if month in (4, 6, 9, 11) else 31


def check_scales(record: Mapping[str, Any]) -> Violation | None:
    """Refuse scales that do not increase strictly (spec/formats.md 1.5)."""
    scales = record["scales"]
    if _count_names(tuple(scales)):
        return None
    index = next(i for i in range(1, len(scales)) if scales[i] <= scales[i - 1])
    return Violation(("scales", index), "increasing", "expected more than the scale before it")


def check_count_names(record: Mapping[str, Any]) -> Violation | None:
    """Refuse an `N_j` whose names are not exactly the scales (spec/formats.md 1.6)."""
    names, found = _count_names(tuple(record["scales"])), record["N_j"].keys()
    if found == names:
        return None
    unknown = sorted(found - names)
    if unknown:
        return Violation(("N_j", unknown[0]), "additionalProperties", "not one of the scales")
    return Violation(("N_j", min(names - found, key=int)), "required", "missing")


@lru_cache(maxsize=SCALE_LISTS_CACHED_MAX)
def _count_names(scales: tuple[int, ...]) -> frozenset[str]:
    """Name the counts of these scales; nothing if the scales do not increase strictly."""
    if any(low >= high for low, high in pairwise(scales)):
        return frozenset()
    return frozenset(map(str, scales))


def check_unit_norm(record: Mapping[str, Any]) -> Violation | None:
    """Refuse a `v_star` whose norm is not 1 within 1e-6 (spec/formats.md 1.7)."""
    v_star = record["v_star"]
    try:
        norm = math.hypot(*v_star)
    except OverflowError:
        index = next(i for i, x in enumerate(v_star) if abs(x) > sys.float_info.max)
        return Violation(("v_star", index), "finite", "expected a number that fits a double")
    if NORM_MIN <= norm <= NORM_MAX:
        return None
    return Violation(("v_star",), "unitNorm", f"expected norm 1 within 1e-6, got {norm:.9g}")


Rule = Callable[[Mapping[str, Any]], Violation | None]

RESIDUAL_RULES: Final[tuple[Rule, ...]] = (
    check_bytes,
    check_calendar,
    check_scales,
    check_count_names,
    check_unit_norm,
)
"""In the order of spec/formats.md 1; a later rule may rely on the earlier ones."""


def residual_violation(record: Mapping[str, Any]) -> Violation | None:
    """Apply the residual rules to a record that the schema accepts, integers lexical."""
    for rule in RESIDUAL_RULES:
        violation = rule(record)
        if violation is not None:
            return violation
    return None


# --- age -----------------------------------------------------------------------------------


def check_fresh(record: Mapping[str, Any], *, ttl_ms: int, now_ms: int) -> None:
    """Refuse a record too old or too new for a tenant whose ids are forgotten: `record_expired`.

    Only for tenants with a time limit, whose `sent_at` is signed (version 2), and never on
    replay (spec/formats.md 1.11).
    """
    age_ms = now_ms - instant_ms(record["sent_at"])
    if -FUTURE_MARGIN_MS <= age_ms <= ttl_ms - FRESH_MARGIN_MS:
        return
    oldest_h = (ttl_ms - FRESH_MARGIN_MS) // 3_600_000
    raise ValidationError(
        "record_expired",
        f"sent_at: expected at most {oldest_h} h ago and 10 min ahead",
        pointer="/sent_at",
    )


def instant_ms(sent_at: str) -> int:
    """Give the Unix milliseconds of a checked `sent_at`, further digits cut off."""
    year, month, day = int(sent_at[:4]), int(sent_at[5:7]), int(sent_at[8:10])
    # Days of the civil calendar, counted from 1 March of the year 0 so that a leap day is last.
    y, m = (year, month - 3) if month > 2 else (year - 1, month + 9)
    days = 365 * y + y // 4 - y // 100 + y // 400 + (153 * m + 2) // 5 + day - 1 - 719_468
    seconds = int(sent_at[11:13]) * 3600 + int(sent_at[14:16]) * 60 + int(sent_at[17:19])
    milliseconds = int(sent_at[20:-1].ljust(3, "0")[:3]) if "." in sent_at else 0
    return (days * 86_400 + seconds) * 1_000 + milliseconds
