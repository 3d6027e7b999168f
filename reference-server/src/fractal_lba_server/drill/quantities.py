"""Read the human form of a scenario: the unit stands in the value, not in the name.

The invariant of this file: `interval: 30s` and `interval_s: 30` are one document with one
digest. Which names there are is said by the schema alone; no number changes its meaning for want
of a unit, because a name without a unit takes no bare number.
"""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal, localcontext
from fractions import Fraction
from functools import cache
from typing import Any, Final, NamedTuple

from ..contract import schema
from ..core.faults import DocumentError, Fault, pointer_of

TEXT_MAX: Final = 64
"""Characters of a quantity; a number of nanoseconds in a year needs 20."""


WHOLE_MAX: Final = 999_999
"""Above this, a whole number of a small unit is harder to read than a fraction of the usual one."""

DIGITS_MAX: Final = 60
"""Digits with which a quantity is written; a float needs 17 and our units a few more."""


class Dimension(NamedTuple):
    """What can be measured in one family of units."""

    name: str
    units: Mapping[str, Fraction]
    shown: tuple[str, ...]
    """Units for writing, the largest first; the last one is for what fits none."""

    example: str


_MINUTE, _HOUR, _DAY = Fraction(60), Fraction(3600), Fraction(86400)
_BIT: Final = Fraction(1, 8)

DURATION: Final = Dimension(
    "a duration",
    {
        "ns": Fraction(1, 10**9), "us": Fraction(1, 10**6), "ms": Fraction(1, 1000),
        "s": Fraction(1), "min": _MINUTE, "h": _HOUR, "d": _DAY, "w": 7 * _DAY,
    },
    ("d", "h", "min", "s", "ms", "us", "ns", "s"),
    "30s",
)  # fmt: skip
SIZE: Final = Dimension(
    "a size",
    {
        "B": Fraction(1), "kB": Fraction(10**3), "KiB": Fraction(2**10), "MB": Fraction(10**6),
        "MiB": Fraction(2**20), "GB": Fraction(10**9), "GiB": Fraction(2**30),
    },
    ("GiB", "GB", "MiB", "MB", "KiB", "kB", "B"),
    "8MiB",
)  # fmt: skip
BANDWIDTH: Final = Dimension(
    "a bandwidth",
    {
        "bit/s": _BIT, "kbit/s": _BIT * 10**3, "Mbit/s": _BIT * 10**6, "Gbit/s": _BIT * 10**9,
        "B/s": Fraction(1), "kB/s": Fraction(10**3), "KiB/s": Fraction(2**10),
        "MB/s": Fraction(10**6), "MiB/s": Fraction(2**20), "GB/s": Fraction(10**9),
    },
    ("Gbit/s", "Mbit/s", "kbit/s", "bit/s", "B/s"),
    "200Mbit/s",
)  # fmt: skip
RATE: Final = Dimension(
    "a rate",
    {"/s": Fraction(1), "/min": 1 / _MINUTE, "/h": 1 / _HOUR, "/d": 1 / _DAY},
    ("/s",),
    "2000/s",
)
YEARLY: Final = Dimension("a yearly rate", {"/y": Fraction(1)}, ("/y",), "2/y")
DRIFT: Final = Dimension("a drift", {"ppm": Fraction(1)}, ("ppm",), "50ppm")
SHARE: Final = Dimension("a share", {"%": Fraction(1, 100)}, ("%",), "5%")

DIMENSIONS: Final = (DURATION, SIZE, BANDWIDTH, RATE, YEARLY, DRIFT, SHARE)

SUFFIXES: Final[Mapping[str, tuple[Dimension, Fraction]]] = {
    "_bytes_per_s": (BANDWIDTH, Fraction(1)),
    "_per_s": (RATE, Fraction(1)),
    "_bytes": (SIZE, Fraction(1)),
    "_days": (DURATION, _DAY),
    "_ppm": (DRIFT, Fraction(1)),
    "_ms": (DURATION, Fraction(1, 1000)),
    "_s": (DURATION, Fraction(1)),
}
"""Ends of canonical names: what they measure, and the size of their unit."""

MEANT: Final[Mapping[str, str]] = {
    "sec": "s", "secs": "s", "second": "s", "seconds": "s", "S": "s", "m": "min", "mins": "min",
    "minute": "min", "minutes": "min", "hr": "h", "hrs": "h", "hour": "h", "hours": "h",
    "day": "d", "days": "d", "week": "w", "weeks": "w", "msec": "ms", "usec": "us", "µs": "us",
    "b": "B", "bytes": "B", "KB": "kB", "K": "kB", "M": "MB", "G": "GB", "mb": "MB", "gb": "GB",
    "bps": "bit/s", "kbps": "kbit/s", "Kbps": "kbit/s", "Mbps": "Mbit/s", "Gbps": "Gbit/s",
    "mbit/s": "Mbit/s", "Mb/s": "Mbit/s", "MBps": "MB/s", "percent": "%", "/sec": "/s",
    "/year": "/y", "/a": "/y", "/yr": "/y", "rps": "/s",
}  # fmt: skip
"""What people write for a unit, and its name here. It is refused: `m` is also a metre."""

_QUANTITY = re.compile(r"(-?[0-9]{1,20}(?:\.[0-9]{1,40})?(?:[eE][+-]?[0-9]{1,2})?) ?([^0-9\s.]\S*)")
_NAME = re.compile(f"(.+?)({'|'.join(SUFFIXES)})(_max|_min)?")


class Measure(NamedTuple):
    """How the human form of one member reads."""

    name: str
    """The canonical name of the member."""

    dimension: Dimension
    unit: Fraction


@dataclass(frozen=True, slots=True)
class Canonical:
    """A document whose units are in its names, and where its members stand in the file."""

    value: Any
    faults: list[Fault] = field(default_factory=list)
    written: dict[str, str] = field(default_factory=dict)
    """Pointers of the file by those of the canonical form, where they differ."""

    def as_written(self, fault: Fault) -> Fault:
        """Give a fault of the canonical form the pointer that its writer knows."""
        pointer, rest = fault.pointer, ""
        while pointer not in self.written and pointer:
            pointer, _, step = pointer.rpartition("/")
            rest = f"/{step}{rest}"
        return Fault(self.written.get(pointer, pointer) + rest, fault.problem, fault.fix)


# --- one quantity


def quantity(text: str, dimension: Dimension, unit: Fraction) -> int | float:
    """Read a quantity as a number of `unit`. Raises ValueError with what to write instead."""
    found = _QUANTITY.fullmatch(text) if len(text) <= TEXT_MAX else None
    if found is None:
        bare = "a number without a unit" if _is_number(text) else f"not {dimension.name}"
        raise ValueError(f"{bare}; write it as {dimension.example}")
    number, name = found.groups()
    if name not in dimension.units:
        raise ValueError(_unit_problem(name, dimension))
    exact = Fraction(number) * dimension.units[name] / unit
    return int(exact) if exact.denominator == 1 else float(exact)


def _is_number(text: str) -> bool:
    return re.fullmatch(r"-?[0-9]+(\.[0-9]+)?", text) is not None


def _unit_problem(name: str, dimension: Dimension) -> str:
    """Say which unit is wrong; only a unit that this file knows is quoted."""
    ours = ", ".join(dimension.units)
    for other in DIMENSIONS:
        if name in other.units:
            return f"expected {dimension.name}, got {other.name} in {name}; its units are {ours}"
    meant = MEANT.get(name)
    if meant is None:
        meant = next(iter(difflib.get_close_matches(name, dimension.units, 1, 0.6)), None)
    if meant in dimension.units:
        return f'unknown unit; did you mean "{meant}"?'
    return f"unknown unit; {dimension.name} has {ours}"


def text_of(number: float, dimension: Dimension, unit: Fraction) -> str:
    """Write a number of `unit` in the largest unit in which it is whole, and short."""
    exact = Fraction(repr(number)) * unit
    for name in dimension.shown:
        count = exact / dimension.units[name]
        if count.denominator == 1 and 0 < abs(count) <= WHOLE_MAX:
            return f"{count}{name}"
    # A decimal number of any of our units is one of the last: their ratios divide powers of ten.
    last = exact / dimension.units[dimension.shown[-1]]
    with localcontext(prec=DIGITS_MAX):
        digits = (Decimal(last.numerator) / last.denominator).normalize()
    return f"{digits}{dimension.shown[-1]}"


# --- names


def human_name(name: str) -> tuple[str, Measure] | None:
    """Give the name without its unit; nothing for a name that ends in no unit."""
    found = _NAME.fullmatch(name)
    if found is None:
        return None
    stem, suffix, tail = found.groups()
    return stem + (tail or ""), Measure(name, *SUFFIXES[suffix])


def _own_measure(name: str, node: Mapping[str, Any]) -> Measure | None:
    """Give how a member reads whose name is the same in both forms."""
    if node.get("$ref") == "#/$defs/share":
        return Measure(name, SHARE, Fraction(1))
    return Measure(name, YEARLY, Fraction(1)) if name == "per_year" else None


@cache
def _root() -> dict[str, Any]:
    return schema("scenario")


def _resolved(node: Mapping[str, Any]) -> Mapping[str, Any]:
    """Follow a reference. What is laid over a scenario reads as the scenario itself."""
    reference = node.get("$ref")
    if reference is None:
        return node
    if reference == "#/$defs/overlay":
        return _root()
    found: Mapping[str, Any] = _root()["$defs"][reference.rpartition("/")[2]]
    return found


def _stems(properties: Mapping[str, Any]) -> dict[str, Measure]:
    found = (human_name(name) for name in properties)
    return {stem: measure for stem, measure in filter(None, found) if stem not in properties}


# --- documents


def canonical(value: Any) -> Canonical:
    """Put the units of a scenario into its names; what is in neither form is a fault."""
    made = Canonical(None)
    done = _Reader(made).read(value, _root(), (), ())
    return Canonical(done, made.faults, made.written)


def canonical_member(name: str, value: Any, *, at: str = "") -> tuple[str, Any]:
    """Put the unit of one member of the mapping `at` into its name. Raises DocumentError."""
    path = tuple(step.replace("~1", "/").replace("~0", "~") for step in at.split("/")[1:])
    made = Canonical(None)
    done = _Reader(made).read({name: value}, node_at(path), path, path)
    if made.faults:
        raise DocumentError(made.faults)
    ((name, value),) = done.items()
    return name, value


def node_at(path: tuple[str, ...]) -> Mapping[str, Any]:
    """Give the part of the schema for a place of a scenario; empty where anything may stand."""
    node: Mapping[str, Any] = _root()
    for step in path:
        held = _below(node, step)
        node = _resolved(held) if held else {}
    return node


def _below(node: Mapping[str, Any], step: str) -> Mapping[str, Any]:
    held = node.get("properties", {}).get(step)
    if held is None and step.isdecimal() and "items" in node:
        held = node["items"]
    if held is None and isinstance(node.get("additionalProperties"), dict):
        held = node["additionalProperties"]
    return held or {}


_Path = tuple[str | int, ...]


class _Reader:
    """Walks a document and its schema together."""

    def __init__(self, made: Canonical) -> None:
        self._faults = made.faults
        self._written = made.written

    def read(self, value: Any, node: Mapping[str, Any], path: _Path, here: _Path) -> Any:
        """Read a node: `path` in the canonical form, `here` in the file."""
        if path != here:
            self._written[pointer_of(path)] = pointer_of(here)
        node = _resolved(node)
        if isinstance(value, list):
            items = node.get("items", {})
            return [
                self.read(below, items, (*path, place), (*here, place))
                for place, below in enumerate(value)
            ]
        return self._mapping(value, node, path, here) if isinstance(value, dict) else value

    def _mapping(
        self, value: dict[str, Any], node: Mapping[str, Any], path: _Path, here: _Path
    ) -> Any:
        properties = node.get("properties", {})
        stems = _stems(properties)
        made: dict[str, Any] = {}
        for key, below in value.items():
            own, there = _below(node, key), (*here, key)
            if key in properties:
                name, measure = key, _own_measure(key, own)
            elif key in stems:
                measure = stems[key]
                name = measure.name
                own = properties[name]
            else:
                name, measure = key, None
                if not own and node.get("additionalProperties") is False:
                    self._refuse(there, "unknown key", _suggestion(key, properties, stems))
            if name in value and name != key:
                self._refuse(there, f"is said twice, also as {name}", "keep one of the two")
            read = self.read(below, own, (*path, name), there)
            if measure is not None:
                read = self._measured(read, key, measure, there)
            elif key in properties and isinstance(read, str) and (unit := human_name(key)):
                self._refuse(there, "its name has the unit already", _advice(*unit))
            made[name] = read
        return made

    def _measured(self, value: Any, key: str, measure: Measure, here: _Path) -> Any:
        """Read the quantity of a member, or those of a list of them."""
        if isinstance(value, list) and key != measure.name:
            return [
                self._measured(below, key, measure, (*here, place))
                for place, below in enumerate(value)
            ]
        if isinstance(value, str):
            try:
                return quantity(value, measure.dimension, measure.unit)
            except ValueError as error:
                problem, _, fix = str(error).partition("; ")
                self._refuse(here, problem, fix)
        elif _is_bare(value) and key != measure.name:
            fix = f"write it as {measure.dimension.example}, or as {measure.name} with a number"
            self._refuse(here, "a number without a unit", fix)
        return value

    def _refuse(self, here: _Path, problem: str, fix: str) -> None:
        self._faults.append(Fault(pointer_of(here), problem, fix))


def _is_bare(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _advice(name: str, measure: Measure) -> str:
    return f'write a number, or "{name}: {measure.dimension.example}"'


def _suggestion(key: str, properties: Mapping[str, Any], stems: Mapping[str, Measure]) -> str:
    """Suggest the human name first, as a person wrote the file."""
    canonical_names = {measure.name: stem for stem, measure in stems.items()}
    known = [*stems, *properties]
    near = difflib.get_close_matches(key, known, n=1, cutoff=0.6)
    if near:
        return f'did you mean "{canonical_names.get(near[0], near[0])}"?'
    shown = sorted(canonical_names.get(name, name) for name in properties)
    return f"known keys: {', '.join(shown)}"


# --- writing


def human(value: Any) -> Any:
    """Write a canonical document in the human form."""
    return _human(value, _root())


def _human(value: Any, node: Mapping[str, Any]) -> Any:
    node = _resolved(node)
    if isinstance(value, list):
        return [_human(below, node.get("items", {})) for below in value]
    if not isinstance(value, Mapping):
        return value
    return dict(_human_members(value, node))


def _human_members(value: Mapping[str, Any], node: Mapping[str, Any]) -> Iterator[tuple[str, Any]]:
    properties = node.get("properties", {})
    named = {measure.name: (stem, measure) for stem, measure in _stems(properties).items()}
    for key, below in value.items():
        own = _below(node, key)
        name, measure = named.get(key, (key, _own_measure(key, own)))
        yield name, _texts(below, measure, own)


def _texts(value: Any, measure: Measure | None, node: Mapping[str, Any]) -> Any:
    if measure is not None and _is_bare(value):
        return text_of(value, measure.dimension, measure.unit)
    if measure is not None and isinstance(value, list):
        return [_texts(below, measure, {}) for below in value]
    return _human(value, node)
