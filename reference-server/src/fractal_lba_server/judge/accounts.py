"""Keep the books of a trace: every acknowledged write in exactly one class (spec/drills.md 3.6).

The identity owned here is `acked = winner + duplicate + displaced + lost`, for each region and in
total. A write is known by its frame, which its answers name; what became of it is what every
region held at one census.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from .parts import CLASSES, LEVELS, OPEN, POSITIVE, Event


class Ack(NamedTuple):
    """The first answer that acknowledged a frame, and the strongest level that any gave."""

    key: str
    frame: str
    content: str
    size: int
    at_ns: int
    level: str
    position: str | None = None

    @property
    def region(self) -> str:
        """Give the region that first held the write."""
        return self.frame.partition(":")[0]


class Held(NamedTuple):
    """What one region held under one id."""

    frame: str
    content: str
    overridden: tuple[tuple[str, str, str], ...]
    placement: str = OPEN


Census = dict[str, dict[str, Held]]
"""By region, by key."""


@dataclass(slots=True)
class Account:
    """One census seen from the acknowledgements."""

    by_region: dict[str, dict[str, int]] = field(default_factory=dict)
    class_of: dict[str, str] = field(default_factory=dict)
    by_client: set[str] = field(default_factory=set)
    """Lost frames whose content stands as another frame: an outbox sent it again."""

    faults: list[str] = field(default_factory=list)

    def total(self, name: str) -> int:
        """Count a class over all regions."""
        return sum(row.get(name, 0) for row in self.by_region.values())

    @property
    def lost_for_good(self) -> list[str]:
        """Give the lost frames whose content stands nowhere."""
        return [
            frame
            for frame, name in self.class_of.items()
            if name == "lost" and frame not in self.by_client
        ]


def acknowledgements(puts: Iterable[Event], marks: Iterable[Event] = ()) -> dict[str, Ack]:
    """Give by frame what was acknowledged first, with the strongest level that it had.

    A level is what an answer said, or `replicated` where a watermark covers the position.
    """
    covered: dict[str, int] = {}
    for mark in marks:
        stream = f"{mark['region']}/{mark['placement']}/{mark['region_epoch']}"
        covered[stream] = max(mark["seq"], covered.get(stream, -1))
    acks: dict[str, Ack] = {}
    for put in sorted(puts, key=lambda put: int(put["at_ns"])):
        if put["result"] not in POSITIVE or "frame" not in put:
            continue
        frame, level = str(put["frame"]), str(put.get("level", "durable"))
        stream, _, seq = str(put.get("position", "")).rpartition("/")
        if level == "durable" and seq and int(seq) <= covered.get(stream, -1):
            level = "replicated"
        known = acks.get(frame)
        if known is None:
            acks[frame] = Ack(
                put["key"], frame, put["content"], put["bytes"], put["at_ns"], level,
                put.get("position"),
            )  # fmt: skip
        elif LEVELS.index(level) > LEVELS.index(known.level):
            acks[frame] = known._replace(level=level)
    return acks


def censuses(events: Iterable[Event]) -> dict[str, Census]:
    """Gather by name what `census` and `held` lines say; a region that held nothing is there."""
    found: dict[str, Census] = {}
    for event in events:
        if event["event"] == "census":
            found.setdefault(event["census"], {}).setdefault(event["region"], {})
        else:
            others = tuple((o["frame"], o["content"], o["kind"]) for o in event["overridden"])
            placement = event.get("placement", OPEN)
            held = Held(event["frame"], event["content"], others, placement)
            found.setdefault(event["census"], {}).setdefault(event["region"], {})[event["key"]] = (
                held
            )
    return found


def settle(acks: Mapping[str, Ack], census: Census) -> Account:
    """Put every acknowledged frame into one class; what does not add up is a fault."""
    account = Account()
    for ack in acks.values():
        found = {
            name
            for held in (keys.get(ack.key) for keys in census.values())
            for name in ([] if held is None else _classes(ack, held))
        }
        if len(found) > 1:
            account.faults.append(f"{ack.frame} is {' and '.join(sorted(found))} at once")
        name = min(found, default="lost", key=CLASSES.index)
        account.class_of[ack.frame] = name
        row = account.by_region.setdefault(ack.region, dict.fromkeys((*CLASSES, "acked"), 0))
        row["acked"] += 1
        row[name] += 1
        if name == "lost" and _stands(ack, census):
            account.by_client.add(ack.frame)
    for region, row in account.by_region.items():
        if row["acked"] != sum(row[name] for name in CLASSES):
            account.faults.append(f"{region}: {row} does not add up")
    return account


def _classes(ack: Ack, held: Held) -> Sequence[str]:
    """Give each class that one region's record of the id puts the frame into."""
    names = ["winner"] if held.frame == ack.frame else []
    for frame, content, kind in held.overridden:
        if frame != ack.frame:
            continue
        honest = "duplicate" if content == held.content else "displaced"
        names.append(kind)
        if kind != honest:
            names.append(honest)
    return names


def _stands(ack: Ack, census: Census) -> bool:
    return any(keys[ack.key].content == ack.content for keys in census.values() if ack.key in keys)
