"""Run the roles of one region process: leases, promotions, hand-overs (core/roles.py).

One thread drives the machines of all placements with a single writer. It never waits for the
network: questions go through role_callers.py and come back as events. What it waits for is local:
a role file on disk, a fence of our mirrors, and the ingest machine, which must have taken a word
about who may write before anything that relies on it is done.
"""

from __future__ import annotations

import queue
import secrets
import threading
import time
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from pathlib import Path
from typing import Any, Final, NamedTuple, Protocol

from .core import lease, roles
from .core.health import NS_PER_MS
from .core.lease import Terms
from .core.regions import Registry
from .core.roles import FOR_EVER_NS, Kept, RefusedError, Role
from .net.peers import PeerTls
from .net.region_client import CallRefusedError, UnreachableError
from .outbound import PeerRefusedError
from .role_callers import Arbiter, ArbiterAddress, Caller, Peer
from .steady_clock import steady_ns
from .store.roles import RoleFiles

LOOK_S: Final = 0.1
"""How often the thread looks for a lease that is over, and for a step of the wall clock."""

PROMOTING_TICK_MS: Final = 200
"""How often a region that is taking over goes on."""

CLOCK_STEP_MS: Final = 20
"""A wall clock that moved by more than this, against the steady one, was set."""

OPERATOR_S: Final = 5.0
"""How long an operator's call waits for the thread."""

Report = Callable[[str, dict[str, Any]], None]


class Said(NamedTuple):
    """Who may write; the members of core.ingest_events.LeaseChanged, in its order."""

    placement: str
    until_ns: int
    region_epoch: int
    leader: str | None = None
    taking_over: bool = False


class RoleStatus(NamedTuple):
    """What a region is in a placement, for people and programs."""

    placement: str
    topology: str
    role: str
    step: str
    region_epoch: int
    leader: str | None
    lease_ms: int | None
    reason: str


class RoleRefusedError(Exception):
    """An operator's wish that was not carried out; `code` is one of spec/errors.json."""

    def __init__(self, code: str, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


class Links(Protocol):
    """What the rest of the region does for its roles. Called in threads of ours; may block.

    Any OSError ends the roles as a crash would: leases run out, and `on_failure` is told.
    """

    def fence(self, region: str, placement: str, region_epoch: int) -> None:
        """Refuse the batches of a region below this epoch; durable on return."""

    def adopt(self, placement: str, region_epoch: int) -> None:
        """Send our batches of this placement under this epoch; durable on return."""

    def merged(self, region: str, placement: str) -> int:
        """Give the highest number of a region's stream in the index; of ours: durable."""
        ...

    def stored(self, region: str, placement: str) -> int:
        """Give the highest number of a region's stream that is durable here; of ours: durable."""
        ...

    def acked(self, placement: str, peer: str) -> int:
        """Give the highest number of our stream that a peer holds and has merged."""
        ...

    def in_flight(self, placement: str) -> int:
        """Count the requests of a placement that have no answer yet."""
        ...

    def fetch(self, peer: str, region: str, placement: str) -> None:
        """Bring our mirror of a region's stream up to what a peer holds; or PeerRefusedError."""


class _Asked(NamedTuple):
    """A call of another thread: `run` gives what `answer` is set to."""

    run: Callable[[], Any]
    answer: Future[Any]


class _Heard(NamedTuple):
    placement: str
    event: object


class RoleKeeper:
    """Own the machines of this process, one for each placement with a single writer."""

    def __init__(
        self,
        *,
        registry: Registry,
        region: str,
        data: Path,
        links: Links,
        emit: Callable[[Said], None],
        arbiter: ArbiterAddress | None = None,
        terms: Terms | None = None,
        tls: PeerTls | None = None,
        report: Report = lambda event, members: None,
        on_failure: Callable[[str], None] = lambda reason: None,
    ) -> None:
        """Read what was kept; ValueError for a damaged file.

        `emit` returns when the ingest machine has taken the word, and raises OSError if it
        cannot be told.
        """
        self._registry, self._region = registry, region
        self._links, self._emit = links, emit
        self._report, self._on_failure = report, on_failure
        self._terms = terms or Terms()
        self._files = RoleFiles(data)
        self._events: queue.SimpleQueue[_Asked | _Heard | None] = queue.SimpleQueue()
        process = secrets.token_hex(8)
        self._arbiter = None if arbiter is None else Arbiter(arbiter, region, process)
        led = [one for one in registry.held_by(region) if one.needs_lease]
        self._roles = {
            one.name: Role(
                one, region, kept=self._files.read(one.name), terms=self._terms,
                has_arbiter=arbiter is not None, rank=registry.rank(region),
            )
            for one in led
        }  # fmt: skip
        names = sorted({peer for role in self._roles.values() for peer in role.peers})
        self._peers = {code: Peer(code, registry.regions[code].peer, tls) for code in names}
        self._callers = {code: Caller(code) for code in ["arbiter", *names]}
        self._next_ns = dict.fromkeys(self._roles, 0)
        self._said: dict[str, roles.Say] = {}
        self._offset_ns = 0
        self._failed: str | None = None
        self._thread = threading.Thread(target=self._run, name="roles", daemon=True)

    def start(self) -> None:
        """Say that nobody writes yet, and begin to ask."""
        for caller in self._callers.values():
            caller.start()
        self._offset_ns = time.time_ns() - steady_ns()
        self._thread.start()

    def stop(self) -> None:
        """End the threads; a lease that is held runs out by itself."""
        self._events.put(None)
        self._thread.join(2.0)
        for caller in self._callers.values():
            caller.end(0.1)

    # --- for others: any thread

    def status(self) -> list[RoleStatus]:
        """Describe every placement of ours, those without a lease too."""
        found = []
        for one in self._registry.held_by(self._region):
            role = self._roles.get(one.name)
            if role is None:
                found.append(
                    RoleStatus(one.name, one.topology, roles.WRITER, "", 0, None, None, "")
                )
            else:
                found.append(self._status_of(role))
        return found

    def fenced(self, placement: str, region_epoch: int) -> None:
        """Note that a peer refused our batch, because it knows this later epoch."""
        if placement in self._roles:
            self._events.put(_Heard(placement, roles.LaterEpoch(region_epoch)))

    def promote(
        self, placement: str, *, region_epoch: int, old_is_stopped: bool = False
    ) -> RoleStatus:
        """Make us the writer; `region_epoch` is the one that the operator saw."""
        role = self._role(placement)
        if self._arbiter is None:
            return self._operate(placement, roles.Promote(region_epoch, old_is_stopped))
        self._decide(placement, self._region, region_epoch)
        return self._status_of(role)

    def fence(self, placement: str, *, region_epoch: int) -> RoleStatus:
        """Stop whoever writes (without an arbiter: us); nobody follows before a promotion."""
        role = self._role(placement)
        if self._arbiter is not None:
            self._decide(placement, None, region_epoch)
            return self._status_of(role)
        if region_epoch != role.kept.region_epoch:
            text = f"the region epoch is {role.kept.region_epoch} by now; look again"
            raise RoleRefusedError("unprocessable", text)
        return self._operate(placement, roles.LaterEpoch(region_epoch + 1))

    def failback(self, placement: str, *, to: str) -> RoleStatus:
        """Stop writing, and hand over to a standby that has caught up."""
        self._role(placement)
        return self._operate(placement, roles.HandOver(to))

    def answer_peer(self, caller: str | None, document: Mapping[str, Any]) -> dict[str, Any]:
        """Answer a peer that tells its epoch; ValueError for what is no such question."""
        placement = document.get("placement")
        role = self._roles.get(placement) if isinstance(placement, str) else None
        if role is None or not isinstance(placement, str):
            raise ValueError("placement: none of ours that needs a lease")
        if caller is not None and not self._registry.may_hold(placement, caller):
            raise ValueError("placement: not yours")
        take = document.get("take")
        if type(take) is int:
            self._operate(placement, roles.Promote(take, old_is_stopped=False))
            return {"placement": placement}
        region_epoch, leader = document.get("region_epoch"), document.get("leader")
        if type(region_epoch) is not int or not (leader is None or isinstance(leader, str)):
            raise ValueError("expected region_epoch and leader")

        def run() -> dict[str, Any]:
            self._feed(placement, roles.LaterEpoch(region_epoch, leader))
            return {
                "placement": placement,
                "role": role.role,
                "region_epoch": role.kept.region_epoch,
                "leader": role.follows,
                "stored": dict(self._view(placement, role).stored),
            }

        answer: dict[str, Any] = self._in_thread(run)
        return answer

    # --- operators

    def _role(self, placement: str) -> Role:
        role = self._roles.get(placement)
        if role is None:
            text = "no placement of this region with one writer has this name"
            raise RoleRefusedError("not_found", text)
        return role

    def _decide(self, placement: str, region: str | None, seen_epoch: int) -> None:
        assert self._arbiter is not None
        try:
            answer = self._arbiter.promote(placement, region, seen_epoch)
        except UnreachableError as error:
            raise RoleRefusedError("unavailable", f"the arbiter: {error}") from None
        except CallRefusedError as error:
            raise RoleRefusedError("forbidden", f"the arbiter: {error.message}") from None
        if isinstance(answer, lease.Moved):
            text = f"the region epoch is {answer.region_epoch} by now; look again"
            raise RoleRefusedError("unprocessable", text)
        self._in_thread(lambda: self._tick(placement))

    def _operate(self, placement: str, event: object) -> RoleStatus:
        try:
            self._in_thread(lambda: self._tick(placement, then=event))
        except RefusedError as error:
            raise RoleRefusedError("unprocessable", str(error)) from None
        return self._status_of(self._roles[placement])

    def _in_thread(self, run: Callable[[], Any]) -> Any:
        asked = _Asked(run, Future())
        self._events.put(asked)
        try:
            return asked.answer.result(OPERATOR_S)
        except TimeoutError:
            reason = self._failed or "the roles do not answer in time"
            raise RoleRefusedError("unavailable", reason) from None

    def _status_of(self, role: Role) -> RoleStatus:
        kept, left_ns = role.kept, role.lease_left_ns(steady_ns())
        return RoleStatus(
            role.placement.name, role.placement.topology, role.role, kept.step,
            kept.region_epoch, role.follows if kept.role != roles.PROMOTING else None,
            left_ns // NS_PER_MS if left_ns else None, self._failed or role.reason,
        )  # fmt: skip

    # --- the thread

    def _run(self) -> None:
        reason: str | None = "a defect; see the log"
        try:
            for placement, role in self._roles.items():
                self._carry(placement, role.start())
            while self._once():
                pass
            reason = None
        except OSError as error:
            reason = str(error)
        finally:
            if reason is not None:
                self._failed = f"roles ended: {reason}"
                self._report("roles_failed", {"reason": reason})
                self._on_failure(self._failed)

    def _once(self) -> bool:
        try:
            found = self._events.get(timeout=LOOK_S)
        except queue.Empty:
            pass
        else:
            if found is None:
                return False
            if isinstance(found, _Heard):
                self._feed(found.placement, found.event)
            else:
                self._answer(found)
        self._look_at_clocks()
        now_ns = steady_ns()
        for placement, at_ns in self._next_ns.items():
            if now_ns >= at_ns:
                self._tick(placement)
        return True

    def _answer(self, asked: _Asked) -> None:
        try:
            asked.answer.set_result(asked.run())
        except RefusedError as error:
            asked.answer.set_exception(error)

    def _tick(self, placement: str, *, then: object = None) -> None:
        role = self._roles[placement]
        is_hasty = role.role in {roles.PROMOTING, roles.DRAINING}
        wait_ms = PROMOTING_TICK_MS if is_hasty else self._terms.renew_ms
        self._next_ns[placement] = steady_ns() + wait_ms * NS_PER_MS
        self._feed(placement, roles.Tick(self._view(placement, role)))
        if then is not None:
            self._feed(placement, then)

    def _view(self, placement: str, role: Role) -> roles.View:
        links, codes = self._links, [self._region, *role.peers]
        return roles.View(
            merged={code: links.merged(code, placement) for code in codes},
            stored={code: links.stored(code, placement) for code in codes},
            acked={code: links.acked(placement, code) for code in role.peers},
            in_flight=links.in_flight(placement),
        )

    def _feed(self, placement: str, event: object) -> None:
        role = self._roles[placement]
        before = role.kept
        self._carry(placement, role.on_event(event, steady_ns()))
        if role.kept != before:
            self._report("role_changed", {"placement": placement, **role.kept._asdict()})

    # --- effects

    def _carry(self, placement: str, effects: list[roles.Effect]) -> None:
        for effect in effects:
            match effect:
                case roles.Persist(kept):
                    self._persist(placement, kept)
                case roles.Say():
                    self._said[placement] = effect
                    self._say(placement, effect)
                case roles.Fence(codes, region_epoch):
                    for code in codes:
                        self._links.fence(code, placement, region_epoch)
                case roles.Adopt(region_epoch):
                    self._links.adopt(placement, region_epoch)
                case _:
                    self._call(placement, effect)

    def _persist(self, placement: str, kept: Kept) -> None:
        if kept != self._files.read(placement):
            self._files.write(placement, kept)

    def _call(self, placement: str, effect: roles.Effect) -> None:
        """Let a caller's thread carry out what needs the network; the end comes as an event."""
        match effect:
            case roles.AskArbiter():
                self._ask("arbiter", placement, self._arbiter, effect)
            case roles.AskPeer(peer):
                self._ask(peer, placement, self._peers[peer], effect)
            case roles.GiveTo(region) if self._arbiter is None:
                self._give(region, placement, self._peers[region], effect)
            case roles.GiveTo():
                self._give("arbiter", placement, self._arbiter, effect)
            case roles.Fetch(peer, region):
                self._callers[peer].put(
                    f"fetch {placement}", lambda: self._fetch(peer, region, placement)
                )

    def _fetch(self, peer: str, region: str, placement: str) -> None:
        try:
            self._links.fetch(peer, region, placement)
        except (OSError, PeerRefusedError) as error:
            members = {"placement": placement, "peer": peer, "region": region}
            self._report("fetch_failed", {**members, "reason": str(error)})

    def _ask(self, caller: str, placement: str, whom: Any, effect: Any) -> None:
        def work() -> None:
            event = whom.ask(placement, effect)
            if event is not None:
                self._events.put(_Heard(placement, event))

        self._callers[caller].put(f"ask {placement}", work)

    def _give(self, caller: str, placement: str, whom: Any, effect: Any) -> None:
        def work() -> None:
            event = whom.give(placement, effect)
            if event is not None:
                self._events.put(_Heard(placement, event))

        self._callers[caller].put(f"give {placement}", work)

    def _say(self, placement: str, said: roles.Say) -> None:
        until_ns = said.until_ns
        if 0 < until_ns < FOR_EVER_NS:
            until_ns += self._offset_ns
        hint = None
        if said.leader is not None and self._registry.may_hold(placement, said.leader):
            hint = self._registry.regions[said.leader].endpoint
        self._emit(Said(placement, until_ns, said.region_epoch, hint, said.taking_over))

    def _look_at_clocks(self) -> None:
        """Tell the ingest machine, which reads wall time, when a lease is over or time was set."""
        now_ns = steady_ns()
        offset_ns = time.time_ns() - now_ns
        was_set = abs(offset_ns - self._offset_ns) > CLOCK_STEP_MS * NS_PER_MS
        if was_set:
            self._report("clock_set", {"by_ms": (offset_ns - self._offset_ns) // NS_PER_MS})
            self._offset_ns = offset_ns
        for placement, said in self._said.items():
            if 0 < said.until_ns <= now_ns:
                self._said[placement] = said._replace(until_ns=0)
                self._say(placement, self._said[placement])
            elif was_set and 0 < said.until_ns < FOR_EVER_NS:
                self._say(placement, said)
