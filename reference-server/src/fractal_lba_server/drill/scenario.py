"""Read a scenario by name or from a file, in either form; lay short form and control over it.

The invariant of this file: what a run does is one plain document, valid by
spec/schemas/scenario.json after every overlay, and its digest names it in the trace.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from random import Random
from typing import Any, Final

from fractal_lba.canonical import jcs

from ..core.faults import DocumentError, Fault
from ..schema_faults import schema_faults
from ..yaml_document import Document, read_document
from .kinds import member_faults
from .quantities import canonical
from .times import Time, is_distribution, time_faults

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
        """Give every fault with its moment and duration in seconds, repeats written out, in order.

        What one fault draws depends on the seed and its id alone: to add, remove or change
        another one moves nothing.
        """
        found: list[dict[str, Any]] = []
        for fault in self.document.get("faults", ()):
            found += _occurrences(fault, seed)
        return sorted(found, key=lambda fault: float(fault["at_s"]))


def _occurrences(fault: Mapping[str, Any], seed: int) -> Iterator[dict[str, Any]]:
    """Write out one fault: `spread_s` moves the whole series, that of `repeat` each one alone."""
    moments, lengths = (
        Random(f"{seed}/faults/{fault['id']}/{cause}")  # noqa: S311 - keeps no secret
        for cause in ("moment", "length")
    )
    first_s = fault["at_s"] + moments.random() * fault.get("spread_s", 0)
    repeat = fault.get("repeat", {"count": 1, "every_s": 0})
    for turn in range(repeat["count"]):
        moved_s = moments.random() * repeat.get("spread_s", 0)
        made = {**fault, "at_s": first_s + turn * repeat["every_s"] + moved_s}
        if repeat["count"] > 1:
            made["id"] = f"{fault['id']}#{turn + 1}"
        length_s = Time.of(fault.get("for_s", 0)).sample(lengths)
        if isinstance(fault.get("for_s"), Mapping):
            made["for_s"] = length_s
        yield made


def shipped(folders: Sequence[Path] = (FOLDER,)) -> list[str]:
    """Name the scenarios of the package, or of other folders."""
    return sorted(path.stem for folder in folders for path in folder.glob("*.yaml"))


def load_scenario(
    name: str, *, short: bool = False, control: bool = False, folders: Sequence[Path] = (FOLDER,)
) -> Scenario:
    """Read a scenario by its name in a folder, or by its path.

    Raises ScenarioError, or DocumentError for a faulty file.
    """
    known = [path for folder in folders if (path := folder / f"{name}.yaml").is_file()]
    path = known[0] if known else Path(name)
    if not path.is_file():
        names = ", ".join(shipped(folders))
        message = f"no scenario is called {name!r}, and no file; there are {names}"
        raise ScenarioError(message)
    return _scenario(read_document(path), name, short=short, control=control)


def scenario_of(
    document: Mapping[str, Any], source: str, *, short: bool = False, control: bool = False
) -> Scenario:
    """Make a scenario of a document in either form; `source` names it in messages.

    Raises ScenarioError, or DocumentError for a faulty document.
    """
    held = Document(Path(source), copy.deepcopy(dict(document)), {})
    return _scenario(held, source, short=short, control=control)


def _scenario(document: Document, source: str, *, short: bool, control: bool) -> Scenario:
    read = canonical(document.value)
    seen = {fault.pointer for fault in read.faults}
    found = [read.as_written(fault) for fault in schema_faults("scenario", read.value)]
    _refuse(document, read.faults + [fault for fault in found if fault.pointer not in seen])
    value, overlays = copy.deepcopy(read.value), []
    if short:
        overlays.append(("/short", value.get("short", {})))
    if control:
        if "control" not in value:
            message = f"{source}: has no negative control"
            raise ScenarioError(message)
        overlays.append(("/control/overlay", value["control"].get("overlay", {})))
    for _, over in overlays:
        value = laid_over(value, over)
    faults = schema_faults("scenario", value) or name_faults(value)
    _refuse(document, [read.as_written(_at_its_source(fault, overlays)) for fault in faults])
    return Scenario(value, source, control)


def _at_its_source(fault: Fault, overlays: Sequence[tuple[str, Any]]) -> Fault:
    """Give a fault the pointer of the overlay that brought its value, if one did."""
    for prefix, over in reversed(overlays):
        if _holds(over, fault.pointer):
            return Fault(prefix + fault.pointer, fault.problem, fault.fix)
    return fault


def _holds(value: Any, pointer: str) -> bool:
    for step in pointer.split("/")[1:]:
        try:
            value = value[int(step)] if isinstance(value, list) else value[step]
        except (KeyError, IndexError, TypeError, ValueError):
            return False
    return True


def _refuse(document: Document, faults: list[Fault]) -> None:
    if faults:
        raise document.error(faults)


def laid_over(base: Any, over: Any) -> Any:
    """Lay one document over another: mappings merge, null removes, anything else replaces.

    A distribution is one value: it replaces another one, and takes no parameter from it.
    """
    if not isinstance(base, Mapping) or not isinstance(over, Mapping) or is_distribution(over):
        return copy.deepcopy(over)
    merged = dict(base)
    for name, value in over.items():
        if value is None:
            merged.pop(name, None)
        else:
            merged[name] = laid_over(merged.get(name), value)
    return merged


def name_faults(document: Mapping[str, Any]) -> list[Fault]:
    """Find what the schema cannot: what is named but not there, and what a kind does not take."""
    faults = [*_fault_faults(document), *_place_faults(document), *time_faults(document)]
    promised = document["promises"]
    for place, name in enumerate(document.get("control", {}).get("must_fail", ())):
        if name not in promised and name not in ALWAYS_JUDGED:
            at = f"/control/must_fail/{place}"
            faults.append(Fault(at, f"{name} is not promised", "promise it, or name another"))
    return faults


def _fault_faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """Find faults that name what is not there, lack a member, or have the id of another one."""
    nodes = {region["code"]: region.get("nodes", 1) for region in document["topology"]["regions"]}
    known = {*nodes, "client", "arbiter", "cold"}
    ids = set()
    for place, fault in enumerate(document.get("faults", ())):
        at = f"/faults/{place}"
        for member in ("region", "from", "to"):
            name = fault.get(member)
            if name is not None and name not in known and not name.startswith("shard:"):
                yield Fault(
                    f"{at}/{member}", f"no region {name}", f"one of {', '.join(sorted(known))}"
                )
        if fault.get("node", 1) > nodes.get(fault.get("region", ""), NODES_MAX):
            yield Fault(f"{at}/node", "the region has fewer nodes", "name one of them, from 1")
        if fault["id"] in ids:
            yield Fault(f"{at}/id", "another fault has this id", "give it its own")
        ids.add(fault["id"])
        yield from member_faults(at, fault)


def _place_faults(document: Mapping[str, Any]) -> Iterator[Fault]:
    """Find placements, links, clients, tenants and steps that name what is not there."""
    topology, load = document["topology"], document["load"]
    codes = [region["code"] for region in topology["regions"]]
    placements = topology.get("placements", {})
    named = [(f"/topology/regions/{n}/code", code) for n, code in enumerate(codes)]
    for at, code in named:
        if codes.count(code) > 1:
            yield Fault(at, "another region has this code", "give it its own")
    for name, placement in placements.items():
        for code in (*placement["regions"], placement.get("primary", placement["regions"][0])):
            if code not in codes:
                at = f"/topology/placements/{name}"
                yield Fault(at, f"no region {code}", "list it in regions")
    for place, client in enumerate(load.get("clients", ())):
        for number, code in enumerate(client["endpoints"]):
            if code not in codes:
                at = f"/load/clients/{place}/endpoints/{number}"
                yield Fault(at, f"no region {code}", f"one of {', '.join(codes)}")
    for place, step in enumerate(document.get("steps", ())):
        for member in ("region", "to"):
            if step.get(member, codes[0]) not in codes:
                yield Fault(
                    f"/steps/{place}/{member}", "no such region", f"one of {', '.join(codes)}"
                )


NODES_MAX: Final = 16
"""Nodes of a region, as in the schema; a node of a region that is not there is another fault."""

ALWAYS_JUDGED: Final = frozenset({"accounting", "answers", "phantom", "resurrected"})
"""What a control may make fail although no scenario promises it by name."""

__all__ = [
    "DocumentError",
    "Scenario",
    "ScenarioError",
    "laid_over",
    "load_scenario",
    "scenario_of",
    "shipped",
]
