"""Offer load as users do: open loop, through the SDK, with an outbox of its own for each client.

A call is due at a fixed moment whether or not earlier ones have returned, so that an outage is
seen at its full length. What became of each call is a `call` line, what went over the wire the
`put` and `get` lines of `wiretap.py`.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from pathlib import Path
from random import Random
from typing import Any, Final, NamedTuple

from fractal_lba import Client, FailoverPolicy, open_outbox
from fractal_lba.endpoints import Endpoint
from fractal_lba.errors import FractalLBAError
from fractal_lba.hooks import FailoverEvent, Hooks

from .batches import BatchPopulation
from .fleet import TENANT, Fleet
from .records import pcs_id_of, record, signer_of, token_of
from .scenario import Scenario
from .trace import NS_PER_S
from .wiretap import CANARY, Wiretap

WORKERS: Final = 64
"""Calls of one client in flight, if the scenario names no other number."""

CALL_TIMEOUT_S: Final = 15.0
"""After this a call gives up; with an outbox its record goes on."""

WARM_TIMEOUT_S: Final = 30.0
PROBE: Final = {"interval_s": 1.0, "timeout_s": 1.0, "failures": 3, "successes": 2}
ATTEMPT_TIMEOUT_MS: Final = 1_000
CANARIES: Final = 20


class Mix(NamedTuple):
    """What share of the calls does what; the rest submits a new record."""

    repeat: float
    rival: float
    read: float

    def kind(self, u: float) -> str:
        """Choose by a number in [0, 1)."""
        for name, share in zip(self._fields, self, strict=True):
            if u < share:
                return name
            u -= share
        return "new"


class Sent:
    """Names that were recorded, for those who repeat and read. Safe for threads."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._names: list[tuple[str, str, int]] = []

    def add(self, tenant: str, name: str, variant: int) -> None:
        """Note a recorded name."""
        with self._lock:
            self._names.append((tenant, name, variant))

    def choose(self, tenant: str, chance: Random) -> tuple[str, int] | None:
        """Give one of a tenant; None if there is none yet."""
        with self._lock:
            mine = [row for row in self._names[-2_000:] if row[0] == tenant]
        return chance.choice(mine)[1:] if mine else None


class Population:
    """One client: its SDK, its outbox, its schedule."""

    def __init__(
        self, fleet: Fleet, row: Mapping[str, Any], place: int, sent: Sent, folder: Path
    ) -> None:
        self.name: str = row["name"]
        self.tenant: str = row.get("tenant", fleet.tenants[0]["id"])
        self.rate_per_s = row["share"] * fleet.scenario.part("load")["rate_per_s"]
        self._fleet = fleet
        self._load = fleet.scenario.part("load")
        self._variant = place
        self._sent = sent
        self._chance = Random(f"{fleet.seed}/load/{self.name}")  # noqa: S311 - keeps no secret
        self._mix = Mix(*(self._load.get(f"{name}_share", 0.0) for name in Mix._fields))
        self._stack = ExitStack()
        self._stop = threading.Event()
        self._number = self._rivals = 0
        self.home_url = fleet.endpoints(row["endpoints"])[0][1]
        self.on_failover: Callable[[FailoverEvent], object] = lambda event: None
        region_of = {port: node.partition(".")[0] for node, port in fleet.client_ports.items()}
        self.wiretap = Wiretap(
            fleet.trace, self.name, self.tenant, region_of, canary_keys(fleet.scenario, self.tenant)
        )
        self._stack.callback(self.wiretap.close)
        self._outbox = self._stack.enter_context(open_outbox(folder / self.name))
        self.client = self._stack.enter_context(self._client(row["endpoints"]))
        workers = fleet.scenario.part("engines", "live").get("workers", WORKERS)
        self._pool = self._stack.enter_context(
            ThreadPoolExecutor(workers, thread_name_prefix=f"drill-{self.name}")
        )
        self._thread = threading.Thread(target=self._run, name=f"drill-{self.name}")

    def _client(self, regions: list[str]) -> Client:
        probe = PROBE | dict(self._fleet.scenario.part("settings", "probe"))
        attempt_s = self._load.get("attempt_timeout_ms", ATTEMPT_TIMEOUT_MS) / 1000
        return Client(
            [Endpoint(url, region=code) for code, url in self._fleet.endpoints(regions)],
            signer=signer_of(self.tenant, self._fleet.seed),
            tenant=self.tenant,
            token=token_of(self.tenant, self._fleet.seed),
            connect_timeout_s=attempt_s,
            attempt_timeout_s=attempt_s,
            total_timeout_s=CALL_TIMEOUT_S,
            durability=self._load.get("outbox_until", "durable"),
            outbox=self._outbox,
            failover=FailoverPolicy(
                down_after=int(probe["failures"]),
                up_after=int(probe["successes"]),
                probe_interval_ms=round(probe["interval_s"] * 1000),
                probe_timeout_ms=round(probe["timeout_s"] * 1000),
                failback_after_ms=0,
            ),
            max_in_flight=1_000,
            hooks=Hooks(on_failover=self._moved),
            transport=self.wiretap,
        )

    def _moved(self, event: FailoverEvent) -> None:
        self.on_failover(event)  # it is set after the client is made

    def start(self, begin_ns: int) -> None:
        """Begin the schedule at a moment of the trace."""
        self._begin_ns = begin_ns
        self._thread.start()

    def stop(self) -> None:
        """Offer nothing more; calls under way go on."""
        self._stop.set()
        if self._thread.is_alive():
            self._thread.join()

    def close(self) -> None:
        """Wait for the calls, and close."""
        self.stop()
        self._pool.shutdown()
        self._stack.close()

    def flush(self, timeout_s: float) -> int:
        """Send what the outbox holds; give what it could not send."""
        return self.client.flush(timeout_s).entries

    def _run(self) -> None:
        trace = self._fleet.trace
        poisson = self._load.get("arrivals") == "poisson"
        canary_share = self._load.get("canary_per_s", 0) / max(self.rate_per_s, 1e-9)
        canary_share /= max(1, len(self._fleet.scenario.regions))
        due_ns = float(self._begin_ns)
        while not self._stop.is_set():
            step_s = self._chance.expovariate(self.rate_per_s) if poisson else 1 / self.rate_per_s
            due_ns += step_s * NS_PER_S
            wait_s = (due_ns - trace.now_ns()) / 1e9
            if wait_s > 0 and self._stop.wait(wait_s):
                return
            kind = "canary" if self._chance.random() < canary_share else None
            self._offer(kind or self._mix.kind(self._chance.random()), int(due_ns))

    def _offer(self, kind: str, due_ns: int) -> None:
        earlier = self._sent.choose(self.tenant, self._chance)
        if kind in ("repeat", "read") and earlier is not None:
            name, variant = earlier
            if kind == "read":
                self._pool.submit(self._read, name)
                return
        elif kind == "rival":
            self._rivals += 1
            name, variant = f"rival-{self._rivals}", self._variant
        elif kind == "canary":
            name, variant = f"{CANARY}{self._chance.randrange(canaries(self._load))}", 0
        else:
            self._number += 1
            name, variant = f"{self.name}-{self._number}", 0
        self._pool.submit(self._submit, name, variant, due_ns)

    def _submit(self, name: str, variant: int, due_ns: int) -> None:
        trace = self._fleet.trace
        called_ns, result, code = trace.now_ns(), "recorded", None
        try:
            self.client.submit(record(name, variant=variant))
        except FractalLBAError as error:
            code = error.code
            result = "conflict" if error.status == 409 else "queued" if error.queued else "failed"
        else:
            self._sent.add(self.tenant, name, variant)
        trace.write(
            "call",
            client=self.name,
            key=f"{self.tenant}/{pcs_id_of(name)}",
            scheduled_ns=due_ns,
            call_ns=called_ns,
            result=result,
            code=code,
        )

    def _read(self, name: str) -> None:
        try:
            self.client.get(pcs_id_of(name), total_timeout_s=CALL_TIMEOUT_S)
        except FractalLBAError:
            return  # the wiretap has written what was answered


class Load:
    """All clients of a scenario."""

    def __init__(self, fleet: Fleet, folder: Path) -> None:
        self._fleet = fleet
        self._sent = Sent()
        self._load = fleet.scenario.part("load")
        rows = client_rows(fleet.scenario)
        with ExitStack() as stack:
            self.populations: list[Population | BatchPopulation] = []
            for place, row in enumerate(rows):
                one = self._population(row, place, folder)
                stack.callback(one.close)
                self.populations.append(one)
            self._stack = stack.pop_all()

    def _population(
        self, row: Mapping[str, Any], place: int, folder: Path
    ) -> Population | BatchPopulation:
        if self._load.get("via") == "batch":
            return BatchPopulation(self._fleet, row)
        return Population(self._fleet, row, place, self._sent, folder)

    def warm_up(self) -> None:
        """Make the canaries, and wait until every region that may hold them answers them."""
        if not self._load.get("canary_per_s"):
            return
        deadline_s = time.monotonic() + WARM_TIMEOUT_S
        for population in self.populations:
            if isinstance(population, BatchPopulation):
                continue
            for number in range(canaries(self._load)):
                _answer(population, f"{CANARY}{number}", deadline_s)

    def start(self) -> int:
        """Begin; give the moment."""
        begin_ns = self._fleet.trace.now_ns()
        for population in self.populations:
            population.wiretap.watching = True
            population.start(begin_ns)
        return begin_ns

    def stop(self) -> None:
        """Offer nothing more."""
        for population in self.populations:
            population.stop()

    def flush(self, timeout_s: float) -> int:
        """Empty every outbox; give what was left."""
        return sum(population.flush(timeout_s) for population in self.populations)

    def close(self) -> None:
        """Close every client."""
        self._stack.close()


def _answer(population: Population, name: str, deadline_s: float) -> None:
    """Submit until the record is recorded; a new region may still be starting."""
    while True:
        try:
            population.client.submit(record(name))
        except FractalLBAError:
            if time.monotonic() > deadline_s:
                raise
        else:
            return


def client_rows(scenario: Scenario) -> list[dict[str, Any]]:
    """Give the clients: those of the scenario, or one for each region, shares adding up to 1."""
    codes = list(scenario.regions)
    given = scenario.part("load").get("clients")
    rows: list[dict[str, Any]] = [dict(row) for row in given or ()] or [
        {"name": f"near-{code}", "endpoints": [code, *(c for c in codes if c != code)]}
        for code in codes
    ]
    whole = sum(row.setdefault("share", 1 / len(rows)) for row in rows)
    return [{**row, "share": row["share"] / whole} for row in rows]


def canaries(load: Mapping[str, Any]) -> int:
    """Give how many canaries there are."""
    return int(load.get("canaries", CANARIES))


def canary_keys(scenario: Scenario, tenant: str = TENANT) -> frozenset[str]:
    """Name the canaries as the trace does."""
    load = scenario.part("load")
    return frozenset(
        f"{tenant}/{pcs_id_of(f'{CANARY}{number}')}" for number in range(canaries(load))
    )
