"""Read a scenario: shipped by name or from a file, short form and control laid over it.

The invariant of this file: what a run does is one plain document, valid by
spec/schemas/scenario.json after every overlay, and its digest names it in the trace.
"""

from __future__ import annotations

import copy
from collections.abc import Mapping
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final

from fractal_lba.canonical import jcs

from ..core.faults import DocumentError, Fault
from ..schema_faults import schema_faults
from ..yaml_document import Document, read_document

FOLDER: Final = Path(__file__).parent / "scenarios"


class ScenarioError(Exception):
    """There is no such scenario, or it is not fit for this engine; the message says why."""


@dataclass(frozen=True, slots=True)
class Scenario:
    """A document as it is run."""

    document: Mapping[str, Any]
    source: str
    """What a person writes to name it: a shipped name or a path."""

    control: bool = False

    @property
    def name(self) -> str:
        """Give the scenario's own name."""
        return str(self.document["name"])

    @property
    def digest(self) -> str:
        """Name the document by its content."""
        return sha256(jcs(dict(self.document))).hexdigest()

    def part(self, *names: str) -> Mapping[str, Any]:
        """Give a mapping inside the document; empty where it is absent."""
        value: Any = self.document
        for name in names:
            value = value.get(name, {})
        assert isinstance(value, Mapping)
        return value

    @property
    def regions(self) -> tuple[str, ...]:
        """Give the region codes in order of rank."""
        return tuple(region["code"] for region in self.document["topology"]["regions"])

    @property
    def plants(self) -> tuple[str, ...]:
        """Give the wrong protocols that a control plants."""
        return tuple(self.part("control").get("plant", ())) if self.control else ()

    def faults(self, seed: int) -> list[dict[str, Any]]:
        """Give every fault with its moment, repeats written out, in order of time."""
        chance = Random(f"{seed}/faults")  # noqa: S311 - keeps no secret
        found = []
        for fault in self.document.get("faults", ()):
            repeat = fault.get("repeat", {"count": 1, "every_s": 0})
            for turn in range(repeat["count"]):
                moved = chance.uniform(0, repeat.get("spread_s", 0))
                at_s = fault["at_s"] + turn * repeat["every_s"] + moved
                id = fault["id"] if repeat["count"] == 1 else f"{fault['id']}#{turn + 1}"
                found.append({**fault, "id": id, "at_s": at_s})
        return sorted(found, key=lambda fault: float(fault["at_s"]))


def shipped() -> list[str]:
    """Name the scenarios of the package."""
    return sorted(path.stem for path in FOLDER.glob("*.yaml"))


def load_scenario(name: str, *, short: bool = False, control: bool = False) -> Scenario:
    """Read a scenario. Raises ScenarioError, or DocumentError for a faulty file."""
    known = name in shipped()
    path = FOLDER / f"{name}.yaml" if known else Path(name)
    if not known and not path.is_file():
        message = f"no scenario is called {name!r}, and no file; there are {', '.join(shipped())}"
        raise ScenarioError(message)
    document = read_document(path)
    _refuse(document, schema_faults("scenario", document.value))
    value = copy.deepcopy(document.value)
    if short:
        value = laid_over(value, value.get("short", {}))
    if control:
        if "control" not in value:
            message = f"{name}: has no negative control"
            raise ScenarioError(message)
        value = laid_over(value, value["control"].get("overlay", {}))
    _refuse(document, schema_faults("scenario", value))
    _refuse(document, name_faults(value))
    return Scenario(value, name, control)


def _refuse(document: Document, faults: list[Fault]) -> None:
    if faults:
        raise document.error(faults)


def laid_over(base: Any, over: Any) -> Any:
    """Lay one document over another: mappings merge, null removes, anything else replaces."""
    if not isinstance(base, Mapping) or not isinstance(over, Mapping):
        return copy.deepcopy(over)
    merged = dict(base)
    for name, value in over.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = laid_over(merged.get(name), value)
    return merged


def name_faults(document: Mapping[str, Any]) -> list[Fault]:
    """Find what the schema cannot: regions, faults and promises that are named but not there."""
    codes = {region["code"] for region in document["topology"]["regions"]}
    known = codes | {"client", "arbiter", "cold"}
    faults = []
    for place, fault in enumerate(document.get("faults", ())):
        for member in ("region", "from", "to"):
            name = fault.get(member)
            if name is not None and name not in known and not name.startswith("shard:"):
                at = f"/faults/{place}/{member}"
                faults.append(Fault(at, f"no region {name}", f"one of {', '.join(sorted(known))}"))
    for name, placement in document["topology"].get("placements", {}).items():
        for code in (*placement["regions"], placement.get("primary", placement["regions"][0])):
            if code not in codes:
                at = f"/topology/placements/{name}"
                faults.append(Fault(at, f"no region {code}", "list it in regions"))
    promised = document["promises"]
    for place, name in enumerate(document.get("control", {}).get("must_fail", ())):
        if name not in promised and name not in ALWAYS_JUDGED:
            at = f"/control/must_fail/{place}"
            faults.append(Fault(at, f"{name} is not promised", "promise it, or name another"))
    return faults


ALWAYS_JUDGED: Final = frozenset({"accounting", "answers", "phantom", "resurrected"})
"""What a control may make fail although no scenario promises it by name."""

__all__ = ["DocumentError", "Scenario", "ScenarioError", "laid_over", "load_scenario", "shipped"]
