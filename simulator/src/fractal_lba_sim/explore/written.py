"""Write a scenario as a person would: units in the values, one line for each fault.

The invariant of this file: what it writes is read back as the same canonical document.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

import yaml

from fractal_lba_server.drill.quantities import human

from .schedule import plain

FLOW_CHARS_MAX: Final = 96
"""A mapping without mappings inside stands on one line up to this width."""

WIDTH: Final = 10_000
"""Lines are not folded."""


class _Dumper(yaml.SafeDumper):
    """Writes short mappings and lists on one line."""

    def ignore_aliases(self, data: Any) -> bool:
        return True


def _mapping(dumper: yaml.SafeDumper, value: dict[str, Any]) -> yaml.Node:
    return dumper.represent_mapping("tag:yaml.org,2002:map", value, flow_style=_is_short(value))


def _sequence(dumper: yaml.SafeDumper, value: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", value, flow_style=_is_short(value))


def _is_short(value: Any) -> bool:
    members = value.values() if isinstance(value, dict) else value
    if any(isinstance(one, dict) for one in members):
        return False
    return len(json.dumps(value)) < FLOW_CHARS_MAX


_Dumper.add_representer(dict, _mapping)
_Dumper.add_representer(list, _sequence)


def scenario_text(document: Mapping[str, Any], *, comments: Sequence[str] = ()) -> str:
    """Write a scenario with comments above it."""
    text = yaml.dump(
        human(plain(document)), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=WIDTH
    )
    return "".join(f"# {line}\n" for line in comments) + text
