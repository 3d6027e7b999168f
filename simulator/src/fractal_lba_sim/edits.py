"""Change one setting of a scenario by its path, and say a value as a person reads it.

The invariant of this file: a changed scenario is as valid as a loaded one. A path is the members
of the document joined by dots; an entry of a list is named by its number, code, id or name, a
link by its ends (`topology.links.euw-use.bandwidth`).
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any, Final

from fractal_lba_server.core.faults import DocumentError, pointer_of
from fractal_lba_server.drill.scenario import Scenario, ScenarioError, name_faults
from fractal_lba_server.schema_faults import schema_faults

ENTRY_NAMES: Final = ("code", "id", "name")
"""Members by which an entry of a list is known."""

Changes = Mapping[str, Any]
"""Values by path; None removes."""


def edited(scenario: Scenario, changes: Changes) -> Scenario:
    """Give the scenario with other values. Raises ScenarioError or DocumentError."""
    document = copy.deepcopy(dict(scenario.document))
    for path, value in changes.items():
        place(document, path, value)
    faults = schema_faults("scenario", document) or name_faults(document)
    if faults:
        raise DocumentError(faults)
    return Scenario(document, scenario.source, scenario.control)


def place(document: dict[str, Any], path: str, value: Any) -> None:
    """Put a value at a path, in place; mappings on the way to it are made."""
    steps = path.split(".")
    node: Any = document
    for number, step in enumerate(steps[:-1]):
        if isinstance(node, dict):
            node = node.setdefault(step, {})
        else:
            node = node[_entry(node, step, steps[:number])]
    if isinstance(node, dict):
        if value is None:
            node.pop(steps[-1], None)
        else:
            node[steps[-1]] = copy.deepcopy(value)
        return
    node[_entry(node, steps[-1], steps[:-1])] = copy.deepcopy(value)


def value_at(document: Mapping[str, Any], path: str) -> Any:
    """Give the value at a path; None where there is none."""
    node: Any = document
    steps = path.split(".")
    for number, step in enumerate(steps):
        if isinstance(node, Mapping):
            node = node.get(step)
        elif isinstance(node, list):
            try:
                node = node[_entry(node, step, steps[:number])]
            except ScenarioError:
                return None
        else:
            return None
    return node


def pointer(document: Mapping[str, Any], path: str) -> str:
    """Write a path as the JSON pointer that faults carry."""
    node: Any = document
    found: list[str | int] = []
    steps = path.split(".")
    for number, step in enumerate(steps):
        if isinstance(node, list):
            at = _entry(node, step, steps[:number])
            found.append(at)
            node = node[at]
        else:
            found.append(step)
            node = node.get(step) if isinstance(node, Mapping) else None
    return pointer_of(found)


def names_of(entries: list[Any]) -> list[str]:
    """Name the entries of a list as paths do."""
    names = []
    for number, entry in enumerate(entries):
        named = [entry[name] for name in ENTRY_NAMES if isinstance(entry, dict) and name in entry]
        if not named and isinstance(entry, dict) and {"from", "to"} <= set(entry):
            named = [f"{entry['from']}-{entry['to']}"]
        names.append(str(named[0]) if named else str(number))
    return names


def _entry(node: Any, step: str, before: list[str]) -> int:
    where = ".".join(before)
    if not isinstance(node, list):
        message = f"{where}: holds a value, and nothing is called {step} below it"
        raise ScenarioError(message)
    names = names_of(node)
    if step in names:
        return names.index(step)
    if step.isdecimal() and int(step) < len(node):
        return int(step)
    message = f"{where}: has no entry {step}; there are {', '.join(names) or 'none'}"
    raise ScenarioError(message)


def shown(path: str, value: Any) -> str:
    """Say a canonical value with its unit."""
    member = path.rpartition(".")[2]
    if value is None:
        return "nothing"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, Mapping):
        return _shown_mapping(value)
    if not isinstance(value, int | float):
        return str(value)
    for suffix, (factor, unit) in _UNITS.items():
        if member.endswith(suffix):
            return f"{value * factor:g} {unit}"
    return f"{value * 100:g} %" if member.endswith(_SHARES) else f"{value:g}"


_UNITS: Final = {
    "bytes_per_s": (8e-6, "Mbit/s"),
    "rate_per_s": (1, "records/s"),
    "capacity_per_s": (1, "records/s"),
    "_per_s": (1, "per s"),
    "price_per_gb": (1, "per GB"),
    "_ms": (1, "ms"),
    "_s": (1, "s"),
    "_bytes": (1, "B"),
    "_days": (1, "days"),
}
_SHARES: Final = ("share", "loss")


def _shown_mapping(value: Mapping[str, Any]) -> str:
    """Say a distribution in its own words."""
    parts = []
    for form, numbers in value.items():
        if not isinstance(numbers, Mapping):
            parts.append(f"{form.removesuffix('_s')} {shown(form, numbers)}")
            continue
        inner = " ".join(
            f"{len(n)} values" if isinstance(n, list) else f"{m.removesuffix('_s')} {shown(m, n)}"
            for m, n in numbers.items()
        )
        parts.append(f"{form} {inner}")
    return ", ".join(parts)
