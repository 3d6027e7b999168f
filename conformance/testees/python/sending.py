"""Operation `outbox.step`: histories of an outbox's schedule (`spec/formats.md` 13.12)."""

from __future__ import annotations

from collections.abc import Mapping

from signing import Members, double

from fractal_lba.outbox import Entry
from fractal_lba.schedule import Bury, Later, Pause, Schedule, judge


class History:
    """A schedule, and the entries it was told about."""

    def __init__(self, width_max: int) -> None:
        self.schedule = Schedule(width_max=width_max)
        self.entries: dict[str, Entry] = {}

    def step(self, event: Mapping[str, str]) -> Members:
        """Play one event."""
        answer: Members = {}
        if event["event"] == "put":
            self.put(event)
        elif event["event"] == "take":
            now_ms, limit = int(event["now_ms"]), int(event["limit"])
            bytes_max = int(event["bytes_max"])
            answer["taken"] = self.schedule.take(now_ms, limit=limit, bytes_max=bytes_max)
        elif event["event"] == "answer":
            answer["verdict"] = self.answered(event)
        else:
            self.schedule.resume()
            self.schedule.hurry()
        blocked = sorted([what, name] for what, name in self.schedule.blocked)
        return {**answer, "in_flight": str(self.schedule.in_flight), "blocked": blocked}

    def put(self, event: Mapping[str, str]) -> None:
        """Take a new entry in."""
        entry = Entry(
            event["id"], "", event.get("kid"), event.get("tenant"), 0, "", 0, int(event["length"])
        )
        self.entries[entry.id] = entry
        self.schedule.add(entry, in_flight=event["in_flight"] == "true")

    def answered(self, event: Mapping[str, str]) -> str:
        """Carry out on the schedule what the end of a delivery means, as the outbox does."""
        schedule, entry = self.schedule, self.entries[event["id"]]
        status = int(event["status"]) if "status" in event else None
        if status in (200, 202):
            schedule.drop(entry.id)
            schedule.delivered()
            schedule.resume_for(entry)
            return "acknowledge"
        told, cancelled = event.get("retry_after_ms"), event.get("cancelled") == "true"
        retry_after_ms = None if told is None else int(told)
        verdict = judge(
            status, "any", "any", b"", retry_after_ms=retry_after_ms, cancelled=cancelled
        )
        if isinstance(verdict, Bury):
            schedule.delivered()
            schedule.drop(entry.id)
            return "bury"
        if isinstance(verdict, Pause):
            schedule.pause(entry.id, verdict.what)
            return "pause"
        assert isinstance(verdict, Later)
        schedule.postpone(entry.id, verdict, int(event["now_ms"]), double(event["u"]))
        return "later"


def stepped(args: Members) -> Members:
    """outbox.step."""
    history = History(int(args["width_max"]))
    return {"steps": [history.step(event) for event in args["events"]]}


OPS = {"outbox.step": stepped}
