"""What a scenario says, in the units of the engine: nanoseconds, bytes and records a second.

The invariant of this file: every default of the plan engine is here, and no other file of it
reads the scenario's settings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from fractal_lba_server.core import health, lease, replication
from fractal_lba_server.core.first_write import Rank
from fractal_lba_server.core.health import ProbeRule
from fractal_lba_server.core.lease import Terms
from fractal_lba_server.core.ramp import HOLD_MS, STEPS, RampRule
from fractal_lba_server.core.regions import Placement, RegionInfo, Registry
from fractal_lba_server.core.tenants import OPEN_PLACEMENT
from fractal_lba_server.drill.scenario import Scenario
from fractal_lba_server.drill.times import Time
from fractal_lba_server.judge.check import PATIENCE_MS

from ..streams import Streams
from ..waiting import NS_PER_MS, NS_PER_S

RECORD_BYTES: Final = 813
ATTEMPT_TIMEOUT_MS: Final = 1_000
SETTLE_S: Final = 20.0
"""Longest wait after the load until regions are equal, if the scenario names no other."""

RETRY_S: Final = 0.2
"""A lost message is sent again after this, if the scenario names no other time."""

COLD_STANDBY: Final = "cold-standby"

Value = float | Mapping[str, Any]


def ns(seconds: float) -> int:
    """Give whole nanoseconds."""
    return round(seconds * NS_PER_S)


@dataclass(frozen=True, slots=True)
class Wire:
    """One direction of a link."""

    delay_ns: int = 0
    jitter_ns: int = 0
    bytes_per_s: float | None = None
    loss: float = 0.0


NO_WIRE: Final = Wire()
"""A direction that a scenario does not name."""


@dataclass(frozen=True, slots=True)
class Shipping:
    """How the log of a region gets to another one."""

    interval_ns: int
    """From one batch to the next; 0: the next goes when the one before it was acknowledged."""

    by_objects: bool
    upload: Time
    transfer: Time
    segment_bytes: int | None
    in_flight: int
    retry_ns: int
    batch_bytes: int


@dataclass(frozen=True, slots=True)
class People:
    """Who decides that clients go elsewhere, and how long they take."""

    automatic: bool
    page: Time
    decide: Time
    act: Time
    absent_share: float
    absent_extra: Time
    stale_share: float
    stale_extra: Time


@dataclass(frozen=True, slots=True)
class Names:
    """How a change of a name reaches clients."""

    ttl_ns: int
    propagation: Time
    ignore_share: float
    ignore_for: Time


@dataclass(frozen=True, slots=True)
class Snapshots:
    """What a cold standby is restored from."""

    interval_ns: int
    duration_ns: int
    sync_ns: int
    copy: Time
    boot: Time
    restore_bytes_per_s: float | None


@dataclass(frozen=True, slots=True)
class Recovery:
    """What follows a failover, and the way back."""

    promote: Time
    catch_up_bytes_per_s: float | None
    verify: Time
    fail_back: bool
    ramp: RampRule


@dataclass(frozen=True, slots=True)
class Tenant:
    """The rules of one tenant."""

    placement: str
    level: str
    rpo_ms: int | None
    refuses_alone: bool


class Setup:
    """A scenario as the plan engine reads it."""

    def __init__(self, scenario: Scenario, streams: Streams) -> None:
        self.scenario = scenario
        self.streams = streams
        self._settings = scenario.part("settings")
        self.load = scenario.part("load")
        self.regions = scenario.regions
        self.capacity = {
            row["code"]: row.get("capacity_per_s")
            for row in scenario.document["topology"]["regions"]
        }
        self.nodes = {
            row["code"]: row.get("nodes", 1) for row in scenario.document["topology"]["regions"]
        }
        self.placements = _placements(scenario)
        self.registry = Registry(
            {code: RegionInfo(code, rank, code, "", b"") for rank, code in enumerate(self.regions)},
            self.placements,
        )
        self._wires = _wires(scenario)
        self.has_arbiter = bool(scenario.part("topology").get("arbiter", False))
        self.shards = int(scenario.part("topology").get("shards", {}).get("count", 1))
        self.record_bytes = max(1, round(self.load.get("record_bytes", RECORD_BYTES)))
        self.warmup_ns = ns(self.load.get("warmup_s", 0))
        self.load_end_ns = self.warmup_ns + ns(self.load["duration_s"])
        self.patience_ns = self.load.get("patience_ms", PATIENCE_MS) * NS_PER_MS
        self.attempt_ns = self.load.get("attempt_timeout_ms", ATTEMPT_TIMEOUT_MS) * NS_PER_MS
        self.sync_ns = ns(self.time("disk", "sync_s", 0).mean)
        self.level = str(self._settings.get("level", "durable"))
        self.outbox_until = str(self.load.get("outbox_until", "durable"))
        self.rpo_ms: int | None = self._settings.get("rpo_ms")
        self.shows_lag = "lag_p99_ms_max" in scenario.part("promises")
        self.refuses_alone = self._settings.get("on_partition", "accept") == "refuse"
        self._read_settings()
        self._read_tenants()
        rhythm = self.shipping
        shipped_s = 3 * (rhythm.interval_ns / NS_PER_S + rhythm.upload.mean + rhythm.transfer.mean)
        self.settle_ns = ns(self.load.get("settle_s", max(SETTLE_S, shipped_s)))

    def _read_settings(self) -> None:
        probe = self._settings.get("probe", {})
        interval_ms = round(probe.get("interval_s", health.INTERVAL_MS / 1000) * 1000)
        self.probe = ProbeRule(
            interval_ms=interval_ms,
            timeout_ms=round(probe["timeout_s"] * 1000) if "timeout_s" in probe else min(
                interval_ms, health.TIMEOUT_MS
            ),
            failures=probe.get("failures", health.FAILURES),
            successes=probe.get("successes", health.SUCCESSES),
            # As many probes as the server's default holds a region down for.
            hold_down_ms=interval_ms * health.HOLD_DOWN_MS // health.INTERVAL_MS,
        )  # fmt: skip
        self.checkers = int(probe.get("checkers", 1))
        self.quorum = int(probe.get("quorum", self.checkers // 2 + 1))
        self.names = Names(
            ns(probe.get("dns_ttl_s", 0)), self.time("probe", "propagation_s", 0),
            probe.get("ignore_ttl_share", 0.0), self.time("probe", "ignore_ttl_for_s", 0),
        )  # fmt: skip
        terms = self._settings.get("lease", {})
        self.terms = Terms(
            ttl_ms=round(terms.get("duration_s", lease.TTL_MS / 1000) * 1000),
            renew_ms=round(terms.get("renew_s", lease.RENEW_MS / 1000) * 1000),
            max_drift_ms=round(terms.get("drift_s", lease.MAX_DRIFT_MS / 1000) * 1000),
        )
        self.shipping = self._read_shipping()
        people = self._settings.get("people", {})
        self.people = People(
            people.get("automatic", True), self.time("people", "page_s", 0),
            self.time("people", "decide_s", 0), self.time("people", "act_s", 0),
            people.get("absent_share", 0.0), self.time("people", "absent_extra_s", 0),
            people.get("stale_step_share", 0.0), self.time("people", "stale_step_extra_s", 0),
        )  # fmt: skip
        self._read_recovery()

    def _read_shipping(self) -> Shipping:
        part = self._settings.get("shipping", {})
        by_objects = part.get("via", "links") == "objects"
        interval_s = part.get("segment_age_s", part.get("interval_s", 0)) if by_objects else (
            part.get("interval_s", 0)
        )  # fmt: skip
        return Shipping(
            ns(interval_s), by_objects, self.time("shipping", "upload_s", 0),
            self.time("shipping", "transfer_s", 0),
            part.get("segment_bytes") if by_objects else None,
            part.get("in_flight", 8 if by_objects else 1),
            ns(part.get("retry_s", RETRY_S)), part.get("batch_bytes", replication.BATCH_BYTES),
        )  # fmt: skip

    def _read_recovery(self) -> None:
        part = self._settings.get("recovery", {})
        steps_ms = len(STEPS) * HOLD_MS / 1000
        fail_back = self.time("recovery", "fail_back_s", steps_ms)
        total_ms = fail_back.sample(self.streams.of("recovery", "fail_back")) * 1000
        self.recovery = Recovery(
            self.time("recovery", "promote_s", 0), part.get("catch_up_bytes_per_s"),
            self.time("recovery", "verify_s", 0), part.get("fail_back", True),
            RampRule(hold_ms=round(total_ms / len(STEPS))),
        )  # fmt: skip
        part = self._settings.get("snapshot", {})
        self.snapshots = Snapshots(
            ns(part.get("interval_s", 3600)), ns(part.get("duration_s", 0)),
            ns(part.get("sync_s", 0)), self.time("snapshot", "copy_s", 0),
            self.time("snapshot", "boot_s", 0), part.get("restore_bytes_per_s"),
        )  # fmt: skip

    def time(self, part: str, name: str, default: Value) -> Time:
        """Give a duration of the settings."""
        return Time.of(self._settings.get(part, {}).get(name, default))

    def draw_ns(self, time: Time, *name: str) -> int:
        """Draw one occurrence of a duration from the stream of a name."""
        return ns(time.sample(self.streams.of(*name)))

    def wire(self, begin: str, end: str) -> Wire:
        """Give one direction of a link; what the scenario does not name has no delay."""
        return self._wires.get((begin, end), NO_WIRE)

    def tenant(self, row: Mapping[str, Any]) -> Tenant:
        """Give the rules of the tenant of a client."""
        tenants = {one["id"]: one for one in self.load.get("tenants", ())}
        first: Mapping[str, Any] = next(iter(tenants.values()), {})
        found = tenants.get(row.get("tenant"), first)
        default = (
            OPEN_PLACEMENT if OPEN_PLACEMENT in self.placements else next(iter(self.placements))
        )
        return Tenant(
            found.get("placement", default), found.get("level", self.level),
            found.get("rpo_ms", self.rpo_ms),
            found.get("on_partition", "refuse" if self.refuses_alone else "accept") == "refuse",
        )  # fmt: skip

    def placement_level(self, placement: str) -> str:
        """Give the level that the tenants of a placement wait for."""
        return self._levels.get(placement, self.level)

    def placement_rpo_ms(self, placement: str) -> int | None:
        """Give the strictest bound of the tenants of a placement."""
        return self._bounds.get(placement)

    @property
    def lonely_placements(self) -> tuple[str, ...]:
        """Name the placements whose regions take no record while they hear no peer."""
        return self._lonely

    def _read_tenants(self) -> None:
        rows = [self.tenant(row) for row in client_rows(self.scenario)]
        self._bounds: dict[str, int] = {}
        for row in rows:
            if row.rpo_ms is not None:
                known = self._bounds.get(row.placement, row.rpo_ms)
                self._bounds[row.placement] = min(known, row.rpo_ms)
        self._lonely = tuple(dict.fromkeys(row.placement for row in rows if row.refuses_alone))
        self._levels = {row.placement: row.level for row in reversed(rows)}

    def rank(self, code: str) -> int:
        """Give the rank of a region: its place in the list."""
        return self.registry.rank(code)

    @property
    def ranks(self) -> Rank:
        """Give the ranks as the core asks for them."""
        return self.rank


def _placements(scenario: Scenario) -> dict[str, Placement]:
    rows = scenario.part("topology").get("placements") or {
        OPEN_PLACEMENT: {"regions": list(scenario.regions), "topology": "active-active"}
    }
    return {
        name: Placement(
            name, tuple(row["regions"]), row["topology"],
            row.get("copies", min(2, len(row["regions"]))),
            row.get("primary", row["regions"][0] if row["topology"] != "active-active" else None),
        )
        for name, row in rows.items()
    }  # fmt: skip


def _wires(scenario: Scenario) -> dict[tuple[str, str], Wire]:
    found: dict[tuple[str, str], Wire] = {}
    for row in scenario.part("topology").get("links", ()):
        wire = Wire(
            round(row.get("delay_ms", 0) * NS_PER_MS), round(row.get("jitter_ms", 0) * NS_PER_MS),
            row.get("bandwidth_bytes_per_s"), row.get("loss", 0.0),
        )  # fmt: skip
        found[row["from"], row["to"]] = wire
        if row.get("both", True):
            found.setdefault((row["to"], row["from"]), wire)
    return found


def client_rows(scenario: Scenario) -> list[dict[str, Any]]:
    """Give the clients: those of the scenario, or one for each region, shares adding up to 1."""
    codes = scenario.regions
    given = scenario.part("load").get("clients") or [
        {"name": f"near-{code}", "endpoints": [code, *(c for c in codes if c != code)]}
        for code in codes
    ]
    rows = [{"share": 1 / len(given), **row} for row in given]
    whole = sum(row["share"] for row in rows)
    return [{**row, "share": row["share"] / whole} for row in rows]
