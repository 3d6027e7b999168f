"""When an outbox sends which entry, and what answers mean: `spec/formats.md` 11.14-11.17, 11.22."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from golden.oracle import double
from golden.oracle.holding import Holding, Place, level_reached, place

BURIED = (400, 409, 413, 422)
BASE_MS = 1_000
CAP_MS = 30_000


@dataclass(slots=True)
class Kept:
    """One entry: where it stands, and since when it may go."""

    id: str
    groups: list[list[str]]
    length: int
    state: str = "waiting"  # or "in_flight", "parked", "held"
    due_ms: int = 0
    floor_ms: int = 0
    tries: int = 0
    parked_in: list[str] | None = None


@dataclass(slots=True)
class Sending:
    width_max: int
    width: int
    replicated: bool = False
    kept: dict[str, Kept] = field(default_factory=dict)
    blocked: list[list[str]] = field(default_factory=list)
    holding: Holding = field(default_factory=Holding)
    released: list[str] = field(default_factory=list)
    again: list[str] = field(default_factory=list)

    def step(self, event: dict[str, str]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        self.released, self.again = [], []
        match event["event"]:
            case "put":
                self.put(event)
            case "take":
                found["taken"] = self.take(event)
            case "answer":
                found["verdict"] = self.answer(event)
            case "hurry":
                self.hurry()
            case "heard":
                self.hear(place(event["value"]))
            case "status":
                self.status(bytes.fromhex(event["body"]))
        found |= {"in_flight": str(self.in_flight()), "blocked": sorted(self.blocked)}
        return found | self.held() if self.replicated else found

    def held(self) -> dict[str, Any]:
        return {
            "held": [[name, self.holding.text(name)] for name in sorted(self.holding.at)],
            "released": sorted(self.released),
            "again": sorted(self.again),
        }

    def put(self, event: dict[str, str]) -> None:
        groups = [[what, event[what]] for what in ("kid", "tenant") if what in event]
        entry = Kept(event["id"], groups, int(event["length"]))
        if event["in_flight"] == "true":
            entry.state = "in_flight"
        self.kept[entry.id] = entry
        found = place(event.get("hold"))
        if found is not None:
            self.hold(entry, found)

    def in_flight(self) -> int:
        return sum(entry.state == "in_flight" for entry in self.kept.values())

    def take(self, event: dict[str, str]) -> list[str]:
        """Take what is due, the longest due first, within the width (11.14)."""
        now_ms, bytes_max, room = int(event["now_ms"]), int(event["bytes_max"]), int(event["limit"])
        if self.width < self.width_max:
            room = min(room, self.width - self.in_flight())
        taken: list[str] = []
        size = 0
        waiting = [e for e in self.kept.values() if e.state == "waiting" and e.due_ms <= now_ms]
        for entry in sorted(waiting, key=lambda e: (e.due_ms, e.id)):
            if len(taken) >= room:
                break
            paused = [group for group in entry.groups if group in self.blocked]
            if paused:
                entry.state, entry.parked_in = "parked", paused[0]
                continue
            size += entry.length
            if taken and size > bytes_max:
                break
            entry.state = "in_flight"
            taken.append(entry.id)
        return taken

    def answer(self, event: dict[str, str]) -> str:
        """Give the verdict about an entry in flight, and carry it out (11.15-11.17)."""
        entry = self.kept[event["id"]]
        status = int(event.get("status", "0"))
        self.hear(place(event.get("replicated")))
        if status in (200, 202):
            verdict, found = "acknowledge", None
            if self.replicated and not level_reached(event):
                verdict, found = self.holding.judge(
                    place(event.get("position")), place(event.get("replicated"))
                )
            if verdict == "later":
                self.later(entry, event)
                return verdict
            self.widen()
            for group in entry.groups:
                self.unblock(group)
            if found is None:
                del self.kept[entry.id]
            else:
                self.hold(entry, found)
            return verdict
        if status in BURIED:
            del self.kept[entry.id]
            self.widen()
            return "bury"
        if status in (401, 403):
            what = "kid" if status == 401 else "tenant"
            group = next(g for g in entry.groups if g[0] == what)
            entry.state, entry.parked_in = "parked", group
            if group not in self.blocked:
                self.blocked.append(group)
            return "pause"
        if status != 429 and event.get("cancelled") != "true":
            self.width = 1
        self.later(entry, event)
        return "later"

    def later(self, entry: Kept, event: dict[str, str]) -> None:
        u = double.value(int(event["u"], 16))
        bound = min(BASE_MS * 2**entry.tries, CAP_MS)
        entry.floor_ms = int(event["now_ms"]) + int(event.get("retry_after_ms", "0"))
        entry.due_ms = entry.floor_ms + (u * bound).__floor__()
        entry.tries += 1
        entry.state = "waiting"

    def hold(self, entry: Kept, at: Place) -> None:
        entry.state = "held"
        self.holding.at[entry.id] = at

    def hear(self, found: Place | None) -> None:
        """Let a watermark decide about every entry that is held (11.25, 11.28)."""
        if found is None or not self.holding.learn(found):
            return
        for name, fate in self.holding.fates().items():
            if fate == "stay":
                continue
            del self.holding.at[name]
            if fate == "release":
                del self.kept[name]
                self.released.append(name)
            else:
                entry = self.kept[name]
                entry.state, entry.due_ms, entry.floor_ms, entry.tries = "waiting", 0, 0, 0
                self.again.append(name)

    def status(self, body: bytes) -> None:
        """Hear a region status, one stream after the other (11.29)."""
        for watermark in self.holding.watermarks(body):
            self.hear(watermark)

    def widen(self) -> None:
        self.width = min(2 * self.width, self.width_max)

    def unblock(self, group: list[str]) -> None:
        if group in self.blocked:
            self.blocked.remove(group)
        for entry in self.kept.values():
            if entry.state == "parked" and entry.parked_in == group:
                entry.state, entry.parked_in = "waiting", None

    def hurry(self) -> None:
        """End pauses and own waits, not those that a server asked for."""
        for group in list(self.blocked):
            self.unblock(group)
        for entry in self.kept.values():
            if entry.state == "waiting":
                entry.due_ms = entry.floor_ms


def play(args: dict[str, Any]) -> dict[str, Any]:
    width = int(args["width_max"])
    sending = Sending(width, width, args.get("durability") == "replicated")
    return {"steps": [sending.step(event) for event in args["events"]]}
