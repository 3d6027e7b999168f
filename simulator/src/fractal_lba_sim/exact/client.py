"""One client population: its calls as its user sees them, and what goes over the wire."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from fractal_lba.endpoints import Endpoint, EndpointState, Fleet
from fractal_lba.retry import QUOTA_FULL, Result
from fractal_lba.schedule import Later, Pause
from fractal_lba_server.core.first_write import Stored, position

from ..waiting import NS_PER_MS, Places
from .attempts import Attempts, Rules
from .index import frame_name
from .net import Failure, Reply
from .network import CLIENT
from .node import ANSWER_BYTES, Heard, Node
from .outbox import Letter, Outbox
from .records import Minted
from .tracing import digest16

if TYPE_CHECKING:
    from .world import World

CALLS_MAX: Final = 1_000
RECORDED: Final = (200, 202)
CONFLICT: Final = 409
UNAUTHORIZED: Final = 401
PRISTINE: Final = EndpointState()


class Client(Outbox):
    """One population."""

    def __init__(
        self, world: World, name: str, tenant: str, regions: list[str], rules: Rules
    ) -> None:
        super().__init__()
        self.world = world
        self.name = name
        self.tenant = tenant
        self.regions = regions
        self.rules = rules
        self.chance = world.streams.of("client", name, "retries")
        self.fleet = Fleet.of(
            [Endpoint(world.url_of(code), region=code) for code in regions], rules.failover
        )
        self.quota = QUOTA_FULL
        self.watching = False
        """Whether canaries are asked for; before, they are made."""
        self._seen: Fleet | None = None
        self._is_calm: list[bool] = []
        """Of the fleet that was seen last: endpoints that are up and not asked for their health."""
        self._is_quiet: list[bool] = []
        """Of these: at home, where nothing has ever failed."""
        self._has_probes = False
        self._places = Places(world.agenda, CALLS_MAX)
        self._probing: dict[int, None] = {}

    def target(self, index: int, place: int) -> str:
        """Name the region to which an endpoint leads now, from a place."""
        return self.regions[index]

    # --- calls

    def call(
        self, minted: Minted, due_ns: int, *, generation: int = 1, canary: bool = False
    ) -> None:
        """Submit a record as a user does, due at a moment."""
        letter = Letter(next(self._numbers), minted, generation, canary)
        called_ns = self.world.agenda.now_ns
        if self.rules.has_outbox:
            self._letters[letter.id] = letter
        done = partial(self._called, letter, due_ns, called_ns)
        self._places.enter(self._attempt, letter, done)

    def _attempt(self, letter: Letter, done: Callable[[Any, Result], None]) -> None:
        minted = letter.minted
        if letter.generation == 1 and self.name in self.world.rotated:
            self.world.key_counts["old_key_used"] += 1
        serve = partial(_submit, minted.body, self.tenant)
        Attempts(self, serve, len(minted.body), partial(self._put, letter), done).begin()

    def _called(
        self, letter: Letter, due_ns: int, called_ns: int, answer: Any, result: Result
    ) -> None:
        self._places.leave()
        verdict = self._settle(letter, answer, result)
        code: str | None = None
        world, name = self.world, letter.minted.name
        if result.succeeded:
            said = "recorded"
            world.load.recorded(self.tenant, letter.minted)
        elif result.status == CONFLICT:
            said, code = "conflict", answer.code
        else:
            queued = self.rules.has_outbox and isinstance(verdict, Later | Pause)
            said, code = ("queued" if queued else "failed"), answer.code
        line = {
            "event": "call", "at_ns": world.agenda.now_ns, "client": self.name, "key": name,
            "scheduled_ns": due_ns, "call_ns": called_ns, "result": said,
        }  # fmt: skip
        if code is not None:
            line["code"] = code
        world.trace.lines.append(line)
        if world.on_call is not None:
            world.on_call(self.name, name)

    def read(self, minted: Minted) -> None:
        """Read an outcome."""
        serve = partial(_read, minted.key)
        write = partial(self._get, minted.name)
        Attempts(self, serve, 0, write, lambda answer, result: None).begin()

    # --- what went over the wire

    def _put(self, letter: Letter, region: str, called_ns: int, answer: Any) -> None:
        minted = letter.minted
        fields: dict[str, Any]
        if isinstance(answer, Failure):
            refused = answer.code == "connect_failed"
            fields = {"result": "refused" if refused else "unknown", "code": answer.code}
        else:
            fields = _put_fields(answer)
            if answer.status in RECORDED:
                self.world.watch.recorded(self, region)
            elif answer.status == UNAUTHORIZED:
                self.world.key_counts["signatures_refused"] += 1
        world = self.world
        line = {
            "event": "put", "at_ns": world.agenda.now_ns, "client": self.name, "region": region,
            "key": minted.name, "content": minted.content[:16], "bytes": len(minted.body),
            "call_ns": called_ns,
        }  # fmt: skip
        if letter.canary and self.watching:
            line["canary"] = True
        world.trace.add(line | fields)

    def _get(self, key: str, region: str, called_ns: int, answer: Any) -> None:
        fields: dict[str, Any]
        if isinstance(answer, Failure):
            fields = {"result": "unknown"}
        elif answer.status in RECORDED:
            stored: Stored = answer.stored
            fields = {
                "result": "present", "status": answer.status, "frame": frame_name(stored),
                "outcome": digest16(stored.outcome),
            }  # fmt: skip
        else:
            absent = answer.code == "not_found"
            fields = {"result": "absent" if absent else "refused", "status": answer.status}
        self.world.trace.write(
            "get", client=self.name, region=region, key=key, call_ns=called_ns, **fields
        )

    # --- endpoints

    def took_well(self, sender: int) -> bool:
        """Tell whether a success changes nothing that is known of the endpoints.

        Unless the client is at home and always was, the SDK draws a chance for its timers first.
        """
        fleet = self.fleet
        if fleet is not self._seen:
            self._look_at(fleet)
        if not self._is_calm[sender]:
            return False
        if not self._is_quiet[sender]:
            self.chance.random()
        return True

    def _look_at(self, fleet: Fleet) -> None:
        self._seen = fleet
        self._is_calm = [
            not state.failures
            and not state.down
            and state.probe_at_ms is None
            and (index != fleet.home or fleet.current == index)
            for index, state in enumerate(fleet.states)
        ]
        is_home = fleet.current == fleet.home
        self._is_quiet = [is_home and state == PRISTINE for state in fleet.states]
        self._has_probes = fleet.next_probe_ms is not None

    def moved(self, fleet: Fleet) -> None:
        """Take in what is known of the endpoints now."""
        before, self.fleet = self.fleet, fleet
        if before.current != fleet.current:
            self.world.watch.moved(self, self.regions[fleet.current])

    def probe_what_is_due(self) -> None:
        """Ask the endpoints whose probes are due for their health."""
        fleet = self.fleet
        if fleet is not self._seen:
            self._look_at(fleet)
        if not self._has_probes:
            return
        for index in self.fleet.probes_due(self.now_ms()):
            if index not in self._probing:
                self._probing[index] = None
                timeout_ns = self.rules.failover.probe_timeout_ms * NS_PER_MS
                code = self.target(index, self.place())
                self.world.net.ask(
                    CLIENT, code, 50, _health, partial(self._probed, index),
                    timeout_ns=timeout_ns,
                )  # fmt: skip

    def _probed(self, index: int, answer: Any) -> None:
        self._probing.pop(index, None)
        u = self.chance.random()
        self.moved(self.fleet.probed(index, answer is True, now_ms=self.now_ms(), u=u))


def _put_fields(answer: Heard) -> dict[str, Any]:
    """Say what one submit was answered."""
    stored, status = answer.stored, answer.status
    if status in RECORDED and stored is not None:
        return {
            "status": status,
            "result": "duplicate" if answer.replayed else "new",
            "frame": frame_name(stored),
            "outcome": digest16(stored.outcome),
            "position": position(stored),
            "level": answer.level,
        }
    fields: dict[str, Any] = {"status": status, "code": answer.code}
    if status == CONFLICT:
        extras = answer.extras or {}
        winner = extras.get("winner")
        first = None if winner is None else winner["first_seen"]
        frame = None if first is None else f"{first['region']}:{first['hlc']}"
        return fields | {
            "result": "conflict", "frame": frame, "displaced": extras.get("displaced"),
        }  # fmt: skip
    if stored is None:
        return fields | {"result": "refused"}
    # A position beside a refusal says that the record is in the log all the same.
    return fields | {"result": "unknown", "position": position(stored)}


# --- what runs at the region


def _submit(body: bytes, tenant: str, node: Node, reply: Reply) -> None:
    if node.region.is_gray(reply):
        return
    node.submit(body, tenant, None, partial(reply, size=ANSWER_BYTES))


def _read(key: tuple[str, str], node: Node, reply: Reply) -> None:
    if node.region.is_gray(reply):
        return
    node.read(key, partial(reply, size=ANSWER_BYTES))


def _health(node: Node, reply: Reply) -> None:
    reply(node.region.looks_ready or node.takes_records(), 50)
