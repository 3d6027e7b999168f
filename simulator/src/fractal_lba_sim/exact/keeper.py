"""Run the roles of one process: leases, promotions, hand-overs (core/roles.py).

As in the server, a question to the arbiter or to a peer is one at a time, and of those that wait
the newest replaces the older ones.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fractal_lba_server.core import lease, roles
from fractal_lba_server.core.ingest_events import LeaseChanged
from fractal_lba_server.core.lease import Mark
from fractal_lba_server.core.roles import FOR_EVER_NS, RefusedError, Role
from fractal_lba_server.drill.times import Time

from ..waiting import NS_PER_MS, NS_PER_S
from .net import Failure
from .network import ARBITER

if TYPE_CHECKING:
    from .node import Node

HASTY_NS: Final = 200 * NS_PER_MS
"""How often a region that is taking over goes on."""

CALL_NS: Final = NS_PER_S
"""How long one question may take."""


class Told(NamedTuple):
    """What a peer answers to a question about roles."""

    process: str
    said: Any


class _Caller:
    """Carries out the newest work of each kind, one at a time."""

    def __init__(self) -> None:
        self._waiting: dict[str, Callable[[Callable[[], None]], None]] = {}
        self._busy = False

    def put(self, kind: str, work: Callable[[Callable[[], None]], None]) -> None:
        self._waiting[kind] = work
        self._next()

    def _next(self) -> None:
        if self._busy or not self._waiting:
            return
        work = self._waiting.pop(next(iter(self._waiting)))
        self._busy = True
        work(self._ended)

    def _ended(self) -> None:
        self._busy = False
        self._next()


class Keeper:
    """Owns the machines of one process, one for each placement with a single writer."""

    def __init__(self, node: Node) -> None:
        self.node = node
        world = node.world
        self.has_arbiter = world.arbiter is not None
        self.roles: dict[str, Role] = {
            placement.name: world.parts.role(
                placement, node.code, kept=node.disk.kept.get(f"role/{placement.name}"),
                terms=world.terms, has_arbiter=self.has_arbiter, rank=world.rank(node.code),
            )
            for placement in world.roles_of(node.code)
        }  # fmt: skip
        self._callers: dict[str, _Caller] = {}
        self._ticks: dict[str, Any] = {}
        self._said: dict[str, roles.Say] = {}
        self._ends: dict[str, Any] = {}
        self._shown: dict[str, str] = {}
        self._prepared: set[str] = set()
        """Placements that this process is promoted in, and has prepared for."""

    def start(self) -> None:
        """Say that nobody writes yet, and begin to ask."""
        for placement, role in self.roles.items():
            self._carry(placement, role.start())
            self._look(placement)
            self._tick(placement)

    def fenced(self, placement: str, region_epoch: int) -> None:
        """Note that a peer refused our batch, because it knows this later epoch."""
        if placement in self.roles:
            self.feed(placement, roles.LaterEpoch(region_epoch))

    def operate(self, placement: str, event: object) -> str | None:
        """Do what an operator wants; say why not."""
        try:
            self._tick(placement)
            self.feed(placement, event)
        except RefusedError as error:
            return str(error)
        return None

    def clock_was_set(self) -> None:
        """Tell the ingest machine, which reads wall time, the same leases in the new time."""
        for placement, said in self._said.items():
            if 0 < said.until_ns < FOR_EVER_NS:
                self._say(placement, said)

    # --- time

    def _tick(self, placement: str) -> None:
        node, role = self.node, self.roles[placement]
        waiting = self._ticks.get(placement)
        if waiting is not None:
            waiting.cancel()
        prepare_ns = self._prepare_ns(placement, role)
        if prepare_ns:
            wait_ns = node.clock.true_ns(prepare_ns)
            self._ticks[placement] = node.life.after(wait_ns, self._tick, placement)
            return
        is_hasty = role.role in {roles.PROMOTING, roles.DRAINING}
        wait_ns = HASTY_NS if is_hasty else node.world.terms.renew_ms * NS_PER_MS
        self._ticks[placement] = node.life.after(node.clock.true_ns(wait_ns), self._tick, placement)
        self.feed(placement, roles.Tick(self._view(placement, role)))

    def _prepare_ns(self, placement: str, role: Role) -> int:
        """Give, once a promotion, what it takes beside the steps of the protocol."""
        if role.role != roles.PROMOTING:
            self._prepared.discard(placement)
            return 0
        world = self.node.world
        value = world.part("settings", "recovery").get("promote_s", 0)
        if not value or placement in self._prepared:
            return 0
        self._prepared.add(placement)
        chance = world.streams.of("promote", placement, self.node.code)
        return int(Time.of(value).sample(chance) * NS_PER_S)

    def _view(self, placement: str, role: Role) -> roles.View:
        node, codes = self.node, [self.node.code, *role.peers]
        ways = node.outbound.get(placement, {})
        stream = node.stream(placement)
        own = 0 if stream is None else stream.durable_seq
        stored = {
            code: own if code == node.code else node.inbound[code, placement].core.mark.seq
            for code in codes
        }
        return roles.View(
            merged={code: node.index.applied_seq(code, placement) for code in codes},
            stored=stored,
            acked={code: ways[code].core.acked.seq for code in role.peers if code in ways},
            in_flight=node.in_flight(),
        )

    def feed(self, placement: str, event: object) -> None:
        """Give a role an event and carry out what it says."""
        node = self.node
        if node.life.ended:
            return
        node.world.steps += 1
        now_ns = node.clock.steady_ns()
        self._carry(placement, self.roles[placement].on_event(event, now_ns))
        self._look(placement)

    def _look(self, placement: str) -> None:
        role = self.roles[placement]
        now = f"{role.role} {role.kept.step}".strip()
        before = self._shown.get(placement)
        if before != now:
            self._shown[placement] = now
            self.node.world.watch.role(self.node.code, placement, before, now)

    # --- effects

    def _carry(self, placement: str, effects: list[roles.Effect]) -> None:
        node = self.node
        for effect in effects:
            match effect:
                case roles.Persist(kept):
                    node.disk.kept[f"role/{placement}"] = kept
                case roles.Say():
                    self._said[placement] = effect
                    self._say(placement, effect)
                case roles.Fence(codes, region_epoch):
                    for code in codes:
                        node.inbound[code, placement].fence(region_epoch)
                case roles.Adopt(region_epoch):
                    for way in node.outbound.get(placement, {}).values():
                        way.adopt(region_epoch)
                case _:
                    self._call(placement, effect)

    def _say(self, placement: str, said: roles.Say) -> None:
        node, until_ns = self.node, said.until_ns
        running = self._ends.pop(placement, None)
        if running is not None:
            running.cancel()
        if 0 < until_ns < FOR_EVER_NS:
            left_ns = until_ns - node.clock.steady_ns()
            until_ns = node.clock.wall_ns() + left_ns
            wait_ns = node.clock.true_ns(left_ns)
            self._ends[placement] = node.life.after(wait_ns, self._over, placement)
        hint = None if said.leader is None else node.world.url_of(said.leader)
        node.feed(LeaseChanged(placement, until_ns, said.region_epoch, hint, said.taking_over))

    def _over(self, placement: str) -> None:
        """Tell the ingest machine that a lease is over."""
        self._said[placement] = self._said[placement]._replace(until_ns=0)
        self._say(placement, self._said[placement])

    def _call(self, placement: str, effect: roles.Effect) -> None:
        match effect:
            case roles.AskArbiter(number, region_epoch):
                mark = Mark(self.node.process, number)
                serve = partial(_ask_arbiter, placement, self.node.code, region_epoch, mark)
                heard = partial(self._heard_arbiter, placement, number)
                self._put(ARBITER, f"ask {placement}", serve, heard)
            case roles.AskPeer(peer, region_epoch, leader):
                serve = partial(_ask_peer, placement, region_epoch, leader)
                self._put(peer, f"ask {placement}", serve, partial(self._heard_peer, placement))
            case roles.GiveTo(region, region_epoch, number):
                self._give(placement, region, region_epoch, number)
            case roles.Fetch(peer, region):
                self._fetch(placement, peer, region)

    def _put(
        self, target: str, kind: str, serve: Callable[..., Any], heard: Callable[[Any], None]
    ) -> None:
        node = self.node

        def work(ended: Callable[[], None]) -> None:
            def done(answer: Any) -> None:
                heard(answer)
                ended()

            node.world.net.ask(
                node.code, target, 100, serve, done, timeout_ns=CALL_NS, life=node.life
            )

        self._callers.setdefault(target, _Caller()).put(kind, work)

    def _heard_arbiter(self, placement: str, number: int, answer: Any) -> None:
        if not isinstance(answer, Failure):
            self.feed(placement, roles.ArbiterSaid(number, answer))

    def _heard_peer(self, placement: str, answer: Any) -> None:
        if isinstance(answer, roles.PeerSaid):
            self.feed(placement, answer)

    def _give(self, placement: str, region: str, region_epoch: int, number: int) -> None:
        node = self.node
        if not self.has_arbiter:
            serve: Callable[..., Any] = partial(_take, placement, region_epoch)
            self._put(region, f"give {placement}", serve, partial(self._heard_take, placement))
            return
        mark = Mark(node.process, number)
        serve = partial(_hand_over, placement, node.code, region_epoch, mark, region)
        heard = partial(self._heard_hand_over, placement, number)
        self._put(ARBITER, f"give {placement}", serve, heard)

    def _heard_take(self, placement: str, answer: Any) -> None:
        if isinstance(answer, Failure):
            self.feed(placement, roles.HandOverFailed())

    def _heard_hand_over(self, placement: str, number: int, answer: Any) -> None:
        if isinstance(answer, lease.Promoted):
            said = lease.NotLeader(answer.region_epoch, None)
            self.feed(placement, roles.ArbiterSaid(number, said))
        else:
            self.feed(placement, roles.HandOverFailed())

    def _fetch(self, placement: str, peer: str, region: str) -> None:
        node = self.node

        def work(ended: Callable[[], None]) -> None:
            def done(reason: str | None) -> None:
                if reason is not None:
                    node.world.trace.note(f"{node.code} cannot fetch {region} of {peer}: {reason}")
                ended()

            node.inbound[region, placement].fetch(peer, done)

        self._callers.setdefault(peer, _Caller()).put(f"fetch {placement}", work)


def _ask_arbiter(
    placement: str, region: str, region_epoch: int, mark: Mark, arbiter: Any,
    reply: Callable[[Any, int], None],
) -> None:  # fmt: skip
    reply(arbiter.ask(placement, region, region_epoch, mark), 100)


def _hand_over(
    placement: str, region: str, region_epoch: int, mark: Mark, to: str, arbiter: Any,
    reply: Callable[[Any, int], None],
) -> None:  # fmt: skip
    reply(arbiter.hand_over(placement, region, region_epoch, mark, to), 100)


def _ask_peer(
    placement: str, region_epoch: int, leader: str | None, node: Node,
    reply: Callable[[Any, int], None],
) -> None:  # fmt: skip
    keeper = node.keeper
    if keeper is None or placement not in keeper.roles:
        reply(Failure("unavailable", sent=True), 0)
        return
    keeper.feed(placement, roles.LaterEpoch(region_epoch, leader))
    role = keeper.roles[placement]
    stored = dict(keeper._view(placement, role).stored)  # noqa: SLF001 - one of its own kind
    said = roles.PeerSaid(node.code, role.role, role.kept.region_epoch, role.follows, stored)
    reply(said, 200)


def _take(placement: str, region_epoch: int, node: Node, reply: Callable[[Any, int], None]) -> None:
    keeper = node.keeper
    refused = "no roles here"
    if keeper is not None:
        event = roles.Promote(region_epoch, old_is_stopped=False)
        refused = keeper.operate(placement, event) or ""
    reply(Failure(refused, sent=True) if refused else True, 100)
