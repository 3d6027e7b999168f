"""What one could change: candidates for the better, and settings that may be off.

The invariant of this file: it proposes and judges nothing. A candidate changes what the scenario
has; where it does not apply there is none. Whether it helps is measured in `whatif.py`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final, NamedTuple

from fractal_lba_server.drill.times import Time

from .edits import Changes, names_of, shown, value_at

Document = Mapping[str, Any]

NODES_MAX: Final = 16
"""As in the schema."""

TTL_STEPS_S: Final = (300, 60, 30, 10)
"""Times to live that people set."""


class Proposal(NamedTuple):
    """One change that may help."""

    name: str
    change: str
    set: Changes


def proposals(document: Document) -> list[Proposal]:
    """Give every change that applies to a scenario, in the order of this file."""
    found: list[Proposal] = []
    for candidate in CANDIDATES:
        found += candidate(document)
    return found


def _changed(document: Document, path: str, value: Any) -> str:
    member = path.rpartition(".")[2]
    before = value_at(document, path)
    if before is None:
        return shown(member, value)
    return f"{shown(member, value)} instead of {shown(member, before)}"


def _one(document: Document, name: str, what: str, path: str, value: Any) -> Iterator[Proposal]:
    yield Proposal(name, f"{what}: {_changed(document, path, value)}", {path: value})


def _scaled(name: str, what: str, path: str, factor: float) -> Callable[..., Iterator[Proposal]]:
    """Give the candidate that multiplies a setting, be it a number or a distribution."""

    def candidate(document: Document) -> Iterator[Proposal]:
        value = value_at(document, path)
        if value is not None and Time.of(value).mean > 0:
            yield from _one(document, name, what, path, scaled(value, factor))

    return candidate


def scaled(value: Any, factor: float) -> Any:
    """Multiply a number, or every number of a distribution; whole numbers stay whole."""
    if isinstance(value, Mapping):
        return {name: scaled(below, factor) for name, below in value.items()}
    if isinstance(value, list):
        return [scaled(below, factor) for below in value]
    made = value * factor
    return int(made) if float(made).is_integer() else float(f"{made:.6g}")


def _ttl(document: Document) -> Iterator[Proposal]:
    path = "settings.probe.dns_ttl_s"
    now = value_at(document, path)
    lower = next((step for step in TTL_STEPS_S if now is not None and step < now), None)
    if lower is not None:
        yield from _one(document, "lower the DNS TTL", "names may be kept for", path, lower)


def _resolvers(document: Document) -> Iterator[Proposal]:
    path = "settings.probe.ignore_ttl_share"
    if value_at(document, path):
        yield from _one(
            document, "replace resolvers that ignore the TTL", "resolvers that ignore it", path, 0
        )


def _failures(document: Document) -> Iterator[Proposal]:
    path = "settings.probe.failures"
    now = value_at(document, path)
    if now is not None and now > 1:
        yield from _one(
            document, "believe fewer failed probes", "failures until unhealthy", path, now - 1
        )


def _automatic(document: Document) -> Iterator[Proposal]:
    path = "settings.people.automatic"
    if value_at(document, path) is False:
        yield Proposal(
            "let probes decide, not people", "fail over without a person's decision", {path: True}
        )


def _absent(document: Document) -> Iterator[Proposal]:
    for path, name, what in (
        ("settings.people.absent_share", "page a second expert", "incidents without an expert"),
        ("settings.people.stale_step_share", "rehearse the runbook", "stale steps"),
    ):
        if value_at(document, path):
            yield from _one(document, name, what, path, 0)


def _clients(document: Document) -> Iterator[Proposal]:
    changes = {}
    for number, client in enumerate(value_at(document, "load.clients") or ()):
        if client.get("failover", "outbox") != "outbox" and len(client["endpoints"]) > 1:
            changes[f"load.clients.{number}.failover"] = "outbox"
    if changes:
        text = "clients find another region themselves, without DNS"
        yield Proposal("fail over in the client", text, changes)


def _outbox(document: Document) -> Iterator[Proposal]:
    path = "load.outbox_until"
    via = value_at(document, "load.via") or "outbox"
    if via == "outbox" and value_at(document, path) in (None, "durable"):
        text = "clients keep a record until it is replicated, and send it again"
        yield Proposal("hold records in the outbox until replicated", text, {path: "replicated"})


def _level(document: Document) -> Iterator[Proposal]:
    path = "settings.level"
    if value_at(document, path) in (None, "durable") and _replicates(document):
        text = "a write is acknowledged once a second region has it"
        yield Proposal("acknowledge when replicated", text, {path: "replicated"})


def _governor(document: Document) -> Iterator[Proposal]:
    promised = document["promises"].get("rpo_work_s") or document["promises"].get("rpo_s")
    if promised and value_at(document, "settings.rpo_ms") is None and _replicates(document):
        bound_ms = max(250, int(promised * 500))
        text = f"writes stop when replication is {bound_ms / 1000:g} s behind"
        yield Proposal("bound the lag", text, {"settings.rpo_ms": bound_ms})


def _refuse(document: Document) -> Iterator[Proposal]:
    path = "settings.on_partition"
    if value_at(document, path) in (None, "accept") and len(document["topology"]["regions"]) > 1:
        text = "a region that is cut off refuses writes rather than fork"
        yield Proposal("refuse writes in a partition", text, {path: "refuse"})


def _lease(document: Document) -> Iterator[Proposal]:
    if "warm-standby" in _topologies(document) and not value_at(document, "topology.arbiter"):
        changes: dict[str, Any] = {"topology.arbiter": True}
        if value_at(document, "settings.lease") is None:
            changes["settings.lease"] = {"duration_s": 10, "renew_s": 2, "drift_s": 0.5}
        text = "a writer needs a lease of an arbiter; a promotion waits until it has ended"
        yield Proposal("fence the old writer with a lease", text, changes)


def _topology(document: Document) -> Iterator[Proposal]:
    steps = {"cold-standby": "warm-standby", "warm-standby": "active-active"}
    for old, new in steps.items():
        changes = {
            f"topology.placements.{name}.topology": new
            for name, placement in document["topology"].get("placements", {}).items()
            if placement["topology"] == old
        }
        if changes:
            yield Proposal(f"{new} instead of {old}", f"placements become {new}", changes)


def _objects(document: Document) -> Iterator[Proposal]:
    path = "settings.shipping.via"
    if value_at(document, path) == "objects":
        text = "the log goes straight to the other region, not through an object store"
        yield Proposal("ship over the links", text, {path: "links"})


def _bandwidth(document: Document) -> Iterator[Proposal]:
    changes = {}
    links = document["topology"].get("links", [])
    for number, link in enumerate(links):
        if "bandwidth_bytes_per_s" in link:
            path = f"topology.links.{number}.bandwidth_bytes_per_s"
            changes[path] = scaled(link["bandwidth_bytes_per_s"], 2)
    if changes:
        yield Proposal("double the bandwidth of the links", "twice the bandwidth", changes)


def _capacity(document: Document) -> Iterator[Proposal]:
    changes: dict[str, Any] = {}
    for region in document["topology"]["regions"]:
        if "capacity_per_s" in region:
            at = f"topology.regions.{region['code']}"
            changes[f"{at}.capacity_per_s"] = scaled(region["capacity_per_s"], 2)
            changes[f"{at}.nodes"] = min(NODES_MAX, 2 * region.get("nodes", 1))
    if changes:
        yield Proposal("double the capacity of the regions", "twice the nodes", changes)


def _fail_back(document: Document) -> Iterator[Proposal]:
    path = "settings.recovery.fail_back"
    if value_at(document, path) is True:
        text = "clients stay where they are when the region returns"
        yield Proposal("do not fail back", text, {path: False})


def _topologies(document: Document) -> set[str]:
    placements = document["topology"].get("placements", {})
    return {placement["topology"] for placement in placements.values()} or {"active-active"}


def _replicates(document: Document) -> bool:
    many = len(document["topology"]["regions"]) > 1
    return many and "cold-standby" not in _topologies(document)


CANDIDATES: Final = (
    _ttl,
    _resolvers,
    _scaled("probe twice as often", "interval of the probes", "settings.probe.interval_s", 0.5),
    _failures,
    _automatic,
    _scaled("page sooner", "until somebody looks", "settings.people.page_s", 0.5),
    _scaled("decide sooner", "until somebody decides", "settings.people.decide_s", 0.5),
    _scaled("script what people do", "until it is done", "settings.people.act_s", 0.5),
    _absent,
    _clients,
    _outbox,
    _level,
    _governor,
    _scaled("ship twice as often", "interval of shipping", "settings.shipping.interval_s", 0.5),
    _scaled(
        "close segments sooner", "age of a segment", "settings.shipping.segment_age_s", 0.5
    ),
    _scaled("upload faster", "time of an upload", "settings.shipping.upload_s", 0.5),
    _objects,
    _bandwidth,
    _refuse,
    _lease,
    _scaled("promote faster", "time of a promotion", "settings.recovery.promote_s", 0.5),
    _scaled(
        "snapshot twice as often", "interval of snapshots", "settings.snapshot.interval_s", 0.5
    ),
    _scaled("copy snapshots sooner", "interval of copying", "settings.snapshot.sync_s", 0.5),
    _scaled("keep machines running", "until machines run", "settings.snapshot.boot_s", 0.1),
    _scaled(
        "restore twice as fast", "speed of restoring", "settings.snapshot.restore_bytes_per_s", 2
    ),
    _scaled(
        "catch up twice as fast", "speed of catching up",
        "settings.recovery.catch_up_bytes_per_s", 2,
    ),
    _topology,
    _capacity,
    _fail_back,
)  # fmt: skip


RARE: Final = ("absent_", "stale_step_", "ignore_ttl_")
"""Beginnings of members that act in few incidents: a few pairs say nothing of them."""


def acts_rarely(changes: Changes) -> bool:
    """Say whether a change touches what only few incidents meet."""
    return any(path.rpartition(".")[2].startswith(RARE) for path in changes)


# --- settings that may be off

UNCERTAIN: Final = (
    "settings.probe.interval_s", "settings.probe.timeout_s", "settings.probe.dns_ttl_s",
    "settings.probe.propagation_s", "settings.probe.ignore_ttl_share",
    "settings.probe.ignore_ttl_for_s", "settings.lease.duration_s",
    "settings.shipping.interval_s", "settings.shipping.segment_age_s",
    "settings.shipping.upload_s", "settings.shipping.transfer_s", "settings.disk.sync_s",
    "settings.people.page_s", "settings.people.decide_s", "settings.people.act_s",
    "settings.people.absent_share", "settings.people.absent_extra_s",
    "settings.people.stale_step_share", "settings.people.stale_step_extra_s",
    "settings.recovery.promote_s", "settings.recovery.catch_up_bytes_per_s",
    "settings.recovery.verify_s", "settings.recovery.fail_back_s",
    "settings.snapshot.interval_s", "settings.snapshot.duration_s", "settings.snapshot.sync_s",
    "settings.snapshot.copy_s", "settings.snapshot.boot_s",
    "settings.snapshot.restore_bytes_per_s", "load.rate_per_s", "load.record_bytes",
    "topology.regions.*.capacity_per_s", "topology.links.*.delay_ms",
    "topology.links.*.bandwidth_bytes_per_s", "topology.links.*.loss", "faults.*.for_s",
)  # fmt: skip
"""Settings that are estimates rather than decisions, or whose effect a planner wants to see; `*`
stands for every entry of a list."""


def uncertain(document: Document) -> list[str]:
    """Give the paths of settings that a scenario has and that may be off."""
    found = []
    for pattern in UNCERTAIN:
        for path in _written_out(document, pattern):
            value = value_at(document, path)
            if value is not None and not isinstance(value, bool) and value != 0:
                found.append(path)
    return found


def _written_out(document: Document, pattern: str) -> Iterator[str]:
    if "*" not in pattern:
        yield pattern
        return
    before, after = pattern.split(".*.")
    for name in names_of(value_at(document, before) or []):
        yield f"{before}.{name}.{after}"


def low_and_high(path: str, value: Any) -> tuple[Any, Any]:
    """Give the values between which a setting may lie.

    Of a distribution the 5th and the 95th percentile, of a number half and double.
    """
    if isinstance(value, Mapping):
        time = Time.of(value)
        low, high = (float(f"{time.quantile(share):.6g}") for share in (0.05, 0.95))
        return low, high
    high = scaled(value, 2)
    # A count stays a count; a half of one is left to the schema to refuse.
    low = value // 2 if isinstance(value, int) and value > 1 else scaled(value, 0.5)
    return low, min(1, high) if path.endswith(("share", "loss")) else high


# --- settings whose effect goes one way

MONOTONE: Final = {
    "settings.probe.dns_ttl_s": 0.0,
    "settings.probe.interval_s": 0.1,
    "settings.shipping.interval_s": 0.1,
    "settings.shipping.segment_age_s": 0.1,
    "settings.people.page_s": 0.0,
    "settings.people.decide_s": 0.0,
    "settings.people.act_s": 0.0,
    "settings.recovery.promote_s": 0.0,
    "settings.snapshot.interval_s": 1.0,
    "settings.snapshot.sync_s": 0.0,
    "settings.snapshot.boot_s": 0.0,
    "settings.snapshot.restore_bytes_per_s": 1e12,
    "settings.recovery.catch_up_bytes_per_s": 1e12,
    "topology.regions.*.capacity_per_s": 1e7,
    "topology.links.*.bandwidth_bytes_per_s": 1e12,
}
"""Settings of which less (or more) is never worse, with the best value worth asking about."""


def monotone(document: Document) -> Iterator[tuple[str, float, float]]:
    """Give path, present value and best value of each such setting that is a plain number."""
    for pattern, best in MONOTONE.items():
        for path in _written_out(document, pattern):
            value = value_at(document, path)
            if isinstance(value, int | float) and value != best:
                yield path, float(value), best
