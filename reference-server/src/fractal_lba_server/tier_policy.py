"""Read the tier policy file, and say every fault of it at once.

Names, bounds and defaults stand in `spec/schemas/tiers.json`; what a schema cannot say about the
dedup horizon, the retention and the conditions is decided in `core/tiering.py`.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, Final

from .contract import schema
from .core.faults import Fault
from .core.policy import PolicyBook
from .core.tiering import SECOND_MS, TierBook, policy_faults
from .schema_faults import schema_faults
from .store.tiers.conditions import problem_of
from .yaml_document import read_document

ENVIRONMENT: Final = {"TIER_HOT_TTL": "hot_ttl", "TIER_WARM_TTL": "warm_ttl"}
"""Variables that win over the default of the file, and the members that they stand for."""


def load_tier_policy(
    path: Path, *, policies: PolicyBook, has_cold: bool, environment: Mapping[str, str]
) -> TierBook:
    """Read a file; raises DocumentError with every fault, OSError where it cannot be opened."""
    document = read_document(path)
    faults = schema_faults("tiers", document.value)
    chosen, more = _environment(environment)
    faults += more
    # What the schema refused is left out, so that the rest can be judged as well.
    sound = _without(document.value, (fault.pointer for fault in faults))
    if not schema_faults("tiers", sound):
        faults += policy_faults(
            TierBook.from_document(sound, chosen),
            dedup_ttl_s=lambda tenant: _dedup_ttl_s(policies, tenant),
            condition_problem=problem_of,
            has_cold=has_cold,
        )
    if faults:
        raise document.error(faults)
    return TierBook.from_document(document.value, chosen)


def _environment(environment: Mapping[str, str]) -> tuple[dict[str, int], list[Fault]]:
    """Read TIER_HOT_TTL and TIER_WARM_TTL, within the bounds of the schema."""
    members = schema("tiers")["$defs"]["policy"]["properties"]
    chosen: dict[str, int] = {}
    faults = []
    for variable, member in ENVIRONMENT.items():
        if (text := environment.get(variable)) is None:
            continue
        low, high = members[member]["minimum"], members[member]["maximum"]
        if text.isascii() and text.isdigit() and low <= int(text) <= high:
            chosen[member] = int(text)
        else:
            problem = f"{variable} of the environment is no whole number of seconds"
            faults.append(Fault(f"/default/{member}", problem, f"{low} to {high}, or unset it"))
    return chosen, faults


def _dedup_ttl_s(policies: PolicyBook, tenant: str | None) -> int | None:
    """Give the dedup horizon; that of the default is the longest of those who share it."""
    policy = policies.default if tenant is None else policies.for_tenant(tenant)
    ttl_ms = policy.dedup_ttl_ms
    return None if ttl_ms is None else ttl_ms // SECOND_MS


def _without(value: Any, pointers: Iterable[str]) -> Any:
    """Copy a document without the nodes at these pointers."""
    sound = copy.deepcopy(value)
    for pointer in pointers:
        *path, name = pointer.split("/")[1:] or [""]
        node = sound
        for step in path:
            node = node.get(step) if isinstance(node, dict) else None
        if isinstance(node, dict):
            node.pop(name, None)
    return sound
