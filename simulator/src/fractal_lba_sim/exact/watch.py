"""Look on: how far peers are behind, and when an outage went on a phase.

It sees what the live drill sees: what a region says of its streams, which endpoint a client uses,
how roles change. It writes nothing that a person beside the regions could not have seen.
"""

from __future__ import annotations

from collections import defaultdict, deque
from typing import TYPE_CHECKING

from ..waiting import NS_PER_MS

if TYPE_CHECKING:
    from .client import Client
    from .node import Node
    from .world import World


class Watch:
    """The one who looks on."""

    def __init__(self, world: World) -> None:
        self.world = world
        self._durable: dict[tuple[str, str], deque[tuple[int, int]]] = defaultdict(deque)
        self._told: dict[tuple[str, str], tuple[int, int]] = {}
        self._incident: str | None = None
        self._healed: str | None = None
        self._promoting: str | None = None
        self._rerouting: dict[str, str] = {}
        self.bodies: dict[tuple[str, str], list[bytes]] = {}
        """What was shipped, kept where a tenant's bytes are searched for."""
        self._keeps_bodies = any("only_in" in row for row in world.tenants)

    # --- lags

    def durable(self, node: Node, placement: str, seq: int) -> None:
        """Note how far a log is durable."""
        if len(self.world.placements[placement].regions) > 1:
            self._durable[node.code, placement].append((seq, self.world.agenda.now_ns))

    def looked(self, node: Node) -> None:
        """Look at what a region says of its streams."""
        core = node.core
        if core is None:
            return
        now_ns = self.world.agenda.now_ns
        for name, stream in core.streams.items():
            replicated = stream.levels.replicated
            mark = (stream.origin.region_epoch, replicated)
            place = (node.code, name)
            if self._told.get(place) == mark:
                continue
            self._told[place] = mark
            self.world.trace.lines.append({
                "event": "watermark", "at_ns": now_ns, "region": node.code, "placement": name,
                "region_epoch": mark[0], "seq": mark[1],
            })  # fmt: skip
            self._lagged(place, replicated, now_ns)

    def _lagged(self, place: tuple[str, str], replicated: int, now_ns: int) -> None:
        queue = self._durable.get(place)
        while queue and queue[0][0] <= replicated:
            _, since_ns = queue.popleft()
            self.world.trace.lines.append({
                "event": "lag", "at_ns": now_ns, "region": place[0], "peer": "any",
                "placement": place[1], "age_ms": round((now_ns - since_ns) / NS_PER_MS, 3),
            })  # fmt: skip

    def shipped(self, region: str, peer: str, body: bytes) -> None:
        """Keep what is shipped, where it is searched."""
        if self._keeps_bodies:
            self.bodies.setdefault((region, peer), []).append(body)

    def ended(self, code: str) -> None:
        """Forget what a process that has ended had durable and nobody else had."""
        for place in [one for one in self._durable if one[0] == code]:
            self._durable[place].clear()

    # --- phases

    def begin(self, incident: str) -> None:
        """Have the next move of a client belong to a fault."""
        self._incident = self._promoting = incident

    def healed(self, incident: str) -> None:
        """Have the next move home belong to the mending of a fault."""
        self._incident, self._healed = None, incident

    def moved(self, client: Client, to: str) -> None:
        """Note that a client uses another endpoint."""
        home = to == client.regions[client.fleet.home]
        incident = self._healed if home else self._incident
        if incident is None:
            return
        if home:
            self._healed = None
            self._phase(incident, "fail_back")
            return
        self._incident = None
        self._rerouting[client.name] = incident
        self._phase(incident, "detect")
        self._declare(incident, client.name)

    def recorded(self, client: Client, region: str) -> None:
        """Note the first record that another region took."""
        incident = self._rerouting.pop(client.name, None) if self._rerouting else None
        if incident is not None:
            self._phase(incident, "reroute")

    def role(self, code: str, placement: str, before: str | None, now: str) -> None:
        """Note where a region is on its way to writing."""
        self.world.trace.note(f"{code} {placement}: {now}")
        incident = self._promoting
        if incident is None or before is None:
            return
        if now.startswith("promoting") and not before.startswith("promoting"):
            self.detected()
            self.declared("arbiter")
        elif before == "promoting fence":
            self._phase(incident, "fence")
        if now == "writer":
            self._promoting = None
            self._phase(incident, "promote")

    def detected(self) -> None:
        """Note that a quorum of checkers has found that something is wrong."""
        if self._promoting is not None:
            self._phase(self._promoting, "detect")

    def declared(self, by: str) -> None:
        """Note that somebody has decided to go elsewhere."""
        if self._promoting is not None:
            self._declare(self._promoting, by)

    def _declare(self, incident: str, by: str) -> None:
        self.world.trace.write("declared", incident=incident, by=by)
        self._phase(incident, "decide")

    def renamed(self, client: Client, *, home: bool) -> None:
        """Note that a name leads a client elsewhere, or home again."""
        incident = self._healed or self._promoting if home else self._promoting
        if incident is None:
            return
        if home:
            self._phase(incident, "fail_back")
        else:
            self._rerouting[client.name] = incident

    def _phase(self, incident: str, phase: str) -> None:
        self.world.trace.write("phase", incident=incident, phase=phase)
