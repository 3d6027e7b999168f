"""Plays scenarios in the small world of dedup shards, and writes the trace of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from hashlib import sha256
from typing import Any, Final, NamedTuple

from fractal_lba_server.core.dedup import Entry, has_expired
from fractal_lba_server.core.migration import CLEANED
from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_sim import __version__

from ...engine import Event
from ...waiting import NS_PER_MS, NS_PER_S, Life
from .shard_moves import Coordinator, begun
from .shard_world import (
    REST_NS,
    START_MS,
    Shard,
    ShardWorld,
    Steps,
    Writer,
    as_ns,
    expected,
    state_digest,
)

WRITERS: Final = ("eu1", "eu2")
AGAIN_NS: Final = 200 * NS_PER_MS
AGAIN_MAX: Final = 60
SETTLE_NS: Final = 60 * NS_PER_S
"""Longest wait after the load, unless the scenario names another."""

CANARIES_MAX: Final = 400
RECENT: Final = 4
"""Half of the repeats are of one of the last records: somebody has not heard its answer."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ShardParts:
    """What the world is made of."""

    writer: type[Writer] = Writer
    late: type[Writer] | None = None
    """The writer of which a configuration may be old; without it both are alike."""

    coordinator: type[Coordinator] = Coordinator
    shard: type[Shard] = Shard
    ttl_ms: Callable[[int | None], int | None] = lambda ttl_ms: ttl_ms

    def but(self, **parts: Any) -> ShardParts:
        """Give these parts with some changed."""
        return replace(self, **parts)


ShardChange = Callable[[ShardParts], ShardParts]
SHARD_PLANTS: Final[dict[str, ShardChange]] = {}


class Engine:
    """Plays what happens to dedup shards; a scenario with anything else is refused."""

    def play(self, scenario: Scenario, *, seed: int, plants: Sequence[str] = ()) -> Iterator[Event]:
        """Give the trace from `run` to `end`. Raises ScenarioError for what it cannot play."""
        parts = ShardParts()
        for name in plants:
            if name not in SHARD_PLANTS:
                message = f"no plant of the dedup shards is called {name!r}"
                raise ScenarioError(message)
            parts = SHARD_PLANTS[name](parts)
        return _Run(scenario, seed, parts).events()


class _Run:
    """One run."""

    def __init__(self, scenario: Scenario, seed: int, parts: ShardParts) -> None:
        document = scenario.document
        self.scenario, self.seed = scenario, seed
        for fault in document.get("faults", ()):
            if fault["kind"] not in ACTS:
                message = f"{fault['kind']}: the world of dedup shards cannot play it; exact can"
                raise ScenarioError(message)
        for step in document.get("steps", ()):
            if step["do"] != "migrate":
                message = f"step {step['do']}: the world of dedup shards knows migrate alone"
                raise ScenarioError(message)
        self.load = document["load"]
        shards = document["topology"].get("shards", {"count": 1})["count"]
        days = document.get("settings", {}).get("server", {}).get("dedup_ttl_s")
        ttl_ms = parts.ttl_ms(None if days is None else int(days * 1_000))
        self.world = world = ShardWorld(shards=shards, seed=seed, ttl_ms=ttl_ms, kind=parts.shard)
        self.writers = {
            name: ((parts.late or parts.writer) if name == WRITERS[0] else parts.writer)(
                world, name
            )
            for name in WRITERS
        }
        self.parts = parts
        self.coordinator = parts.coordinator(world)
        self.trace: list[Event] = []
        self.open = 0
        self.effects: dict[str, int] = {}
        """What each fault did, by its id."""

    def note(self, event: str, **members: Any) -> None:
        """Write a line at this moment."""
        self.trace.append({"event": event, "at_ns": self.world.agenda.now_ns, **members})

    def events(self) -> Iterator[Event]:
        """Play it and give its lines."""
        self.note(
            "run", schema=1, engine="exact", seed=self.seed, scenario=self.scenario.document,
            scenario_digest=self.scenario.digest, started_unix_ns=START_MS * NS_PER_MS,
            control=self.scenario.control, versions={"fractal-lba-sim": __version__},
        )  # fmt: skip
        world = self.world
        for shard in world.shards.values():
            shard.set_fence(1)
        for fault in self.scenario.faults(self.seed):
            world.agenda.after(as_ns(fault["at_s"]), self._inject, fault)
        for step in self.scenario.document.get("steps", ()):
            world.agenda.after(as_ns(step["at_s"]), self._migrate, step["to_shards"])
        self._offer()
        life = Life(world.agenda)
        world.start(life, self._finish())
        world.agenda.run()
        yield from self.trace

    # --- load

    def _offer(self) -> None:
        load, streams = self.load, self.world.streams
        count = max(1, round(load["duration_s"] * load["rate_per_s"]))
        made: list[tuple[str, str]] = []
        for number in range(count):
            at_s = load["duration_s"] * number / count
            if load.get("arrivals") == "poisson":
                at_s = streams.of("arrivals").uniform(0, load["duration_s"])
            repeats = streams.of("repeats").random() < load.get("repeat_share", 0)
            if repeats and made:
                recent = made[-RECENT:] if streams.of("repeats").random() < 0.5 else made
                key = streams.of("repeats").choice(recent)
            else:
                # Few records show a bug of some ranges alone: which ones they fall into is chance.
                key = ("acme", sha256(f"{self.seed}/{number}".encode()).hexdigest())
                made.append(key)
            writer = streams.of("writers").choice(WRITERS)
            self.world.agenda.after(as_ns(at_s), self._call, writer, key)

    def _call(self, writer: str, key: tuple[str, str]) -> None:
        self.open += 1
        steps = self._submits(self.writers[writer], key)
        self.world.start(self.writers[writer].life, steps)

    def _submits(self, writer: Writer, key: tuple[str, str]) -> Steps:
        """Send a record until it is recorded: what an outbox does."""
        due_ns = self.world.agenda.now_ns
        content = sha256("/".join(key).encode()).hexdigest()
        result = "queued"
        for _ in range(AGAIN_MAX):
            said = yield from self._put(writer, key, content)
            if said != "refused":
                result = "conflict" if said == "conflict" else "recorded"
                break
            yield AGAIN_NS
        self.open -= 1
        self.note(
            "call", client=writer.name, key="/".join(key), scheduled_ns=due_ns, call_ns=due_ns,
            result=result,
        )  # fmt: skip

    def _put(
        self, writer: Writer, key: tuple[str, str], content: str, *, canary: bool = False
    ) -> Steps:
        begun_ns = self.world.agenda.now_ns
        result, entry = yield from writer.submit(key, content)
        more: dict[str, Any] = {"status": 503, "code": "unavailable"}
        if entry is not None and entry.order is not None:
            more = {"frame": frame_of(entry), "level": "durable", "status": 200}
            if result == "conflict":
                more = {"frame": frame_of(entry), "status": 409, "code": "pcs_id_conflict"}
        elif entry is not None:
            more = {"status": 200}
        self.note(
            "put", client=writer.name, region="euw", key="/".join(key), content=content[:16],
            bytes=813, call_ns=begun_ns, result=result, **more,
            **({"canary": True} if canary else {}),
        )  # fmt: skip
        return result

    # --- what breaks, and what people do

    def _inject(self, fault: Mapping[str, Any]) -> None:
        self.note("fault", id=fault["id"], kind=fault["kind"], state="injected", region="euw")
        self.effects[fault["id"]] = ACTS[fault["kind"]].inject(self, fault)
        self.world.agenda.after(as_ns(fault.get("for_s", 0)), self._heal, fault)

    def _heal(self, fault: Mapping[str, Any]) -> None:
        self.effects[fault["id"]] += ACTS[fault["kind"]].heal(self, fault)
        self.note(
            "fault", id=fault["id"], kind=fault["kind"], state="effect", region="euw",
            effects={"done": self.effects[fault["id"]]},
        )  # fmt: skip
        self.note("fault", id=fault["id"], kind=fault["kind"], state="healed", region="euw")

    def shard_down(self, fault: Mapping[str, Any]) -> int:
        """Take a dedup shard away."""
        shard = self.world.shards.get(fault["shard"])
        if shard is None:
            raise ScenarioError(f"no dedup shard is called {fault['shard']}")
        known = {info.name for info in self.world.control.document.everyone()}
        shard.is_down = True
        return int(fault["shard"] in known)

    def shard_up(self, fault: Mapping[str, Any]) -> int:
        """Give it back, with what it held."""
        self.world.shards[fault["shard"]].is_down = False
        return 0

    def kill(self, fault: Mapping[str, Any]) -> int:
        """End the coordinator."""
        was_busy = not self.coordinator.life.ended and self._is_migrating()
        self.coordinator.life.end()
        return int(was_busy)

    def start_again(self, fault: Mapping[str, Any]) -> int:
        """Start another one."""
        if self.coordinator.life.ended:
            self._tell()
            self.coordinator = self.parts.coordinator(self.world)
            self.world.start(self.coordinator.life, self.coordinator.drive())
        return 0

    def pause(self, fault: Mapping[str, Any]) -> int:
        """Stop a writer; what it knows grows old."""
        self.writers[WRITERS[0]].life.paused = True
        return 1

    def go_on(self, fault: Mapping[str, Any]) -> int:
        """Let it go on."""
        self.writers[WRITERS[0]].life.resume()
        return 0

    def slow(self, fault: Mapping[str, Any]) -> int:
        """Let every write of a frame wait for the disk."""
        self.world.disk_waits_ns += as_ns(fault["delay_ms"] / 1_000)
        return -self.world.slow_writes

    def quick(self, fault: Mapping[str, Any]) -> int:
        """Let the disk be as it was; give how many writes have waited so far."""
        self.world.disk_waits_ns -= as_ns(fault["delay_ms"] / 1_000)
        return self.world.slow_writes

    def _is_migrating(self) -> bool:
        state = self.world.control.state
        return state is not None and state.step != CLEANED

    def _migrate(self, count: int) -> None:
        control = self.world.control
        if self._is_migrating():
            assert control.state is not None
            self.world.wants_back = count == len(control.state.old)
            said = "rolls back" if self.world.wants_back else "is refused: one is under way"
            self.note("note", said=f"migration to {count}: {said}")
            return
        if count == len(control.document.shards) or count > len(self.world.shards):
            self.note("note", said=f"migration to {count}: nothing moves")
            return
        self.world.wants_back = False
        control.state = begun(control.document, count)
        self.note("note", said=f"migration to {count} begins")
        if not self.coordinator.life.ended:
            self.coordinator.life.end()
            self.coordinator = self.parts.coordinator(self.world)
            self.world.start(self.coordinator.life, self.coordinator.drive())

    def _tell(self) -> None:
        for said in self.coordinator.notes:
            self.note("note", said=said[:200])
        self.coordinator.notes.clear()

    # --- the end

    def _finish(self) -> Steps:
        yield as_ns(self.load["duration_s"])
        until_ns = self.world.agenda.now_ns + as_ns(self.load.get("settle_s", 60))
        while self._is_busy() and self.world.agenda.now_ns < until_ns:
            yield REST_NS
            self._tell()
        self._tell()
        yield from self._canaries()
        self._census()
        self.note("end")
        self.world.agenda.stop()

    def _is_busy(self) -> bool:
        waiting = any(writer.incomplete for writer in self.writers.values())
        return bool(self.open or waiting or self._is_migrating() or self.world.control.repairs)

    def _canaries(self) -> Steps:
        """Submit every record again, as somebody who knows the ring of today."""
        judge = Writer(self.world, "judge")
        now_ms = self.world.now_ms()
        for entry in list(expected(self.world))[:CANARIES_MAX]:
            if not has_expired(entry, now_ms) and not (
                entry.expires_at_ms and entry.expires_at_ms - now_ms < NS_PER_S // NS_PER_MS
            ):
                yield from self._put(judge, entry.key, entry.content, canary=True)

    def _census(self) -> None:
        frames: dict[tuple[str, str], list[Entry]] = {}
        for frame in self.world.log:
            frames.setdefault(frame.entry.key, []).append(frame.entry)
        self.note("census", census="end", region="euw", keys=len(frames))
        for key, entries in frames.items():
            first, *others = entries
            self.note(
                "held", census="end", region="euw", key="/".join(key), frame=frame_of(first),
                content=first.content[:16], placement="open",
                overridden=[
                    {"frame": frame_of(one), "content": one.content[:16], "kind": "duplicate"}
                    for one in others
                ],
            )  # fmt: skip
        now_ms, document = self.world.now_ms(), self.world.control.document
        held = (
            replace_none(row)
            for name, shard in self.world.shards.items()
            for row in shard.rows.values()
            if document.routes(row.key).authority == name and not has_expired(row, now_ms)
        )
        logged = (entry for entry in expected(self.world) if not has_expired(entry, now_ms))
        for region, told in (("log", logged), ("rng", held)):
            digest, count = state_digest(told)
            self.note(
                "digest", after="end", region=region, placement="open", digest=digest, keys=count
            )


def replace_none(entry: Entry) -> Entry:
    """Give a row as it is told in a digest: who owns it is nobody's business."""
    return entry._replace(owner="")


def frame_of(entry: Entry) -> str:
    """Name a frame as a trace does."""
    assert entry.order is not None
    return f"euw:{entry.order.hlc:016x}"


class Acts(NamedTuple):
    """How a fault begins and ends; what both give adds up to its effect."""

    inject: Callable[[_Run, Mapping[str, Any]], int]
    heal: Callable[[_Run, Mapping[str, Any]], int]


ACTS: Final[Mapping[str, Acts]] = {
    "shard-down": Acts(_Run.shard_down, _Run.shard_up),
    "process-kill": Acts(_Run.kill, _Run.start_again),
    "process-pause": Acts(_Run.pause, _Run.go_on),
    "disk-slow": Acts(_Run.slow, _Run.quick),
}
