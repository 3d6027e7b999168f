"""One world: regions with disks and clocks, links between them, clients, an arbiter.

It is made of `Parts` and a scenario, and owns nothing but the order in which a run is played:
start, warm up, load and timeline together, heal, empty the outboxes, wait for equal regions,
census, end.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from hashlib import sha256
from typing import Any, Final

from fractal_lba_server.core.health import ProbeRule
from fractal_lba_server.core.ingest import Settings
from fractal_lba_server.core.lease import Terms
from fractal_lba_server.core.policy import Policy, PolicyBook
from fractal_lba_server.core.regions import (
    ACTIVE_ACTIVE,
    COPIES_DEFAULT,
    WARM_STANDBY,
    Placement,
)
from fractal_lba_server.core.replication import BATCH_BYTES
from fractal_lba_server.core.tenants import OPEN_PLACEMENT, Directory
from fractal_lba_server.drill.scenario import Scenario, ScenarioError

from ..catalogue import refusal
from ..waiting import NS_PER_MS, NS_PER_S, Agenda
from .clock import START_NS
from .comparing import END, write_census
from .directory import directory_of_tenants
from .fault_kinds import KINDS
from .load import Load, client_rows
from .memory import RULES, RegionKey
from .names import Names
from .net import End, Net
from .network import ARBITER, CLIENT, Link, Way
from .people import Operator
from .plants import Parts, replaced
from .probing import HOLD_DOWN_MS
from .region import Region
from .residency import Residency
from .segments import Segments
from .steps import STEPS
from .wal import SEGMENT_AGE_S, SEGMENT_BYTES, WalRule

TENANT: Final = "drill"
PROBE: Final = {
    "interval_s": 1.0, "timeout_s": 0.5, "failures": 3, "successes": 2, "checkers": 3, "quorum": 2,
}  # fmt: skip
LEASE: Final = {"duration_s": 5.0, "renew_s": 1.0, "drift_s": 0.25}
SETTLE_S: Final = 20.0
MAX_SKEW_MS: Final = 500
AWAIT_WRITER_NS: Final = 30 * NS_PER_S


class World:
    """Everything that a run is played in."""

    def __init__(self, scenario: Scenario, *, seed: int, parts: Parts) -> None:
        refused = unplayable(scenario)
        if refused is not None:
            raise ScenarioError(refused)
        self.scenario = scenario
        self.document: dict[str, Any] = parts.settings(dict(scenario.document))
        self.seed = seed
        self.parts = parts
        self.agenda = Agenda()
        self.streams = parts.streams(seed)
        self.trace = parts.trace(self.agenda, scenario, seed=seed)
        self.steps = 0
        """How many events machines of the core were given, and frames that they judged."""
        self.is_over = False
        self.on_call: Callable[[str, str], None] | None = None
        self._read_settings()
        self.watch = parts.watch(self)
        self.arbiter_clock = parts.clock(self.agenda)
        self.regions: dict[str, Region] = {}
        self.net = Net(self.agenda, self._links())
        for rank, code in enumerate(self.codes):
            self.regions[code] = Region(self, code, rank)
            self.net.ends[code] = self.regions[code].end
        self.arbiter: Any = None
        self.vote_counters: list[Any] = []
        """Who hears what checkers think: the arbiter, and the service of names."""
        self._make_arbiter()
        people = self.part("settings", "people")
        self.operator: Operator | None = parts.operator(self) if people else None
        self.names: Names | None = None
        if any(row.get("failover") == "dns" for row in client_rows(self)):
            self.names = parts.names(self)
            self.vote_counters.append(self.names)
        self.load = Load(self)
        self.residency = Residency(self)
        self.breaker = parts.breaker(self)
        self._comparers: list[Any] = []
        self._comparing = 0
        self._then: Callable[[], None] | None = None

    # --- what the scenario says

    def part(self, *names: str) -> Mapping[str, Any]:
        """Give a mapping inside the document; empty where it is absent."""
        value: Any = self.document
        for name in names:
            value = value.get(name, {})
        assert isinstance(value, Mapping)
        return value

    def _read_settings(self) -> None:
        topology = self.part("topology")
        self.codes = [row["code"] for row in topology["regions"]]
        self._ranks = {code: rank for rank, code in enumerate(self.codes)}
        given = topology.get("placements") or {
            OPEN_PLACEMENT: {"regions": self.codes, "topology": "active-active"}
        }
        self.placements = {name: _placement(name, row) for name, row in given.items()}
        shipping = self.part("settings", "shipping")
        self.ship_interval_ns = int(shipping.get("interval_s", 0) * NS_PER_S)
        self.batch_bytes = int(shipping.get("batch_bytes", BATCH_BYTES))
        self.wal_rule = WalRule(
            int(shipping.get("segment_bytes", SEGMENT_BYTES)),
            float(shipping.get("segment_age_s", SEGMENT_AGE_S)),
        )
        lease = LEASE | dict(self.part("settings", "lease"))
        self.terms = Terms(*(round(lease[name] * 1_000) for name in LEASE))
        self.probe = PROBE | dict(self.part("settings", "probe"))
        self.policies = PolicyBook()
        self._policies: dict[str, Policy] = {}
        """By version: what was found in the book, which loses none."""
        self.tenants = list(self.part("load").get("tenants", [{"id": TENANT}]))
        self.generations: dict[str, tuple[int, bool]] = {}
        """By client: the generation of its key, and whether it is a wrong one."""
        self.key_counts: Counter[str] = Counter()
        self.rotated: list[str] = []
        """Clients whose key has a successor."""
        self.shims = tuple(self.part("engines", "live").get("shim", ()))
        self.shards_alone = "shards-alone" in self.shims
        self.directory: Directory = directory_of_tenants(
            self.tenants, self.part("settings"), len(self.codes)
        )

    def nodes_of(self, code: str) -> int:
        """Give how many processes a region has; this engine plays them as one."""
        row = self.part("topology")["regions"][self.rank(code)]
        return int(row.get("nodes", 1))

    def rank(self, code: str) -> int:
        """Give the rank of a region."""
        return self._ranks[code]

    def placements_of(self, code: str) -> list[tuple[str, Placement]]:
        """Give the placements that a region holds."""
        return [(name, one) for name, one in sorted(self.placements.items()) if code in one.regions]

    def roles_of(self, code: str) -> list[Placement]:
        """Give the placements of a region that have one writer."""
        return [one for _, one in self.placements_of(code) if one.needs_lease]

    def settings_of(self, code: str) -> Settings:
        """Give what the ingest machine of a region is told."""
        elsewhere = {
            name: self.url_of(one.regions[0])
            for name, one in self.placements.items()
            if code not in one.regions
        }
        server = {
            **self.part("settings").get("server", {}).get("limits", {}),
            **self.part("settings", "region_server").get(code, {}).get("limits", {}),
        }
        skew_ms = server.get("clock_skew_ms_max", MAX_SKEW_MS)
        has_shards = bool(self.part("topology").get("shards"))
        return Settings(
            code, max_skew_ms=skew_ms, unauthenticated_per_s=1_000_000, claims=has_shards,
            elsewhere=elsewhere,
        )  # fmt: skip

    def policy(self, version: str) -> Policy | None:
        """Give a policy by its version."""
        known = self._policies.get(version)
        if known is None:
            found = (one for one in self.policies.policies() if one.version == version)
            known = next(found, None)
            if known is not None:
                self._policies[version] = known
        return known

    def key_in_use(self, client: str) -> tuple[int, bool]:
        """Give the generation of the key with which a client signs, and whether it is wrong."""
        return self.generations.get(client, (1, False))

    def key_of(self, code: str) -> RegionKey:
        """Give the key of a region."""
        return region_key(code)

    def url_of(self, code: str) -> str:
        """Give the URL under which clients reach a region."""
        return f"https://{code}.example"

    def unix_ms(self) -> int:
        """Give the true time."""
        return (START_NS + self.agenda.now_ns) // NS_PER_MS

    def segments(self, disk: Any, folder: str) -> Segments:
        """Give the files of one stream."""
        return self.parts.segments(disk, folder)

    def alarm(self, code: str, fault: str, text: str) -> None:
        """Note what an operator must hear of."""
        self.trace.note(f"{code}: {fault}: {text}")

    def lookups_for(self, node: Any) -> Any:
        """Make what a process looks ids up in."""
        if node.region.router is not None:
            return self.parts.shard_lookups(node)
        if node.region.tiers is not None:
            return self.parts.tier_lookups(node)
        return self.parts.lookups(node)

    def client_class(self, row: Mapping[str, Any]) -> Any:
        """Give the class of a client."""
        return self.parts.named_client if row.get("failover") == "dns" else self.parts.client

    # --- what it is made of

    def _links(self) -> dict[tuple[str, str], Link]:
        ends = [*self.codes, CLIENT, *([ARBITER] if self._has_arbiter else [])]
        return {
            (a, b): self.parts.link(self.agenda, self.streams, a, b, self._way(a, b))
            for a in ends
            for b in ends
            if a != b and not {a, b} <= {CLIENT, ARBITER}
        }

    def _way(self, source: str, target: str) -> Way:
        way = Way()
        for row in self.part("topology").get("links", ()):
            ends = (row["from"], row["to"])
            both = row.get("both", True) and ends == (target, source)
            if ends == (source, target) or both:
                way = Way(
                    int(row.get("delay_ms", 0) * NS_PER_MS),
                    int(row.get("jitter_ms", 0) * NS_PER_MS),
                    row.get("bandwidth_bytes_per_s", 0.0),
                    row.get("loss", 0.0),
                )
        return way

    @property
    def _has_arbiter(self) -> bool:
        return bool(self.part("topology").get("arbiter"))

    def _make_arbiter(self) -> None:
        if not self._has_arbiter:
            return
        probe = self.probe
        people = self.part("settings", "people")
        self.arbiter = self.parts.arbiter(
            self, checkers=int(probe["checkers"]), quorum=int(probe["quorum"]),
            automatic=people.get("automatic", True),
        )  # fmt: skip
        self.net.ends[ARBITER] = End(ARBITER, self.arbiter)
        self.vote_counters.append(self.arbiter)

    def _start_checkers(self) -> None:
        """Begin to probe, once somebody writes: who looks before would call the writer down."""
        probe = self.probe
        if not self.vote_counters:
            return
        rule = ProbeRule(
            round(probe["interval_s"] * 1_000), round(probe["timeout_s"] * 1_000),
            int(probe["failures"]), int(probe["successes"]), HOLD_DOWN_MS,
        )  # fmt: skip
        for number in range(int(probe["checkers"])):
            chance = self.streams.of("checker", str(number), "begin")
            begin_ns = int(chance.random() * rule.interval_ms * NS_PER_MS)
            self.parts.checker(self, f"c{number:02}", rule, begin_ns)

    # --- the run

    def play(self) -> list[dict[str, Any]]:
        """Play the scenario; give the trace."""
        with replaced({**RULES, **(self.parts.rules or {})}):
            self._play()
        return self.trace.lines

    def _play(self) -> None:
        self._faults = self.scenario.faults(self.seed)
        for code, region in self.regions.items():
            if self.nodes_of(code) > 1:
                self.trace.note(f"{code}: {self.nodes_of(code)} nodes are played as one process")
            region.start(at_once=True)
        self._await_writer()
        self.agenda.run()
        self.trace.write("end")

    def _await_writer(self) -> None:
        nodes = [region.node for region in self.regions.values()]
        if any(node is not None and node.takes_records() for node in nodes):
            self._start_checkers()
            self.load.warm_up(self._begin)
        elif self.agenda.now_ns > AWAIT_WRITER_NS:
            self.trace.error("no region takes writes")
            self.agenda.stop()
        else:
            self.agenda.after(50 * NS_PER_MS, self._await_writer)

    def _begin(self) -> None:
        load = self.part("load")
        begin_ns = self.agenda.now_ns
        self.load.start(begin_ns)
        begin_ns += int(load.get("warmup_s", 0) * NS_PER_S)
        for at_s, _, action in sorted(self._timeline(), key=lambda row: row[:2]):
            self.agenda.at(begin_ns + int(at_s * NS_PER_S), action)
        self.agenda.at(begin_ns + int(load["duration_s"] * NS_PER_S), self._stop)

    def _timeline(self) -> list[tuple[float, int, Callable[[], None]]]:
        rows: list[tuple[float, Callable[[], None]]] = []
        for fault in self._faults:
            rows.append((fault["at_s"], partial(self._inject, fault)))
            if "for_s" in fault:
                rows.append((fault["at_s"] + fault["for_s"], partial(self._heal, fault)))
            if fault["kind"] in ("disk-stale", "stale-return"):
                at_s = max(0.0, fault["at_s"] - fault.get("age_s", fault["at_s"]))
                rows.insert(0, (at_s, self.regions[fault["region"]].disk.photograph))
        steps = self.document.get("steps", ())
        rows += [(step["at_s"], partial(STEPS[step["do"]], self, step)) for step in steps]
        return [(at_s, place, action) for place, (at_s, action) in enumerate(rows)]

    def _inject(self, fault: dict[str, Any]) -> None:
        self.watch.begin(fault["id"])
        self.breaker.inject(fault)

    def _heal(self, fault: dict[str, Any]) -> None:
        if fault["id"] not in self.breaker.open:
            return
        self.breaker.heal(fault)
        self.watch.healed(fault["id"])
        self._comparing += 1
        self._compare(fault["id"], self.unix_ms(), self._compared)

    def _compared(self) -> None:
        self._comparing -= 1
        self._after_comparisons()

    def _compare(self, after: str, until_ms: int | None, done: Callable[[], None]) -> None:
        settle_s = float(self.part("load").get("settle_s", SETTLE_S))
        comparer = self.parts.comparer(
            self, after, until_ms=until_ms, settle_ns=int(settle_s * NS_PER_S), done=done
        )
        self._comparers.append(comparer)

    def disk_changed(self) -> None:
        """Have comparisons follow a disk that was replaced."""
        self._comparers = [one for one in self._comparers if not one.is_over]
        for comparer in self._comparers:
            comparer.follow()

    # --- the end

    def _stop(self) -> None:
        self.load.stop()
        settle_s = float(self.part("load").get("settle_s", SETTLE_S))
        until_ns = self.agenda.now_ns + int(settle_s * NS_PER_S)
        self.load.flush(until_ns, self._flushed)

    def _flushed(self) -> None:
        left = sum(client.waiting for client in self.load.clients)
        if left:
            self.trace.note(f"{left} records wait in outboxes")
        self._then = self._settle
        self._after_comparisons()

    def _after_comparisons(self) -> None:
        if self._then is not None and not self._comparing:
            then, self._then = self._then, None
            then()

    def _settle(self) -> None:
        self.breaker.end()
        self._compare(END, None, self._finish)

    def _finish(self) -> None:
        self.census(END)
        self.residency.write()
        self.is_over = True
        self.agenda.stop()

    def census(self, name: str) -> None:
        """Write all that the regions that run hold now."""
        for code, region in self.regions.items():
            if region.node is not None:
                region.node.flush_index()
                write_census(self, name, code, region.index)


def unplayable(scenario: Scenario) -> str | None:
    """Say why this engine cannot play a scenario, or None."""
    document = scenario.document
    topology = document["topology"]
    several = [row["code"] for row in topology["regions"] if row.get("nodes", 1) > 1]
    apart = [f["id"] for f in document.get("faults", ()) if _is_of_one_node(f)]
    if several and (apart or topology.get("shards")):
        return f"the exact engine plays one process a region; {several[0]} has several"
    for name, row in topology.get("placements", {}).items():
        if row["topology"] not in (ACTIVE_ACTIVE, WARM_STANDBY):
            return f"placements.{name}: the server has no {row['topology']} yet; plan can"
    if document.get("settings", {}).get("shipping", {}).get("via") == "objects":
        return "the exact engine ships over links; plan ships by objects"
    for fault in document.get("faults", ()):
        if fault["kind"] not in KINDS:
            return refusal(fault["kind"], "exact")
    for step in document.get("steps", ()):
        if step["do"] not in STEPS:
            return f"the exact engine has no step {step['do']!r}; it has {', '.join(sorted(STEPS))}"
    most = document.get("engines", {}).get("exact", {}).get("records_max")
    if most is not None and _records(document) > most:
        return (
            f"{_records(document):.0f} records, more than the {most} of engines.exact.records_max"
        )
    return None


def _is_of_one_node(fault: Mapping[str, Any]) -> bool:
    return fault["kind"] == "rolling-restart" or "node" in fault


def _records(document: Mapping[str, Any]) -> float:
    load = document["load"]
    seconds = load["duration_s"] + load.get("warmup_s", 0)
    scale = document.get("engines", {}).get("exact", {}).get("rate_scale", 1.0)
    return float(load["rate_per_s"] * seconds * scale)


_KEYS: dict[str, RegionKey] = {}


def region_key(code: str) -> RegionKey:
    """Make the key of a region; it protects nothing but a simulation."""
    if code not in _KEYS:
        seed = sha256(f"simulated/region/{code}".encode()).digest()
        _KEYS[code] = RegionKey(seed, kid=code)
    return _KEYS[code]


def _placement(name: str, row: Mapping[str, Any]) -> Placement:
    regions: Sequence[str] = row["regions"]
    return Placement(
        name, tuple(regions), row["topology"], row.get("copies", min(COPIES_DEFAULT, len(regions))),
        row.get("primary", regions[0]) if row["topology"] == WARM_STANDBY else row.get("primary"),
    )  # fmt: skip


__all__ = ["World", "client_rows", "region_key"]
