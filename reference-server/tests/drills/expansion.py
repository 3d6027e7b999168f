"""Write a trace of runs at random, and the same trace with every record written out."""

from __future__ import annotations

import random
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from zlib import crc32

from traces import MS, Book, S, content

from fractal_lba_server.judge.flows import answer_ns

Stream = tuple[str, int]
"""(region, region_epoch)"""

REGIONS = ("apx", "euw", "use")
LEVELS = ("durable", "replicated", "witnessed")
LONGEST = 6


@dataclass
class Both:
    """One history in both forms."""

    chance: random.Random
    promises: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        topology = {"placements": {"open": {"regions": list(REGIONS)}}}
        self.runs = Book(self.promises, topology=topology)
        self.single = Book(self.promises, topology=topology)
        self.keys: dict[tuple[Stream, int], str] = {}
        self.next: dict[Stream, int] = {}
        self.now_ns = 0
        self.split_off = False
        self.overrides = self.chance.random() < 0.7

    def flow(self, result: str, stream: Stream, first: int | None, count: int, **m: Any) -> None:
        """Write one flow, and the puts that it stands for."""
        chance = self.chance
        first_ns = self.now_ns + chance.randint(0, S)
        last_ns = first_ns + (0 if count == 1 else chance.randint(0, 3 * S))
        took_ns = chance.randint(1, 400) * MS
        self.now_ns = last_ns
        region = m.pop("region", stream[0])
        flow: dict[str, Any] = {
            "first_ns": first_ns, "client": region, "region": region, "placement": "open",
            "region_epoch": stream[1], "count": count, "bytes": chance.randint(0, 5000),
            "result": result, "took_ns": took_ns, **m,
        }  # fmt: skip
        if first is not None:
            flow["first"] = first
        if region != stream[0]:
            flow["of"] = stream[0]
        self.runs.events.append({"event": "flow", "at_ns": last_ns, **flow})
        for place in range(count):
            self._put(flow | {"at_ns": last_ns}, stream, first, place)

    def _put(self, flow: dict[str, Any], stream: Stream, first: int | None, place: int) -> None:
        number = None if first is None else first + place
        key = f"nobody-{flow['first_ns']}-{place}"
        put: dict[str, Any] = {}
        if number is not None:
            key = self.key(stream, number)
            if flow["result"] != "unknown":
                put = {"frame": self.frame(stream, number)}
                put["position"] = f"{stream[0]}/open/{stream[1]}/{number}"
        put |= {name: flow[name] for name in ("status", "level", "canary") if name in flow}
        at_ns = answer_ns(flow, place)
        size = flow["bytes"]
        self.single.events.append(
            {
                "event": "put", "at_ns": at_ns, "client": flow["client"],
                "region": flow["region"], "key": key, "content": content(key),
                "bytes": (place + 1) * size // flow["count"] - place * size // flow["count"],
                "call_ns": at_ns - flow["took_ns"], "result": flow["result"], **put,
            }
        )  # fmt: skip

    def key(self, stream: Stream, number: int) -> str:
        """Give the id of a number."""
        return self.keys.setdefault((stream, number), f"{stream[0]}.{stream[1]}.{number}")

    @staticmethod
    def frame(stream: Stream, number: int) -> str:
        """Give the frame of a number."""
        return f"{stream[0]}:{stream[1] * 1000 + number:016x}"

    def both(self, event: str, at_ns: int, **members: Any) -> None:
        """Write a line into both."""
        for book in (self.runs, self.single):
            book.events.append({"event": event, "at_ns": at_ns, **members})

    def take(self, stream: Stream, count: int) -> int:
        """Give the next numbers of a stream."""
        first = self.next.get(stream, self.chance.randint(0, 2))
        self.next[stream] = first + count
        return first

    def census(self, name: str) -> None:
        """Have regions hold what they hold by chance."""
        chance = self.chance
        numbers = sorted(self.keys) + [
            ((stream, self.next[stream] + 3), "ghost")[0]
            for stream in sorted(self.next)
            if chance.random() < 0.1
        ]
        share, split = chance.random(), chance.random() < 0.2
        fates: dict[str, str] = {}
        for region in chance.sample(REGIONS, chance.randint(1, 3)):
            self.both("census", self.now_ns, census=name, region=region, keys=0)
            shown: dict[str, list[tuple[Stream, int]]] = {}
            for stream, number in numbers:
                if chance.random() < share:
                    shown.setdefault(self.key(stream, number), []).append((stream, number))
            for key, held in shown.items():
                fate = chance.choice(("winner", "winner", "duplicate", "displaced"))
                fate = fate if self.overrides else "winner"
                fate = fate if split else fates.setdefault(key, fate)
                self._hold(name, region, key, held, fate)

    def _hold(
        self, census: str, region: str, key: str, held: list[tuple[Stream, int]], fate: str
    ) -> None:
        """Have one region hold the numbers of one id, the first of them in a class."""
        other = content(f"other-{key}") if fate == "displaced" else content(key)
        rest = "displaced" if fate == "displaced" else "duplicate"
        classes = [fate, *(rest for _ in held[1:])]
        standing = self.frame(*held[0]) if fate == "winner" else f"zzz:{crc32(key.encode()):016x}"
        overridden = [
            {"frame": self.frame(*place), "content": content(key), "kind": name}
            for place, name in zip(held, classes, strict=True)
            if name != "winner"
        ]
        line = {"at_ns": self.now_ns, "census": census, "region": region, "placement": "open"}
        self.single.events.append(
            {"event": "held", "key": key, "frame": standing, "content": other,
             "overridden": overridden, **line}
        )  # fmt: skip
        for (stream, number), name in zip(held, classes, strict=True):
            self.runs.events.append(
                {"event": "span", "of": stream[0], "region_epoch": stream[1], "first": number,
                 "count": 1, "class": name, **line}
            )  # fmt: skip


def history(seed: int) -> Both:
    """Write a history of a few flows, faults and censuses."""
    chance = random.Random(seed)
    both = Both(chance)
    sent: list[tuple[Stream, int, int]] = []
    for number in range(chance.randint(1, 14)):
        stream = (chance.choice(REGIONS), chance.choice((1, 2)))
        count = chance.randint(1, LONGEST)
        level = {"level": chance.choice(LEVELS)}
        kind = chance.random()
        if kind < 0.12:
            both.flow("refused", stream, None, count, **chance.choice(({}, {"status": 503})))
        elif kind < 0.2:
            both.flow("unknown", stream, both.take(stream, count), count)
        elif kind < 0.4 and sent:
            source, first, length = chance.choice(sent)
            part = chance.randint(1, length)
            more = {"canary": True} if chance.random() < 0.5 else {}
            both.flow("duplicate", source, first, part, region=stream[0], **level, **more)
        elif kind < 0.55 and sent:
            (region, epoch), old, length = chance.choice(sent)
            first = both.take(stream, length)
            for place in range(length):
                both.keys[stream, first + place] = both.key((region, epoch), old + place)
            again = {"region": region, "region_epoch": epoch, "first": old}
            both.flow("new", stream, first, length, again=again, **level)
            sent.append((stream, first, length))
        elif kind < 0.65:
            at_ns = max(0, both.now_ns - chance.randint(0, S))
            both.both("fault", at_ns, id=f"f{number}", kind="region-down", state="injected")
        elif kind < 0.7 and not both.split_off:
            both.split_off = True
            both.census("failover")
        else:
            first = both.take(stream, count)
            both.flow("new", stream, first, count, **level)
            sent.append((stream, first, count))
        if chance.random() < 0.1:
            mark = {"region": stream[0], "placement": "open", "region_epoch": stream[1]}
            both.both("watermark", both.now_ns, **mark, seq=chance.randint(0, 9))
    both.census("end")
    return both
