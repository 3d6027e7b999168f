"""The service of names: which region a name leads to, and how late its clients hear of a change.

Answers are those of core/dns_failover.py for what a quorum of checkers holds for down. A change is
seen after its propagation, by a resolver when what it has kept is over; some keep it longer.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fractal_lba_server.core.dns_failover import ANYWHERE, Record, resolve
from fractal_lba_server.drill.times import Time

from ..waiting import NS_PER_S
from .client import Client

if TYPE_CHECKING:
    from .world import World

TTL_S: Final = 60.0
IGNORE_FOR_S: Final = 600.0


class Names:
    """What the name of each client leads to."""

    def __init__(self, world: World) -> None:
        self.world = world
        probe, recovery = world.probe, world.part("settings", "recovery")
        self._quorum = world.parts.quorum(
            [f"c{number:02}" for number in range(int(probe["checkers"]))], int(probe["quorum"])
        )
        self.ttl_ns = int(probe.get("dns_ttl_s", TTL_S) * NS_PER_S)
        self._propagation = Time.of(probe.get("propagation_s", 0))
        self.ignoring_share = float(probe.get("ignore_ttl_share", 0))
        self.ignoring = Time.of(probe.get("ignore_ttl_for_s", IGNORE_FOR_S))
        self._fails_back = recovery.get("fail_back", True)
        self._back_s = [Time.of(recovery[n]) for n in ("verify_s", "fail_back_s") if n in recovery]
        self._automatic = world.part("settings", "people").get("automatic", True)
        self._down: dict[str, None] = {}
        """What names avoid now."""
        self._wanted: dict[str, None] = {}
        """What they are to avoid once somebody has decided and the change has spread."""
        self._standbys = {
            code: False
            for code in world.codes
            if all(one.needs_lease and one.primary != code for _, one in world.placements_of(code))
        }
        """Regions that have not led yet, and whether they were seen to take no records."""

    def _sample_ns(self, time: Time, cause: str) -> int:
        return int(time.sample(self.world.streams.of("names", cause)) * NS_PER_S)

    def lead(self, client: NamedClient) -> str:
        """Give the region that a name leads to now."""
        records = [
            Record(ANYWHERE, code, "readyz", 0, priority)
            for priority, code in enumerate(client.ways)
        ]
        found = resolve(records, client.name, self._down)
        return found if found is not None else client.ways[0]

    def vote(self, checker: str, ready: dict[str, bool], alive: dict[str, bool]) -> None:
        """Take what a checker thinks; a word of the quorum changes names, at once or by hand."""
        now_ns = self.world.agenda.now_ns
        self._quorum.vote(checker, ready, now_ns)
        for code in self.world.codes:
            verdict = self._quorum.verdict(code, now_ns)
            if code in self._standbys and self._is_waiting(code, verdict):
                continue
            if verdict is False and code not in self._wanted:
                self._wanted[code] = None
                self._decide(code)
            elif verdict is True and code in self._wanted and self._fails_back:
                del self._wanted[code]
                back_ns = sum(self._sample_ns(time, "back") for time in self._back_s)
                self.world.agenda.after(back_ns, self._spread, code)

    def _is_waiting(self, code: str, verdict: bool | None) -> bool:
        """Tell whether a standby has not led yet: that it takes no records is no fault of it."""
        if verdict is False:
            self._standbys[code] = True
        elif verdict is True and self._standbys[code]:
            del self._standbys[code]
            return False
        return True

    def _decide(self, code: str) -> None:
        world = self.world
        if self._automatic or world.operator is None:
            world.watch.detected()
            world.watch.declared("checkers")
            self._spread(code)
        else:
            world.operator.page(f"the names of {code}", lambda: self._by_hand(code))

    def _by_hand(self, code: str) -> str:
        if code not in self._wanted:
            return "it is well again"
        self._spread(code)
        return "changed"

    def _spread(self, code: str) -> None:
        wait_ns = self._sample_ns(self._propagation, "propagation")
        self.world.agenda.after(wait_ns, self._publish, code)

    def _publish(self, code: str) -> None:
        """Have names avoid a region, or not any more."""
        clients = [one for one in self.world.load.clients if isinstance(one, NamedClient)]
        before = [self.lead(client) for client in clients]
        if code in self._wanted:
            self._down[code] = None
        else:
            self._down.pop(code, None)
        for client, region in zip(clients, before, strict=True):
            now = self.lead(client)
            if now != region:
                self.world.watch.renamed(client, home=now == client.ways[0])


class NamedClient(Client):
    """A client that knows one name, and goes where the resolver of each call says."""

    def __init__(self, world: World, name: str, *args: Any, **more: Any) -> None:
        super().__init__(world, name, *args, **more)
        self.ways = list(self.regions)
        row = next(row for row in world.part("load")["clients"] if row["name"] == name)
        self.ways = list(row["endpoints"])
        self._resolvers = int(row.get("resolvers", 1))
        phases = world.streams.of("resolver", name, "phase")
        assert world.names is not None
        ttl_ns = world.names.ttl_ns
        self._kept = [(self.ways[0], int(phases.random() * ttl_ns)) for _ in range(self._resolvers)]
        """What each resolver answers, and until when; all of them have asked before the start."""
        self._which = world.streams.of("resolver", name, "which")
        self._ignoring = world.streams.of("resolver", name, "ignoring")

    def place(self) -> int:
        """Choose the resolver of a call: a program asks the one of its own network."""
        return self._which.randrange(self._resolvers) if self._resolvers > 1 else 0

    def target(self, index: int, place: int) -> str:
        """Name the region to which the resolver of a call leads now."""
        names, now_ns = self.world.names, self.world.agenda.now_ns
        assert names is not None
        region, until_ns = self._kept[place]
        if until_ns <= now_ns:
            ttl_ns = names.ttl_ns
            if names.ignoring_share and self._ignoring.random() < names.ignoring_share:
                ttl_ns = int(names.ignoring.sample(self._ignoring) * NS_PER_S)
            region = names.lead(self)
            self._kept[place] = region, now_ns + ttl_ns
        return region
