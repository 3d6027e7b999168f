"""Read regions.yaml, and remember in the data directory which regions there were.

The invariant of this file: outcomes name their region, and the rank of a region decides which of
two first writes stands, so a code that a data directory has seen keeps its rank for ever
(spec/roles.md 1.4). A file that drops or moves one is refused by its name before anything runs.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

from .contract import contract_file
from .core.faults import DocumentError, Fault
from .core.first_write import Rank
from .core.regions import Registry, order_faults, read_registry
from .schema_faults import schema_faults
from .store.data_dir import write_durably
from .yaml_document import Document, read_document

KEPT_NAME: Final = "regions.json"
"""The file of a data directory with the codes that were seen there, in order of rank."""


def load_regions(path: Path, *, data: Path | None = None, region: str | None = None) -> Registry:
    """Read a regions file; with `data`, hold it against what this data directory has seen.

    `region` is who we are: it must be listed, and not retired. The codes are made durable before
    the registry is given out. Raises DocumentError for faults, OSError where a file is unreadable.
    """
    document = read_document(path)
    registry = _checked(document, region)
    if data is not None:
        _hold_against(document, registry, data)
    return registry


def check_regions(path: Path, *, data: Path | None = None) -> Registry:
    """Read a regions file as `load_regions` does, and write nothing."""
    document = read_document(path)
    registry = _checked(document, None)
    if data is not None:
        _refuse_changes(document, registry, data)
    return registry


def default_ranks() -> dict[str, int]:
    """Give the ranks of `spec/regions.json`, for tools that are given no regions file."""
    codes = json.loads(contract_file("regions.json").read_bytes())["codes"]
    return {code: rank for rank, code in enumerate(codes)}


def seen_codes(data: Path) -> tuple[str, ...]:
    """Give the codes that a data directory has seen, in order of rank; ValueError if damaged."""
    try:
        kept = json.loads((data / KEPT_NAME).read_bytes())
    except FileNotFoundError:
        return ()
    codes = kept.get("codes") if isinstance(kept, dict) and kept.get("version") == 1 else None
    if not isinstance(codes, list) or not all(isinstance(code, str) for code in codes):
        raise ValueError(f"{data / KEPT_NAME}: not a list of region codes; restore the file")
    return tuple(codes)


def kept_rank(data: Path) -> Rank:
    """Give the ranks by the codes that a data directory has seen; a region alone has rank 0."""
    codes = seen_codes(data)
    return lambda region: codes.index(region) if codes else 0


def _checked(document: Document, region: str | None) -> Registry:
    faults = schema_faults("regions", document.value)
    if faults:
        raise document.error(faults)
    try:
        registry = read_registry(document.value)
    except DocumentError as error:
        raise document.error(error.faults) from None
    if region is None:
        return registry
    if region not in registry.regions:
        fix = "list it, or start the server with the region it belongs to"
        raise document.error([Fault("/regions", f'no region has the code "{region}", ours', fix)])
    if registry.regions[region].retired:
        pointer = f"/regions/{registry.rank(region)}/retired"
        raise document.error([Fault(pointer, "this region is retired", "do not start it")])
    return registry


def _hold_against(document: Document, registry: Registry, data: Path) -> None:
    if _refuse_changes(document, registry, data) != registry.codes:
        text = json.dumps({"version": 1, "codes": list(registry.codes)})
        write_durably(data / KEPT_NAME, text.encode() + b"\n")


def _refuse_changes(document: Document, registry: Registry, data: Path) -> tuple[str, ...]:
    """Give the codes that were seen; DocumentError where the file breaks with them."""
    try:
        known = seen_codes(data)
    except ValueError as error:
        raise DocumentError([Fault("", str(error), "its codes fix the ranks")]) from None
    faults = list(order_faults(known, registry.codes))
    if faults:
        raise document.error(faults)
    return known
