"""Offer load as users do: open loop, each call due at a moment whether or not others returned."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Final

from fractal_lba.endpoints import FailoverPolicy
from fractal_lba.retry import RetryPolicy

from ..waiting import NS_PER_MS, NS_PER_S
from .attempts import Rules
from .client import Client
from .records import Minted, mint

if TYPE_CHECKING:
    from .world import World

ATTEMPT_TIMEOUT_MS: Final = 1_000
PROBE: Final = {"interval_s": 1.0, "timeout_s": 1.0, "failures": 3, "successes": 2}
CANARIES: Final = 20
CANARY: Final = "canary-"
CHOSEN_OF: Final = 2_000
"""Repeats and reads are of one of so many records that were recorded last."""

WARM_NS: Final = 60 * NS_PER_S
KINDS: Final = ("repeat", "rival", "read")


class Population:
    """The schedule of one client."""

    def __init__(self, load: Load, client: Client, place: int, rate_per_s: float) -> None:
        self.client = client
        self._load = load
        self._place = place
        self._rate_per_s = rate_per_s
        self._canary_share = load.canary_share(rate_per_s)
        streams = load.world.streams
        self._arrivals = streams.of("load", client.name, "arrivals")
        self._mix = streams.of("load", client.name, "mix")
        self._choice = streams.of("load", client.name, "choice")
        self._number = self._rivals = 0
        self._due_ns = 0.0
        self._stopped = False

    def start(self, begin_ns: int) -> None:
        """Begin at a moment."""
        self._due_ns = float(begin_ns)
        self._next()

    def stop(self) -> None:
        """Offer nothing more."""
        self._stopped = True

    def _next(self) -> None:
        step_s = 1 / self._rate_per_s
        if self._load.poisson:
            step_s = self._arrivals.expovariate(self._rate_per_s)
        self._due_ns += step_s * NS_PER_S
        self._load.world.agenda.at(int(self._due_ns), self._due)

    def _due(self) -> None:
        if self._stopped:
            return
        due_ns = int(self._due_ns)
        self._offer(self._kind(), due_ns)
        self._next()

    def _kind(self) -> str:
        load = self._load
        if self._canary_share and self._mix.random() < self._canary_share:
            return "canary"
        if not load.has_mix:
            return "new"
        u = self._mix.random()
        for name in KINDS:
            share = load.shares[name]
            if u < share:
                return name
            u -= share
        return "new"

    def _offer(self, kind: str, due_ns: int) -> None:
        load, client = self._load, self.client
        if kind in ("repeat", "read"):
            earlier = load.choose(client.tenant, self._choice)
            if earlier is None:
                kind = "new"
            elif kind == "read":
                client.read(earlier)
                return
            else:
                client.call(earlier, due_ns)
                return
        variant = 0
        if kind == "rival":
            self._rivals += 1
            name, variant = f"rival-{self._rivals}", self._place
        elif kind == "canary":
            name = f"{CANARY}{self._choice.randrange(load.canaries)}"
        else:
            self._number += 1
            name = f"{client.name}-{self._number}"
        generation, forged = load.world.key_in_use(client.name)
        minted = mint(client.tenant, name, variant, generation, forged)
        client.call(minted, due_ns, generation=generation, canary=kind == "canary")


class Load:
    """All clients of a scenario."""

    def __init__(self, world: World) -> None:
        self.world = world
        load = self._load = world.part("load")
        scale = world.part("engines", "exact").get("rate_scale", 1.0)
        rate_per_s = load["rate_per_s"] * scale
        self.poisson = load.get("arrivals") == "poisson"
        self.shares = {name: load.get(f"{name}_share", 0.0) for name in KINDS}
        self.has_mix = any(self.shares.values())
        self.canaries = int(load.get("canaries", CANARIES))
        self._canary_per_s = float(load.get("canary_per_s", 0))
        self._recorded: dict[str, list[Minted]] = {}
        self.populations = [
            Population(self, self._client(row), place, row["share"] * rate_per_s)
            for place, row in enumerate(client_rows(world))
        ]

    def _client(self, row: Mapping[str, Any]) -> Client:
        world, load = self.world, self._load
        probe = PROBE | dict(world.part("settings", "probe"))
        attempt_ms = load.get("attempt_timeout_ms", ATTEMPT_TIMEOUT_MS)
        failover = row.get("failover", "outbox")
        rules = Rules(
            attempt_ns=attempt_ms * NS_PER_MS,
            level=load.get("outbox_until", "durable"),
            has_outbox=failover != "none" and load.get("via") != "batch",
            failover=FailoverPolicy(
                down_after=int(probe["failures"]),
                up_after=int(probe["successes"]),
                probe_interval_ms=max(1, round(probe["interval_s"] * 1_000)),
                probe_timeout_ms=max(1, round(probe["timeout_s"] * 1_000)),
                failback_after_ms=0,
            ),
            retry=RetryPolicy.default if failover != "none" else RetryPolicy.none,
        )
        regions = list(row["endpoints"])
        if failover in ("dns", "none"):
            regions = regions[:1]
        tenant = row.get("tenant", world.tenants[0]["id"])
        made: Client = world.client_class(row)(world, row["name"], tenant, regions, rules)
        return made

    @property
    def clients(self) -> list[Client]:
        """Give the clients."""
        return [population.client for population in self.populations]

    def canary_share(self, rate_per_s: float) -> float:
        """Give the share of a population's calls that ask for a canary."""
        return self._canary_per_s / rate_per_s / max(1, len(self.world.regions))

    def recorded(self, tenant: str, minted: Minted) -> None:
        """Note a record that was recorded, for those who repeat and read."""
        if not self.has_mix:
            return
        rows = self._recorded.setdefault(tenant, [])
        rows.append(minted)
        if len(rows) > 2 * CHOSEN_OF:
            del rows[:CHOSEN_OF]

    def choose(self, tenant: str, chance: Any) -> Minted | None:
        """Give a record that was recorded lately."""
        rows = self._recorded.get(tenant)
        if not rows:
            return None
        found: Minted = rows[chance.randrange(max(0, len(rows) - CHOSEN_OF), len(rows))]
        return found

    def warm_up(self, done: Callable[[], None]) -> None:
        """Make the canaries: every client submits each until it is recorded."""
        if not self._canary_per_s:
            done()
            return
        _WarmUp(self, self.canaries, done).begin()

    def start(self, begin_ns: int) -> None:
        """Begin."""
        for population in self.populations:
            population.client.watching = True
            population.start(begin_ns)

    def stop(self) -> None:
        """Offer nothing more."""
        for population in self.populations:
            population.stop()

    def flush(self, until_ns: int, done: Callable[[], None]) -> None:
        """Empty every outbox, until a moment at the longest."""
        left = len(self.populations)

        def one() -> None:
            nonlocal left
            left -= 1
            if not left:
                done()

        for client in self.clients:
            client.flush(until_ns, one)


class _WarmUp:
    """Has one client after the other submit every canary, until each was answered."""

    def __init__(self, load: Load, canaries: int, done: Callable[[], None]) -> None:
        self._load = load
        self._canaries = canaries
        self._done = done
        self._clients = list(load.clients)
        self._left: dict[str, None] = {}
        self._limit: Any = None

    def begin(self) -> None:
        world = self._load.world
        world.on_call = self._called
        self._limit = world.agenda.after(WARM_NS, self._too_late)
        self._next()

    def _next(self) -> None:
        world = self._load.world
        if not self._clients:
            world.on_call = None
            self._limit.cancel()
            self._done()
            return
        client = self._clients.pop(0)
        for number in range(self._canaries):
            minted = mint(client.tenant, f"{CANARY}{number}")
            self._left[minted.name] = None
            world.agenda.after(number * NS_PER_MS, client.call, minted, world.agenda.now_ns)

    def _called(self, client: str, key: str) -> None:
        self._left.pop(key, None)
        if not self._left:
            self._load.world.agenda.after(NS_PER_MS, self._next)

    def _too_late(self) -> None:
        self._load.world.trace.error(f"{len(self._left)} canaries were not recorded")
        self._load.world.on_call = None
        self._done()


def client_rows(world: World) -> list[dict[str, Any]]:
    """Give the clients: those of the scenario, or one for each region, shares adding up to 1."""
    codes = list(world.regions)
    given = world.part("load").get("clients")
    rows: list[dict[str, Any]] = [dict(row) for row in given or ()] or [
        {"name": f"near-{code}", "endpoints": [code, *(c for c in codes if c != code)]}
        for code in codes
    ]
    whole = sum(row.setdefault("share", 1 / len(rows)) for row in rows)
    return [{**row, "share": row["share"] / whole} for row in rows]
