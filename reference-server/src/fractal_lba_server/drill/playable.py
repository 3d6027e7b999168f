"""Say what of a scenario the live engine cannot play; it leaves nothing out (drills 1.6).

The invariant of this file: every member of a scenario that would change what happens is either
played by real processes or refused here, by name.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from .faults import refuse_unknown
from .scenario import Scenario, ScenarioError
from .steps import STEPS

SIMULATED: Final = {
    "disk": ("sync_s", "write_bytes_per_s"),
    "shipping": (
        "interval_s", "batch_bytes", "upload_s", "transfer_s", "in_flight", "retry_s",
    ),
    "probe": ("dns_ttl_s", "propagation_s", "ignore_ttl_share", "ignore_ttl_for_s"),
    "snapshot": ("interval_s", "duration_s", "sync_s", "copy_s", "boot_s", "restore_bytes_per_s"),
    "recovery": ("promote_s", "catch_up_bytes_per_s", "verify_s", "fail_back_s", "fail_back"),
}  # fmt: skip
"""Settings that real processes have by themselves: to set them is to ask for a simulation."""

OF_A_NODE: Final = frozenset({"process-kill", "process-pause", "process-restart"})
"""Faults that one process of a region can have alone."""


def refuse_unplayable(scenario: Scenario) -> None:
    """Refuse what this engine cannot play. Raises ScenarioError."""
    refuse_unknown([fault["kind"] for fault in scenario.document.get("faults", ())])
    for said in _unplayable(scenario):
        message = f"{scenario.name}: the live engine has no {said}; exact or plan may"
        raise ScenarioError(message)


def _unplayable(scenario: Scenario) -> Iterator[str]:
    topology, settings, load = map(scenario.part, ("topology", "settings", "load"))
    for step in scenario.document.get("steps", ()):
        if step["do"] not in STEPS and step["do"] != "census":
            yield f"step {step['do']!r}"
    for name, placement in topology.get("placements", {}).items():
        if placement["topology"] == "cold-standby":
            yield f"topology cold-standby (placement {name})"
    for region in topology["regions"]:
        if region.get("nodes", 1) != 1 and len(topology["regions"]) > 1:
            yield f"region of several nodes that also ships ({region['code']})"
        if region.get("nodes", 1) != 1 and "shards" not in topology:
            yield f"several nodes without dedup shards ({region['code']})"
        if "capacity_per_s" in region:
            yield f"capacity of a region ({region['code']})"
    for group, members in SIMULATED.items():
        for member in members:
            if member in settings.get(group, {}):
                yield f"settings.{group}.{member}"
    if settings.get("shipping", {}).get("via") == "objects":
        yield "shipping via objects"
    if not settings.get("people", {}).get("automatic", True):
        yield "people who decide; its clients go elsewhere by themselves"
    if "record_bytes" in load:
        yield "choice of load.record_bytes"
    for client in load.get("clients", ()):
        if client.get("failover", "outbox") != "outbox":
            yield f"failover {client['failover']!r} (client {client['name']})"
        if client.get("resolvers", 1) != 1:
            yield f"resolvers (client {client['name']})"
    for fault in scenario.document.get("faults", ()):
        if "age_s" in fault:
            yield f"age_s of a {fault['kind']} (fault {fault['id']})"
        if "node" in fault and fault["kind"] not in OF_A_NODE:
            yield f"{fault['kind']} of one node (fault {fault['id']})"
