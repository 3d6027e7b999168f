"""Look on while a drill runs: how far peers are behind, and when an outage went on a phase."""

from __future__ import annotations

import http.client
import json
import threading
from typing import Any, Final

from fractal_lba.hooks import FailoverEvent

from .batches import BatchPopulation
from .fleet import Fleet
from .load import Load, Population
from .records import token_of

LOOK_S: Final = 0.02
"""How often a region is asked how far it is replicated; a lag is known to this."""

ASK_TIMEOUT_S: Final = 1.0


class LagWatch:
    """Measures from outside when what was durable is replicated: the region's own words, timed."""

    def __init__(self, fleet: Fleet) -> None:
        self._fleet = fleet
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=(code,), name=f"drill-lag-{code}")
            for code in (fleet.regions if len(fleet.regions) > 1 else ())
        ]

    def start(self) -> None:
        """Begin to ask every region."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _watch(self, code: str) -> None:
        waiting: dict[str, list[tuple[int, int]]] = {}
        seen: dict[str, int] = {}
        told: dict[str, tuple[int, int]] = {}
        while not self._stop.wait(LOOK_S):
            status = self._ask(code)
            now_ns = self._fleet.trace.now_ns()
            for stream in (status or {}).get("streams", ()):
                queue = waiting.setdefault(stream["placement"], [])
                self._tell(code, stream, told)
                if seen.get(stream["placement"], 0) < stream["durable"]:
                    seen[stream["placement"]] = stream["durable"]
                    queue.append((stream["durable"], now_ns))
                while queue and queue[0][0] <= stream["replicated"]:
                    _, since_ns = queue.pop(0)
                    self._fleet.trace.write(
                        "lag", at_ns=now_ns, region=code, peer="any",
                        placement=stream["placement"], age_ms=round((now_ns - since_ns) / 1e6, 3),
                    )  # fmt: skip

    def _tell(self, code: str, stream: dict[str, Any], told: dict[str, tuple[int, int]]) -> None:
        mark = (stream["region_epoch"], stream["replicated"])
        if told.get(stream["placement"]) != mark:
            told[stream["placement"]] = mark
            self._fleet.trace.write(
                "watermark", region=code, placement=stream["placement"], region_epoch=mark[0],
                seq=mark[1],
            )  # fmt: skip

    def _ask(self, code: str) -> dict[str, Any] | None:
        tenant = self._fleet.tenants[0]["id"]
        headers = {"Authorization": f"Bearer {token_of(tenant, self._fleet.seed)}"}
        return get_json(self._fleet.regions[code].port, "/v1/region/status", headers)


def get_json(port: int, path: str, headers: dict[str, str]) -> dict[str, Any] | None:
    """Ask a listener on this machine; None if it does not answer with 200 and an object."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=ASK_TIMEOUT_S)
    try:
        connection.request("GET", path, headers=headers)
        answer = connection.getresponse()
        body = answer.read()
        value = json.loads(body) if answer.status == 200 else None
        return value if isinstance(value, dict) else None
    except (OSError, http.client.HTTPException, ValueError):
        return None
    finally:
        connection.close()


class PhaseWatch:
    """Writes when the clients found an outage, decided, and went back."""

    def __init__(self, fleet: Fleet, load: Load) -> None:
        self._trace = fleet.trace
        self._lock = threading.Lock()
        self._incident: str | None = None
        self._healed: str | None = None
        self._promoting: str | None = None
        self._homes: dict[str, str] = {}
        self._rerouting: dict[str, str] = {}
        for population in load.populations:
            self._follow(population)

    def _follow(self, population: Population | BatchPopulation) -> None:
        self._homes[population.name] = population.home_url

        def moved(event: FailoverEvent) -> None:
            self._moved(population.name, event)

        population.on_failover = moved
        population.wiretap.on_recorded = lambda: self._recorded(population.name)

    def begin(self, incident: str) -> None:
        """Have the next move of a client belong to a fault."""
        with self._lock:
            self._incident = self._promoting = incident

    def healed(self, incident: str) -> None:
        """Have the next move home belong to the mending of a fault."""
        with self._lock:
            self._incident, self._healed = None, incident

    def _moved(self, client: str, event: FailoverEvent) -> None:
        home = event.to_url == self._homes[client]
        with self._lock:
            incident = self._healed if home else self._incident
            if incident is None:
                return
            if home:
                self._healed = None
            else:
                self._incident = None
                self._rerouting[client] = incident
        if home:
            self._trace.write("phase", incident=incident, phase="fail_back")
            return
        self._trace.write("phase", incident=incident, phase="detect")
        self._trace.write("declared", incident=incident, by=client)
        self._trace.write("phase", incident=incident, phase="decide")

    def role(self, before: str | None, now: str) -> None:
        """Note where a region is on its way to writing."""
        with self._lock:
            incident = self._promoting
            if incident is None or before is None:
                return
            if now == "writer":
                self._promoting = None
        if now.startswith("promoting") and not before.startswith("promoting"):
            for phase in ("detect", "decide"):
                self._trace.write("phase", incident=incident, phase=phase)
            self._trace.write("declared", incident=incident, by="arbiter")
        elif before == "promoting fence":
            self._trace.write("phase", incident=incident, phase="fence")
        if now == "writer":
            self._trace.write("phase", incident=incident, phase="promote")

    def _recorded(self, client: str) -> None:
        """Note the first record that another region took."""
        with self._lock:
            incident = self._rerouting.pop(client, None)
        if incident is not None:
            self._trace.write("phase", incident=incident, phase="reroute")


class RoleWatch:
    """Writes the steps of a promotion as the regions tell them on their admin listeners."""

    def __init__(self, fleet: Fleet, phases: PhaseWatch) -> None:
        self._fleet = fleet
        self._phases = phases
        self._stop = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, args=(code,), name=f"drill-roles-{code}")
            for code in (fleet.regions if fleet.has_arbiter else ())
        ]

    def start(self) -> None:
        """Begin to ask, where there are roles at all."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Ask no more."""
        self._stop.set()
        for thread in self._threads:
            if thread.is_alive():
                thread.join()

    def _watch(self, code: str) -> None:
        seen: dict[str, str] = {}
        while not self._stop.wait(LOOK_S):
            status = get_json(self._fleet.regions[code].admin_port, "/admin/region/status", {})
            for role in (status or {}).get("placements", ()):
                place, now = role["placement"], f"{role['role']} {role['step']}".strip()
                before = seen.get(place)
                if before != now:
                    seen[place] = now
                    self._fleet.trace.write("note", said=f"{code} {place}: {now}")
                    self._phases.role(before, now)
