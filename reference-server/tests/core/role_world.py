"""A small world for core/roles.py and core/lease.py: regions, an arbiter, clocks, a bad network.

Regions tick, write, ship, crash and come back; messages are late, lost or overtaken; operators
promote, also twice. The judge looks at nothing but acknowledgements: no moment with two writers,
no epoch with two writers, none after a later one, and whoever begins to write holds every frame
that was acknowledged as replicated.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from fractal_lba_server.core import lease, roles
from fractal_lba_server.core.lease import Lease, Mark, Row, Terms
from fractal_lba_server.core.regions import WARM_STANDBY, Placement
from fractal_lba_server.core.roles import Kept, Role

MS = 1_000_000
TERMS = Terms()
DRIFT = TERMS.max_drift_ms / TERMS.ttl_ms * 0.9
"""How far a clock's rate is off at most: inside the bound that the terms allow."""


class JudgedError(AssertionError):
    """The judge has seen a promise broken."""


@dataclass
class Rules:
    """What a wrong design changes."""

    role: type[Role] = Role
    holder_terms: Terms = TERMS
    arbiter_terms: Terms = TERMS
    persist_role: Callable[[Kept, Kept | None], bool] = lambda now, before: True
    persist_lease: bool = True
    promote: Callable[..., lease.Decision] = lease.promote
    ask: Callable[..., lease.Decision] = lease.ask
    release: Callable[..., Row] = lease.release
    say: Callable[[roles.Say], roles.Say] = lambda said: said
    fences: bool = True


@dataclass
class Region:
    name: str
    rate: float
    offset_ms: float
    kept: Kept | None = None
    epoch_sent: int = 0
    fences: dict[str, int] = field(default_factory=dict)
    stream: int = 0
    mirrors: dict[str, int] = field(default_factory=dict)
    acked: dict[str, int] = field(default_factory=dict)
    replicated: int = 0
    role: Role | None = None
    until_ns: int = 0
    said_epoch: int = 0
    process: str = ""

    def now_ns(self, true_ms: float) -> int:
        return int((self.offset_ms + true_ms * self.rate) * MS)


class World:
    def __init__(
        self, rng: random.Random, rules: Rules, *, count: int = 2, copies: int = 2,
        has_arbiter: bool = True,
    ) -> None:  # fmt: skip
        names = ("eu1", "us1", "ap1")[:count]
        self.rng, self.rules, self.has_arbiter = rng, rules, has_arbiter
        self.placement = Placement("open", names, WARM_STANDBY, copies, names[0])
        self.true_ms = 0.0
        rates = [1 - DRIFT, 1.0, 1 + DRIFT]
        self.regions = {
            name: Region(
                name, rng.choice(rates), rng.uniform(0, 1e9), mirrors=dict.fromkeys(names, 0)
            )
            for name in names
        }  # fmt: skip
        self.arbiter_rate, self.arbiter_offset = rng.choice(rates), rng.uniform(0, 1e9)
        self.lease_kept: Lease | None = None
        self.row: Row | None = None
        self.messages: list[tuple[float, str, str, Any]] = []
        self.cut: set[frozenset[str]] = set()
        self.paused: set[str] = set()
        self.blessed: set[str] = set()
        self.shipping = 0.5
        self.next_tick = dict.fromkeys(names, 0.0)
        self.processes = 0
        self.last_epoch = 0
        self.epoch_of: dict[int, str] = {}
        self.safe = dict.fromkeys(names, 0)
        self.acks = 0
        self.switches: list[str] = []
        self.start_arbiter()
        for name in names:
            self.start(name)

    # --- the judge

    def judge(self) -> None:
        writers = [region.name for region in self.regions.values() if self.may_write(region)]
        if len(writers) > 1:
            raise JudgedError(f"two writers: {writers}")

    def may_write(self, region: Region) -> bool:
        return region.role is not None and region.now_ns(self.true_ms) < region.until_ns

    def judge_ack(self, region: Region) -> None:
        self.acks += 1
        epoch = region.said_epoch
        if self.epoch_of.setdefault(epoch, region.name) != region.name:
            raise JudgedError(f"two writers of epoch {epoch}")
        if epoch < self.last_epoch and region.name not in self.blessed:
            # Without an arbiter an operator may promote a region that has not heard of the last
            # epoch, and takes the loss of what only that one's writer had.
            raise JudgedError(f"acknowledged at {epoch} after {self.last_epoch}")
        if epoch > self.last_epoch:
            self.blessed.clear()
        if epoch != self.last_epoch:
            self.switches.append(region.name)
            for name, seq in self.safe.items():
                if name != region.name and region.mirrors[name] < seq:
                    raise JudgedError(f"{region.name} serves without {name} up to {seq}")
        self.last_epoch = epoch

    # --- processes

    def start(self, name: str) -> None:
        region = self.regions[name]
        self.processes += 1
        region.process = f"{name}-{self.processes}"
        region.until_ns = region.said_epoch = 0
        region.role = self.rules.role(
            self.placement, name, kept=region.kept, terms=self.rules.holder_terms,
            has_arbiter=self.has_arbiter, rank=self.placement.regions.index(name),
        )  # fmt: skip
        self.carry(region, region.role.start())

    def crash(self, name: str) -> None:
        self.regions[name].role = None

    def arbiter_ns(self) -> int:
        return int((self.arbiter_offset + self.true_ms * self.arbiter_rate) * MS)

    def start_arbiter(self) -> None:
        if self.lease_kept is None:
            primary = self.placement.regions[0]
            self.row = lease.founded("open", primary, self.arbiter_ns(), self.rules.arbiter_terms)
            self.lease_kept = self.row.lease
        else:
            terms = self.rules.arbiter_terms
            self.row = lease.restarted(self.lease_kept, self.arbiter_ns(), terms)

    # --- effects

    def carry(self, region: Region, effects: list[roles.Effect]) -> None:
        for effect in effects:
            match effect:
                case roles.Persist(kept):
                    if self.rules.persist_role(kept, region.kept):
                        region.kept = kept
                case roles.Say():
                    said = self.rules.say(effect)
                    region.until_ns, region.said_epoch = said.until_ns, said.region_epoch
                    self.judge()
                case roles.Fence(names, epoch):
                    for name in names if self.rules.fences else ():
                        region.fences[name] = max(region.fences.get(name, 0), epoch)
                case roles.Fetch(peer, of):
                    other = self.regions[peer]
                    if other.role is not None and frozenset({region.name, peer}) not in self.cut:
                        held = {**other.mirrors, peer: other.stream}[of]
                        region.mirrors[of] = max(region.mirrors[of], held)
                case roles.Adopt(epoch):
                    region.epoch_sent = epoch
                case roles.AskArbiter(number, epoch):
                    mark = Mark(region.process, number)
                    self.post(region.name, "arbiter", ("ask", region.name, epoch, mark))
                case roles.AskPeer(peer, epoch, leader):
                    body = ("peer", region.process, epoch, leader)
                    self.post(region.name, peer, body)
                case roles.GiveTo(to, epoch, number):
                    mark = Mark(region.process, number)
                    if self.has_arbiter:
                        self.post(region.name, "arbiter", ("give", region.name, epoch, mark, to))
                    else:
                        self.post(region.name, to, ("take", epoch))

    def post(self, sender: str, to: str, body: Any) -> None:
        if frozenset({sender, to}) in self.cut or self.rng.random() < 0.05:
            return
        late_ms = self.rng.choice([1, 1, 1, 5, 5, 20, 50, 400, 3_000, 9_000])
        self.messages.append((self.true_ms + late_ms, sender, to, body))
        del self.messages[:-200]

    def deliver(self) -> None:
        due = [one for one in self.messages if one[0] <= self.true_ms and one[2] not in self.paused]
        if not due:
            return
        message = self.rng.choice(due)
        self.messages.remove(message)
        _, sender, to, body = message
        if frozenset({sender, to}) in self.cut:
            return
        if to == "arbiter":
            self.at_arbiter(sender, body)
        elif self.regions[to].role is not None:
            self.at_region(self.regions[to], sender, body)

    def at_arbiter(self, sender: str, body: Any) -> None:
        if self.row is None:
            return
        rules, now_ns = self.rules, self.arbiter_ns()
        kind, name, epoch, mark, *rest = body
        if kind == "give":
            self.row = rules.release(self.row, name, epoch, mark, now_ns)
            decision = rules.promote(self.row, rest[0], epoch, now_ns, rules.arbiter_terms)
        else:
            decision = rules.ask(self.row, name, epoch, mark, now_ns, rules.arbiter_terms)
        self.keep(decision)
        if kind == "ask":
            self.post("arbiter", sender, ("said", mark, decision.answer))

    def keep(self, decision: lease.Decision) -> None:
        if decision.persist and self.rules.persist_lease:
            self.lease_kept = decision.row.lease
        self.row = decision.row

    def at_region(self, region: Region, sender: str, body: Any) -> None:
        assert region.role is not None
        match body:
            case ("said", mark, answer) if mark.process == region.process:
                self.event(region, roles.ArbiterSaid(mark.number, answer))
            case ("peer", process, epoch, leader):
                self.event(region, roles.LaterEpoch(epoch, leader))
                kept = region.role.kept
                self.post(region.name, sender, (
                    "told", process,
                    roles.PeerSaid(region.name, region.role.role, kept.region_epoch,
                                   region.role.follows, dict(self.view(region).stored)),
                ))  # fmt: skip
            case ("told", process, said) if process == region.process:
                self.event(region, said)
            case ("take", epoch):
                self.operator(region, roles.Promote(epoch, old_is_stopped=False))

    def event(self, region: Region, event: object) -> None:
        assert region.role is not None
        self.carry(region, region.role.on_event(event, region.now_ns(self.true_ms)))

    def operator(self, region: Region, event: object) -> bool:
        try:
            self.event(region, event)
        except roles.RefusedError:
            return False
        return True

    def view(self, region: Region) -> roles.View:
        held = {**region.mirrors, region.name: region.stream}
        return roles.View(held, held, dict(region.acked))

    # --- actions

    def tick(self, name: str) -> None:
        region = self.regions[name]
        if region.role is None:
            return
        if region.role.role == roles.DRAINING and self.rng.random() < 0.3:
            self.event(region, roles.HandOverFailed())
        self.event(region, roles.Tick(self.view(region)))

    def write(self, name: str) -> None:
        region = self.regions[name]
        if self.may_write(region):
            region.stream += 1
            self.judge_ack(region)

    def ship(self, name: str, to: str) -> None:
        region, peer = self.regions[name], self.regions[to]
        if region.role is None or peer.role is None or frozenset({name, to}) in self.cut:
            return
        if region.epoch_sent < peer.fences.get(name, 0):
            self.event(region, roles.LaterEpoch(peer.fences[name]))
            return
        peer.mirrors[name] = region.stream
        region.acked[to] = region.stream
        if self.may_write(region):
            copies = sorted(region.acked.values(), reverse=True)
            if len(copies) >= self.placement.copies - 1:
                self.safe[name] = max(self.safe[name], copies[self.placement.copies - 2])

    def promote(self, name: str, seen: int | None = None) -> None:
        if self.has_arbiter:
            if self.row is not None:
                epoch = self.row.lease.region_epoch if seen is None else seen
                now_ns, terms = self.arbiter_ns(), self.rules.arbiter_terms
                self.keep(self.rules.promote(self.row, name, epoch, now_ns, terms))
            return
        region = self.regions[name]
        if region.role is not None:
            stopped = all(one.role is None or one is region for one in self.regions.values())
            epoch = region.role.kept.region_epoch if seen is None else seen
            if self.operator(region, roles.Promote(epoch, old_is_stopped=stopped)):
                self.blessed.add(name)

    def hand_over(self, name: str, to: str) -> None:
        region = self.regions[name]
        if region.role is not None:
            self.operator(region, roles.HandOver(to))

    # --- schedules

    def step(self) -> None:
        rng = self.rng
        self.true_ms += rng.choice([20, 100, 300])
        if rng.random() < 0.03:
            self.change_regime()
        for name in rng.sample(list(self.regions), len(self.regions)):
            if name in self.paused:
                continue
            if self.true_ms >= self.next_tick[name]:
                self.next_tick[name] = self.true_ms + 1_000
                self.tick(name)
            if rng.random() < 0.5:
                self.write(name)
            for other in self.regions:
                if other != name and other not in self.paused and rng.random() < self.shipping:
                    self.ship(name, other)
        for _ in range(len(self.messages)):
            self.deliver()
        if rng.random() < 0.06:
            name, other = rng.sample(list(self.regions), 2)
            rng.choice(self.interventions)(name, other)
        self.judge()

    def change_regime(self) -> None:
        """Choose which links are cut, who is paused, and how much is shipped, for a while."""
        rng = self.rng
        ends = [*self.regions, "arbiter"]
        pairs = [frozenset({a, b}) for a in ends for b in ends if a < b]
        self.cut = {pair for pair in pairs if rng.random() < 0.25}
        self.paused = {name for name in self.regions if rng.random() < 0.1}
        self.shipping = rng.choice([0.0, 0.1, 0.9])

    @property
    def interventions(self) -> list[Callable[[str, str], None]]:
        return [
            lambda name, other: self.promote(name),
            self.double_promote,
            self.hand_over,
            self.isolate,
            lambda name, other: self.crash(name),
            lambda name, other: self.start(name) if self.regions[name].role is None else None,
            lambda name, other: self.start(name) if self.regions[name].role is None else None,
            lambda name, other: self.start_arbiter() if self.has_arbiter else None,
        ]

    def isolate(self, name: str, other: str) -> None:
        """Cut a region off just after it renewed, and promote another that is eager."""
        self.tick(name)
        self.true_ms += 10
        for _ in range(len(self.messages)):
            self.deliver()
        self.cut = {frozenset({name, end}) for end in (*self.regions, "arbiter")}
        self.promote(other)
        for _ in range(40):
            self.true_ms += self.rng.choice([100, 200])
            self.write(name)
            self.tick(other)
            for _ in range(len(self.messages)):
                self.deliver()
            self.judge()

    def double_promote(self, name: str, other: str) -> None:
        """Two operators who have seen the same epoch."""
        seen = None if self.row is None else self.row.lease.region_epoch
        if not self.has_arbiter:
            known = [r.role.kept.region_epoch for r in self.regions.values() if r.role is not None]
            seen = max(known, default=1)
        self.promote(name, seen)
        self.promote(other, seen)


def explore(
    rules: Rules, *, seeds: range, steps: int = 300, **shape: Any
) -> tuple[str | None, int, int]:
    """Run schedules; give what the judge said first, and how many acks and switches there were."""
    acks = switches = 0
    for seed in seeds:
        world = World(random.Random(seed), rules, **shape)
        try:
            for _ in range(steps):
                world.step()
        except JudgedError as error:
            return f"seed {seed}: {error}", acks, switches
        acks += world.acks
        switches += len(world.switches)
    return None, acks, switches
