"""Read `PATH=VALUE,VALUE` as people write it: a path of the scenario, values with their units.

The invariant of this file: what it gives is in the canonical form and has passed the same reader
as a file, so `settings.shipping.interval=5s` on the command line and in a scenario are one thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

from fractal_lba_server.core.faults import DocumentError, Fault
from fractal_lba_server.drill.quantities import canonical_member
from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_server.yaml_document import parse_document

from .edits import pointer

VALUES_MAX: Final = 1_000
"""Values of one setting."""

OPENING: Final = "{["
CLOSING: Final = "}]"


class Asked(NamedTuple):
    """A setting and the values that it shall have."""

    path: str
    values: tuple[Any, ...]


def asked(scenario: Scenario, text: str) -> Asked:
    """Read one setting. Raises ScenarioError, or DocumentError with the place of the fault."""
    path, equals, values = text.partition("=")
    path = path.strip()
    if not equals or not path or not values.strip():
        message = f"expected PATH=VALUE[,VALUE...], as settings.shipping.interval=5s; got {text}"
        raise ScenarioError(message)
    parent, _, member = path.rpartition(".")
    at = pointer(scenario.document, parent) if parent else ""
    found = [canonical_member(member, _value(path, one), at=at) for one in _split(values)]
    if len(found) > VALUES_MAX:
        message = f"{path}: {len(found)} values; at most {VALUES_MAX} are played"
        raise ScenarioError(message)
    name = found[0][0]
    return Asked(f"{parent}.{name}" if parent else name, tuple(value for _, value in found))


def _value(path: str, text: str) -> Any:
    """Read one value as a scenario file would."""
    try:
        return parse_document(Path(path), text.encode()).value
    except DocumentError as error:
        fault = error.faults[0]
        raise DocumentError(
            [Fault(f"/{path.replace('.', '/')}", fault.problem, fault.fix)]
        ) from None


def _split(text: str) -> Iterator[str]:
    """Cut at commas that are not inside of a distribution."""
    depth, begun = 0, 0
    for place, sign in enumerate(text):
        depth += (sign in OPENING) - (sign in CLOSING)
        if sign == "," and not depth:
            yield text[begun:place].strip()
            begun = place + 1
    yield text[begun:].strip()
