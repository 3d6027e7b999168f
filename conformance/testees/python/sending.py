"""Operation `outbox.step`: histories of an outbox's schedule (`spec/formats.md` 13.12, 13.15)."""

from __future__ import annotations

from collections.abc import Mapping

from signing import Members, double

from fractal_lba.held import Fate, Held, Moved, judge_recorded
from fractal_lba.outbox import Entry, hold_of
from fractal_lba.outcome import FirstSeen, Outcome, Position, Raw, Submitted
from fractal_lba.region_status import RegionStatus, read_region_status, watermark_of
from fractal_lba.schedule import Acknowledge, Bury, Hold, Later, Pause, Schedule, Verdict, judge

OUTCOME = Outcome(
    accepted=True,
    escalated=False,
    first_seen=FirstSeen("eu1", "0" * 16),
    pcs_id="0" * 64,
    policy_version="0" * 16,
    reason=None,
    recomputed_D_hat=0.0,
    recomputed_budget=0.0,
)


class History:
    """A schedule, what is held, and the entries that they were told about."""

    def __init__(self, width_max: int, level: str | None) -> None:
        self.schedule = Schedule(width_max=width_max)
        self.held = Held()
        self.level = level
        self.entries: dict[str, Entry] = {}
        self.heard = Moved()

    def step(self, event: Mapping[str, str]) -> Members:
        """Play one event."""
        self.heard = Moved()
        answer = self.played(event)
        blocked = sorted([what, name] for what, name in self.schedule.blocked)
        answer |= {"in_flight": str(self.schedule.in_flight), "blocked": blocked}
        if self.level is not None:
            answer["held"] = sorted([id, str(position)] for id, position in self.held.items())
            answer["released"] = sorted(self.heard.released)
            answer["again"] = sorted(self.heard.again)
        return answer

    def played(self, event: Mapping[str, str]) -> Members:
        """Play one event on the schedule or on what is held."""
        answer: Members = {}
        if event["event"] == "put":
            self.put(event)
        elif event["event"] == "take":
            now_ms, limit = int(event["now_ms"]), int(event["limit"])
            bytes_max = int(event["bytes_max"])
            answer["taken"] = self.schedule.take(now_ms, limit=limit, bytes_max=bytes_max)
        elif event["event"] == "answer":
            self.hear(event.get("replicated"))
            answer["verdict"] = self.answered(event)
        elif event["event"] == "heard":
            self.hear(event["value"])
        elif event["event"] == "status":
            self.learn(read_region_status(bytes.fromhex(event["body"])))
        else:
            self.schedule.resume()
            self.schedule.hurry()
        return answer

    def hear(self, value: str | None) -> None:
        """Hear the watermark of an answer."""
        self.learn(None if value is None else watermark_of([("PCS-Replicated", value)]))

    def learn(self, news: Position | RegionStatus | None) -> None:
        """Take in news as the outbox does."""
        if news is not None:
            self.heard = self.held.hear(news)
            for id in self.heard.again:
                self.schedule.add(self.entries[id])

    def put(self, event: Mapping[str, str]) -> None:
        """Take a new entry in."""
        entry = Entry(
            event["id"], "", event.get("kid"), event.get("tenant"), 0, "", 0, int(event["length"])
        )
        self.entries[entry.id] = entry
        position = hold_of({"position": event.get("hold")})
        if position is None:
            self.schedule.add(entry, in_flight=event["in_flight"] == "true")
        else:
            self.held.add(entry.id, position)

    def answered(self, event: Mapping[str, str]) -> str:
        """Carry out on the schedule what the end of a delivery means, as the outbox does."""
        schedule, entry = self.schedule, self.entries[event["id"]]
        verdict = self.verdict(event)
        if isinstance(verdict, Hold):
            fate = self.held.fate(verdict.position)
            if fate is Fate.PASSED:
                verdict = Later(endpoint_down=False)
            elif fate is Fate.OPEN:
                self.held.add(entry.id, verdict.position)
        if isinstance(verdict, Acknowledge | Hold):
            schedule.drop(entry.id)
            schedule.delivered()
            schedule.resume_for(entry)
            return "hold" if entry.id in self.held else "acknowledge"
        if isinstance(verdict, Bury):
            schedule.delivered()
            schedule.drop(entry.id)
            return "bury"
        if isinstance(verdict, Pause):
            schedule.pause(entry.id, verdict.what)
            return "pause"
        schedule.postpone(entry.id, verdict, int(event["now_ms"]), double(event["u"]))
        return "later"

    def verdict(self, event: Mapping[str, str]) -> Verdict:
        """Judge the end of a delivery."""
        status = int(event["status"]) if "status" in event else None
        if status in (200, 202):
            return judge_recorded(submitted_of(status, event), self.level or "durable")
        told, cancelled = event.get("retry_after_ms"), event.get("cancelled") == "true"
        retry_after_ms = None if told is None else int(told)
        return judge(status, "any", "any", b"", retry_after_ms=retry_after_ms, cancelled=cancelled)


def submitted_of(status: int, event: Mapping[str, str]) -> Submitted:
    """Give an answer with these headers."""
    places = [event.get(name) for name in ("position", "replicated")]
    position, replicated = (None if text is None else Position.parse(text) for text in places)
    level, raw = event.get("level", "durable"), Raw(status, {}, b"")
    return Submitted(OUTCOME, False, level, position, raw, replicated=replicated)


def stepped(args: Members) -> Members:
    """outbox.step."""
    history = History(int(args["width_max"]), args.get("durability"))
    return {"steps": [history.step(event) for event in args["events"]]}


OPS = {"outbox.step": stepped}
