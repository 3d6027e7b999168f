"""Write traces of single records in which anything may be wrong."""

from __future__ import annotations

import random
from typing import Any

from traces import MS, Book, S, content, frame

Events = list[dict[str, Any]]

REGIONS = ("euw", "use", "apx")
PROMISES: dict[str, Any] = {
    "steady_s": 3, "rto_s": 5, "rpo_s": 3, "rpo_work_s": 2, "rpo_records": 3,
    "no_loss_at_level": "replicated", "no_loss_end_to_end": True, "digests_equal": True,
    "single_writer": True, "canary": True, "displaced_max": 2, "displaced_min": 2,
    "recovered_late_min": 1, "stale_read_ms_max": 900, "success_share_min": 0.8, "errors_max": 3,
    "write_pause_ms_max": 50, "lag_p99_ms_max": 5, "hlc_ahead_ms_max": 500, "refused_min": 2,
    "residency": True, "evidence": {"canaries": 2},
}  # fmt: skip
MODES = ("strict", "except_displaced", "writes")


class Wild:
    """A trace that grows by chance."""

    def __init__(self, seed: int) -> None:
        self.chance = chance = random.Random(seed)
        self.keys = [f"k{number}" for number in range(chance.randint(1, 12))]
        self.wrong = chance.choice((0.0, 0.05, 0.3))
        promises = PROMISES | {"linearizable": chance.choice(MODES)}
        promises["no_loss_at_level"] = chance.choice(("durable", "replicated", "witnessed"))
        topology = {"placements": {"open": {"regions": list(REGIONS[:2])}, "eu": {}}}
        self.book = Book(promises, topology=topology)
        self.frame_of: dict[str, str] = {}
        self.beaten: dict[str, dict[str, Any]] = {}

    def some(self, key: str) -> str:
        """Give a frame of an id, or sometimes of another."""
        known = self.frame_of.get(key)
        if known is not None and self.chance.random() < self.wrong / 4:
            return f"{known}.00000001"
        if known is None or self.chance.random() < self.wrong:
            return frame(self.chance.choice(REGIONS), self.chance.randint(0, 60))
        return known

    def what(self, key: str) -> str:
        """Give the content of an id, or sometimes another."""
        return content(key if self.chance.random() > self.wrong else self.chance.choice("xy"))

    def moments(self) -> dict[str, int]:
        """Give when an exchange began and returned, with equal times among them."""
        at = self.chance.randint(1, 200) * 100 * MS
        return {"at_ns": at, "call_ns": max(0, at - self.chance.randint(0, 5) * 100 * MS)}

    def put(self) -> None:
        chance = self.chance
        key = chance.choice(self.keys)
        results = ("new", "new", "duplicate", "duplicate", "conflict", "refused", "unknown")
        result = chance.choice(results)
        line: dict[str, Any] = {
            "event": "put", "client": "web", "region": chance.choice(REGIONS), "key": key,
            "content": self.what(key), "bytes": chance.randint(0, 900), "result": result,
            **self.moments(),
        }  # fmt: skip
        if result == "new" and key not in self.frame_of:
            self.frame_of[key] = frame(line["region"], line["at_ns"] // MS)
        if result in ("new", "duplicate") or (result == "conflict" and chance.random() < 0.5):
            line["frame"] = self.some(key)
            if chance.random() < 0.7:
                line["outcome"] = self.what(key)
        if result in ("new", "duplicate") and chance.random() < 0.8:
            stream = f"{line['region']}/open/{chance.randint(1, 2)}"
            line["position"] = f"{stream}/{chance.randint(0, 30)}"
            line["level"] = chance.choice(("durable", "durable", "replicated", "witnessed"))
        if result in ("refused", "conflict") and chance.random() < 0.7:
            line |= {"status": chance.choice((409, 429, 500, 503)), "code": chance.choice("abc")}
        if chance.random() < 0.1:
            line["canary"] = chance.random() < 0.9
        self.book.events.append(line)

    def get(self) -> None:
        chance = self.chance
        key = chance.choice(self.keys)
        result = chance.choice(("present", "present", "absent", "refused", "unknown"))
        line: dict[str, Any] = {
            "event": "get", "client": "web", "region": chance.choice(REGIONS), "key": key,
            "result": result, **self.moments(),
        }  # fmt: skip
        if result == "present" and chance.random() < 0.9:
            line |= {"frame": self.some(key), "outcome": self.what(key)}
        if result == "refused":
            line["status"] = chance.choice((404, 503))
        self.book.events.append(line)

    def call(self) -> None:
        chance = self.chance
        due = chance.randint(0, 400) * 50
        result = chance.choice(("recorded",) * 12 + ("queued", "conflict", "failed"))
        self.book.call(chance.choice(self.keys), due, chance.choice((5, 10, 1_500)), result)
        self.book.events[-1]["client"] = chance.choice(("web", "app"))

    def census(self, name: str, at_ms: int) -> None:
        chance = self.chance
        for key in self.keys if chance.random() < 0.3 else ():
            if key in self.frame_of:
                down = {"frame": self.frame_of[key], "content": content(key), "kind": "displaced"}
                over = {"frame": frame("apx", 70), "content": content("winner")}
                self.beaten[key] = {**over, "overridden": [down]}
        for region in REGIONS[: chance.randint(1, 3)]:
            held = {}
            for key in [*self.keys, "ghost"]:
                if chance.random() < (0.05 if key == "ghost" else 0.8):
                    held[key] = {
                        "frame": self.some(key), "content": self.what(key),
                        "overridden": [self.below(key)] if chance.random() < 0.1 else [],
                        "placement": chance.choice(("open",) * 9 + ("eu",)),
                    }  # fmt: skip
                    if key in self.beaten:
                        held[key] |= self.beaten[key]
            self.book.census(name, at_ms, held, region)

    def below(self, key: str) -> dict[str, str]:
        """Give an overridden write of an id."""
        kind = self.chance.choice(("duplicate", "displaced"))
        return {"frame": self.some(key), "content": self.what(key), "kind": kind}

    def rest(self) -> None:
        """Write the lines that are few."""
        chance, book = self.chance, self.book
        for number in range(chance.randint(0, 3)):
            at_ms = chance.randint(0, 15_000)
            book.fault(at_ms, chance.choice((None, at_ms + 500)), id=f"kill#{number}")
            if chance.random() < 0.5:
                book.add("declared", at_ms + 100, incident=f"kill#{number}")
                book.add("phase", at_ms + 900, incident=f"kill#{number}", phase="detect")
        for _ in range(chance.randint(0, 2)):
            book.add(
                "watermark", 9, region=chance.choice(REGIONS), placement="open", region_epoch=1,
                seq=chance.randint(0, 20),
            )  # fmt: skip
            book.add(
                "audit", 9, region=chance.choice(REGIONS), placement="open", region_epoch=1,
                first=chance.randint(0, 9), count=chance.randint(1, 20),
            )  # fmt: skip
        book.digests("end", 9, euw="a", use=chance.choice("ab"))


def wild(seed: int) -> Events:
    """Write one trace."""
    made = Wild(seed)
    chance = made.chance
    for _ in range(chance.randint(0, 90)):
        chance.choice((made.put, made.put, made.put, made.get, made.call))()
    if chance.random() < 0.4:
        for due in range(0, 20_000, 100):
            made.book.call("k0", due, 10, "failed" if 5_000 <= due < 7_000 else "recorded")
    if chance.random() < 0.5:
        made.census("failover", chance.randint(1_000, 15_000))
    if chance.random() < 0.9:
        made.census("end", chance.choice((19_000, 25_000)))
    made.rest()
    lines = made.book.events[1:]
    if chance.random() < 0.5:
        chance.shuffle(lines)
    events = [made.book.events[0], *lines]
    if chance.random() < 0.95:
        events.append({"event": "end", "at_ns": 30 * S})
    return events
