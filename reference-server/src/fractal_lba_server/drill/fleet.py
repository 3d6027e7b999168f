"""Put the regions of a scenario on this machine: keys, files, ports, links, processes.

Each region reaches each other region, and the clients reach each region, through a link of the
proxy of its own, so that any direction of any pair can be broken alone. Links are named
`<from>-<to>`; `client` is every client.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Iterable, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import yaml

from ..store.region_key import new_region_key
from .links import Links
from .processes import ProcessError, Program, free_port, takes_writes
from .records import kid_of, secret_of, token_of
from .scenario import Scenario, laid_over
from .stores import Stores
from .trace import TraceWriter

TENANT: Final = "drill"
"""The tenant of a scenario that names none."""

PROBE: Final = {
    "interval_s": 1.0, "timeout_s": 0.5, "failures": 3, "successes": 2, "checkers": 3, "quorum": 2,
}  # fmt: skip
"""How checkers look at regions, where the scenario says nothing else."""

LEASE: Final = {"duration_s": 5.0, "renew_s": 1.0, "drift_s": 0.25}

HOLD_DOWN_S: Final = 1.0
"""How long a checker holds a change of its mind back."""

SPARE_S: Final = 1.0
"""Between two automatic promotions, beside what one of them takes."""

SHIMMED: Final = frozenset({"disk-full", "disk-slow", "sync-error", "clock-step"})
"""Faults that a region can only have inside its own process."""


class Fleet:
    """All processes and links of one drill. Every one of them has ended after `close`."""

    def __init__(self, scenario: Scenario, home: Path, trace: TraceWriter, *, seed: int) -> None:
        self.scenario = scenario
        self.home = home
        self.trace = trace
        self.seed = seed
        self.links = Links(seed)
        self.regions: dict[str, Program] = {}
        """The first process of each region."""
        self.further: dict[str, Program] = {}
        """The others, where several share the ids of a region: `<region>.2` and so on."""
        self.client_ports: dict[str, int] = {}
        self._arbiter_ports: dict[str, int] = {}
        self.stores: dict[str, Stores] = {}
        self.helpers: list[Program] = []
        """The arbiter and its checkers."""
        topology = scenario.document["topology"]
        self.placements: Mapping[str, Any] = topology.get("placements") or {
            "open": {"regions": list(scenario.regions), "topology": "active-active"}
        }

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    @property
    def tenants(self) -> list[Mapping[str, Any]]:
        """Give the tenants of the load."""
        return list(self.scenario.part("load").get("tenants", [{"id": TENANT}]))

    def data(self, node: str) -> Path:
        """Give the data directory of a process; a region's own name is its first."""
        return self.home / node / "data"

    def nodes(self, region: str) -> list[str]:
        """Name the processes of a region."""
        rows = self.scenario.part("topology")["regions"]
        count = next(row.get("nodes", 1) for row in rows if row["code"] == region)
        return [region, *(f"{region}.{number}" for number in range(2, count + 1))]

    def program(self, node: str) -> Program:
        """Give a process by its name."""
        return self.further.get(node) or self.regions[node]

    # --- before the start

    def prepare(self) -> None:
        """Write every file, choose every port, open every link."""
        codes = self.scenario.regions
        keys = {code: self._make_key(code) for code in codes}
        nodes = [node for code in codes for node in self.nodes(code)]
        public = {node: free_port() for node in nodes}
        peers = {code: free_port() for code in codes}
        for node in nodes:
            self.client_ports[node] = self.links.open(f"client-{node}", f"127.0.0.1:{public[node]}")
        between = {
            (a, b): self.links.open(f"{a}-{b}", f"127.0.0.1:{peers[b]}")
            for a in codes for b in codes if a != b
        }  # fmt: skip
        arbiter = free_port()
        if self.has_arbiter:
            for code in codes:
                self._arbiter_ports[code] = self.links.open(
                    f"{code}-arbiter", f"127.0.0.1:{arbiter}"
                )
        for link in self.links.counts():
            self.links.set(link, way="forward", **self._base(link, "forward"))
            self.links.set(link, way="back", **self._base(link, "back"))
        for code in codes:
            urls = {b: f"http://127.0.0.1:{between.get((code, b), peers[b])}" for b in codes}
            self._write_region(code, keys, urls, public, peers[code])
        if self.has_arbiter:
            self._prepare_arbiter(arbiter, keys, peers)

    def _make_key(self, code: str) -> str:
        (self.home / code).mkdir(parents=True, mode=0o700)
        return new_region_key(self.home / code / "region.key").public_key.hex()

    def _base(self, link: str, way: str) -> dict[str, Any]:
        """Give what a direction of a link always suffers, by the topology."""
        source, _, target = link.partition("-")
        if way == "back":
            source, target = target, source
        faults = {"delay_ms": 0.0, "jitter_ms": 0.0, "bandwidth_bytes_per_s": 0.0, "loss": 0.0}
        for row in self.scenario.part("topology").get("links", ()):
            ends = (row["from"], row["to"])
            both = row.get("both", True) and ends == (target, source)
            if ends == (source, target) or both:
                faults |= {name: row[name] for name in faults if name in row}
        return {**faults, "stall": False, "reorder": 0.0}

    def calm(self, link: str) -> None:
        """Give a link back what the topology says, and nothing else."""
        self.links.set(link, way="forward", **self._base(link, "forward"))
        self.links.set(link, way="back", **self._base(link, "back"))

    def _write_region(
        self,
        code: str,
        keys: Mapping[str, str],
        urls: Mapping[str, str],
        public: Mapping[str, int],
        peer: int,
    ) -> None:
        home = self.home / code
        self._write_tenants(home)
        own = {**urls, code: f"http://127.0.0.1:{peer}"}
        _write_yaml(home / "regions.yaml", self._registry(keys, own))
        settings = self.scenario.part("settings")
        document: dict[str, Any] = {
            "admin_listen": "127.0.0.1:0",
            "data": "data",
            "region": code,
            "tenants_file": "tenants.yaml",
            "limits": {"unauthenticated_per_s": 1_000_000},
            **self._shipping(),
        }
        if len(self.scenario.regions) > 1:
            document["regions_file"] = "regions.yaml"
            document["peers"] = {"listen": f"127.0.0.1:{peer}", "region_key": "region.key"}
        if code in self._arbiter_ports:
            lease = settings.get("lease", {})
            names = {"duration_s": "ttl_ms", "renew_s": "renew_ms", "drift_s": "max_drift_ms"}
            document["arbiter"] = {
                "url": f"http://127.0.0.1:{self._arbiter_ports[code]}",
                **{names[name]: round(lease[name] * 1000) for name in names if name in lease},
            }
        stores = Stores(home, self.scenario.part("topology"), settings)
        document |= stores.config()
        if "tiers" in settings:
            _write_yaml(home / "tiers.yaml", {"version": 1, **settings["tiers"]})
        self.stores[code] = stores
        apart = settings.get("region_server", {}).get(code, {})
        document = laid_over(laid_over(document, settings.get("server", {})), apart)
        self.regions[code] = self._write_node(code, code, {**document, **_listen(public[code])})
        for number, node in enumerate(self.nodes(code)[1:], 2):
            (self.home / node).mkdir(mode=0o700)
            self._write_tenants(self.home / node)
            own_part = {"node": f"n{number}", **_listen(public[node])}
            self.further[node] = self._write_node(node, code, {**document, **own_part})

    def _write_node(self, node: str, code: str, document: Mapping[str, Any]) -> Program:
        home = self.home / node
        _write_yaml(home / "flk.yaml", document)
        tuned = tuple(self.scenario.part("engines", "live").get("shim", ()))
        wants_shim = bool(self.scenario.plants or tuned) or any(
            fault["kind"] in SHIMMED and fault.get("region") == code
            for fault in self.scenario.document.get("faults", ())
        )
        return Program(
            node, home, ["serve", "--config", str(home / "flk.yaml")], self.trace,
            shimmed=wants_shim, plants=(*tuned, *self.scenario.plants),
        )  # fmt: skip

    def _shipping(self) -> dict[str, Any]:
        given = self.scenario.part("settings", "shipping")
        names = {"segment_bytes": "segment_bytes", "segment_age_s": "segment_age_s"}
        wal = {names[name]: given[name] for name in names if name in given}
        return {"wal": wal} if wal else {}

    def _write_tenants(self, home: Path) -> None:
        rows = []
        settings = self.scenario.part("settings")
        for tenant in self.tenants:
            id = tenant["id"]
            file = home / f"{id}.key"
            file.write_text(secret_of(id, self.seed).hex(), encoding="ascii")
            file.chmod(0o600)
            token = hashlib.sha256(token_of(id, self.seed).encode()).hexdigest()
            row: dict[str, Any] = {
                "id": id,
                "keys": [{"kid": kid_of(id), "alg": "HMAC", "secret": {"file": file.name}}],
                "read_tokens": [{"id": "drill", "sha256": token}],
            }
            if len(self.scenario.regions) > 1:
                row |= _between(tenant, settings)
            rows.append(row)
        _write_yaml(home / "tenants.yaml", {"version": 1, "tenants": rows})

    def _registry(self, keys: Mapping[str, str], peers: Mapping[str, str]) -> dict[str, Any]:
        return {
            "version": 1,
            "regions": [
                {
                    "code": code,
                    "endpoint": f"http://127.0.0.1:{self.client_ports[code]}",
                    "peer": peers[code],
                    "public_key": keys[code],
                }
                for code in self.scenario.regions
            ],
            "placements": {name: dict(row) for name, row in self.placements.items()},
        }

    @property
    def has_arbiter(self) -> bool:
        """Say whether the topology has an arbiter."""
        return bool(self.scenario.part("topology").get("arbiter"))

    def _prepare_arbiter(
        self, port: int, keys: Mapping[str, str], peers: Mapping[str, int]
    ) -> None:
        home = self.home / "arbiter"
        home.mkdir(mode=0o700)
        urls = {code: f"http://127.0.0.1:{peer}" for code, peer in peers.items()}
        _write_yaml(home / "regions.yaml", self._registry(keys, urls))
        probe = PROBE | dict(self.scenario.part("settings", "probe"))
        lease = LEASE | dict(self.scenario.part("settings", "lease"))
        checkers = [f"c{number:02}" for number in range(int(probe["checkers"]))]
        command = [
            "arbiter", "--listen", f"127.0.0.1:{port}", "--state", f"sqlite:///{home}/state.sqlite",
            "--regions", str(home / "regions.yaml"),
            "--automatic", "--rest-ms", _ms(_rest_s(probe, lease)),
            "--ttl-ms", _ms(lease["duration_s"]), "--renew-ms", _ms(lease["renew_s"]),
            "--max-drift-ms", _ms(lease["drift_s"]), "--quorum", str(probe["quorum"]),
            *(word for name in checkers for word in ("--checker", name)),
        ]  # fmt: skip
        self.helpers = [Program("arbiter", home, command, self.trace)]
        for name in checkers:
            folder = self.home / name
            folder.mkdir(mode=0o700)
            command = [
                "checker", "--regions", str(home / "regions.yaml"), "--name", name,
                "--arbiter", f"http://127.0.0.1:{port}",
                "--interval-ms", _ms(probe["interval_s"]), "--timeout-ms", _ms(probe["timeout_s"]),
                "--failures", str(probe["failures"]), "--successes", str(probe["successes"]),
                "--hold-down-ms", _ms(HOLD_DOWN_S),
            ]  # fmt: skip
            self.helpers.append(Program(name, folder, command, self.trace))

    # --- while it runs

    def start(self) -> None:
        """Start every process."""
        timeout_s = self.scenario.part("engines", "live").get("start_timeout_s", 30)
        for stores in self.stores.values():
            stores.start()
        # Checkers that look before anybody writes would call the first writer down.
        serving = [*self.helpers[:1], *self.regions.values(), *self.further.values()]
        for programs in (serving, self.helpers[1:]):
            for program in programs:
                program.spawn()
            for program in programs:
                program.await_ready(timeout_s)
            self._await_writer(timeout_s)

    def _await_writer(self, timeout_s: float) -> None:
        """Wait until a region takes writes; a lease may come a moment after the start."""
        until_s = time.monotonic() + timeout_s
        while not any(takes_writes(program.port) for program in self.regions.values()):
            if time.monotonic() > until_s:
                message = "no region takes writes"
                raise ProcessError(message)
            time.sleep(0.05)

    def links_of(self, region: str) -> list[str]:
        """Name every link that ends at a region."""
        nodes = set(self.nodes(region))
        return [name for name in self.links.counts() if nodes & set(name.split("-"))]

    def links_between(self, a: str, b: str) -> list[tuple[str, str]]:
        """Name each link and direction in which `a` speaks to `b`."""
        found = []
        known = self.links.counts()
        if f"{a}-{b}" in known:
            found.append((f"{a}-{b}", "forward"))
        if f"{b}-{a}" in known:
            found.append((f"{b}-{a}", "back"))
        return found

    def endpoints(self, regions: Iterable[str]) -> list[tuple[str, str]]:
        """Give region and URL of each process that clients of these regions reach."""
        return [
            (code, f"http://127.0.0.1:{self.client_ports[node]}")
            for code in regions
            for node in self.nodes(code)
        ]

    def close(self) -> None:
        """End every process and every link."""
        try:
            for program in (*self.helpers, *self.regions.values(), *self.further.values()):
                program.kill()
        finally:
            for stores in self.stores.values():
                stores.close()
            self.links.close()


def _rest_s(probe: Mapping[str, Any], lease: Mapping[str, Any]) -> float:
    """Say how long an arbiter rests: no less than until a new writer is seen to serve.

    Sooner, it would take the one it has just promoted for one that is down.
    """
    seen_s = (probe["successes"] + 1) * probe["interval_s"] + probe["timeout_s"] + HOLD_DOWN_S
    return float(lease["duration_s"] + lease["drift_s"] + seen_s + SPARE_S)


def _listen(port: int) -> dict[str, str]:
    return {"listen": f"127.0.0.1:{port}"}


def _between(tenant: Mapping[str, Any], settings: Mapping[str, Any]) -> dict[str, Any]:
    """Give what a tenant has where there are several regions."""
    row: dict[str, Any] = {}
    if "placement" in tenant:
        row["placement"] = tenant["placement"]
    on_partition = tenant.get("on_partition", settings.get("on_partition"))
    if on_partition is not None:
        row["on_partition"] = on_partition
    ack = {
        "level": tenant.get("level", settings.get("level")),
        "rpo_ms": tenant.get("rpo_ms", settings.get("rpo_ms")),
    }
    row["ack"] = {name: value for name, value in ack.items() if value is not None}
    return {name: value for name, value in row.items() if value}


def _ms(seconds: float) -> str:
    return str(round(seconds * 1000))


def _write_yaml(path: Path, document: Mapping[str, Any]) -> None:
    path.write_text(yaml.safe_dump(dict(document)), encoding="utf-8")
