"""Judges a history of regions by what clients heard and what the disks hold, nothing else.

It has its own first write: the smallest (hybrid time, rank, region epoch, number) of all frames
on all disks. The machine's idea of it is what is on trial.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import reduce
from typing import TYPE_CHECKING, Any, NamedTuple

from fractal_lba_server.core.facts import Facts
from fractal_lba_server.core.first_write import Apply, Key, Stored
from fractal_lba_server.core.ingest_events import Answer, Refuse
from fractal_lba_server.core.state_digest import NOTHING, StateDigest, Sum, total_of

if TYPE_CHECKING:
    from region_world import Disk


class FaultError(AssertionError):
    """What the judge says of a history that must not be."""


def expect(holds: bool, rule: str) -> None:
    """Raise unless a rule holds."""
    if not holds:
        raise FaultError(rule)


class Store:
    """The index of a region as its interface promises: rows in order, all of them or a prefix."""

    def __init__(self, rows: Iterable[Apply] = ()) -> None:
        self.rows: list[Apply] = []
        self.standing: dict[Key, Stored] = {}
        self.overridden: dict[Key, list[Stored]] = {}
        self.digest = StateDigest()
        self._applied: Counter[str] = Counter()
        for row in rows:
            self.apply(row)

    def has(self, stored: Stored) -> bool:
        """Tell whether a frame of a stream is applied."""
        return stored.seq <= self._applied[stored.origin.region]

    def others(self, key: Key) -> tuple[Stored, ...]:
        """Give what does not stand under an id."""
        return tuple(self.overridden.get(key, ()))

    def apply(self, row: Apply) -> None:
        """Carry out one row; one that is here already changes nothing."""
        stored = row.stored
        if self.has(stored):
            return
        self._applied[stored.origin.region] += 1
        expect(
            stored.seq == self._applied[stored.origin.region], "a stream has no gap in the store"
        )
        standing = self.standing.get(row.key)
        if row.wins:
            expect(standing == row.replaced, "a row replaces what stands")
            self.standing[row.key] = stored
        else:
            expect(standing is not None, "what is overridden is so by something")
        loser = row.replaced if row.wins else stored
        if loser is not None:
            self.override(row.key, loser)
        self.rows.append(row)
        self.digest.apply(row)

    def override(self, key: Key, loser: Stored) -> None:
        """Keep what does not stand."""
        self.overridden.setdefault(key, []).append(loser)

    def reopened(self, *, lost: int) -> Store:
        """Give what is left after a crash that lost the last rows."""
        return type(self)(self.rows[: len(self.rows) - lost] if lost else self.rows)


class Asked(NamedTuple):
    """A submission on its way."""

    region: str
    key: Key
    content: str
    level: str


@dataclass(slots=True)
class Judge:
    """What clients sent and heard, and what regions told one another."""

    codes: tuple[str, ...]
    rank: Callable[[str], int]
    disks: dict[str, Disk] = field(default_factory=dict)
    waiting: dict[int, Asked] = field(default_factory=dict)
    answers: dict[int, Answer | Refuse] = field(default_factory=dict)
    acknowledged: list[tuple[Asked, Stored]] = field(default_factory=list)
    displaced: list[tuple[Asked, str]] = field(default_factory=list)
    known: dict[tuple[str, Key], Stored] = field(default_factory=dict)
    latest: dict[str, int] = field(default_factory=dict)
    told: dict[str, set[int]] = field(default_factory=dict)
    """Numbers of a region's frames of which a peer has said that they lost there."""
    winners: dict[Key, Stored] = field(default_factory=dict)
    classes: Counter[str] = field(default_factory=Counter)
    sent: int = 0

    def order(self, stored: Stored) -> tuple[int, int, int, int]:
        """Give the place of a frame among the first writes."""
        origin = stored.origin
        return stored.hlc, self.rank(origin.region), origin.region_epoch, stored.seq

    # --- while it runs

    def asked(self, token: int, region: str, key: Key, content: str, level: str) -> None:
        """Note a submission."""
        self.sent += 1
        self.waiting[token] = Asked(region, key, content, level)

    def crashed(self, region: str) -> None:
        """Forget who waited for a process that has ended, and what that was told."""
        self.told.pop(region, None)
        for token in [one for one, asked in self.waiting.items() if asked.region == region]:
            del self.waiting[token]

    def writes(self, region: str, stamp: int) -> None:
        """Note the time of a new frame: later than all that was read or merged before it."""
        expect(stamp > self.latest.get(region, 0), "what follows an answer is later")

    def merged(self, region: str, frames: Iterable[Facts]) -> None:
        """Note that a region has told a peer that it has merged these frames."""
        for facts in frames:
            self._knows(region, facts.key, facts.stored)

    def acked(self, region: str, displaced: Iterable[int]) -> None:
        """Note that a region was told of frames of its own that lost elsewhere."""
        self.told.setdefault(region, set()).update(displaced)

    def _knows(self, region: str, key: Key, stored: Stored) -> None:
        known = self.known.get((region, key))
        if known is None or self.order(stored) < self.order(known):
            self.known[region, key] = stored
        self.latest[region] = max(self.latest.get(region, 0), stored.hlc)

    def hears(self, region: str, effect: Answer | Refuse) -> None:
        """Hold one answer against all that came before, and against the disks."""
        token: Any = effect.token
        expect(token in self.waiting and token not in self.answers, "one answer per request")
        asked = self.waiting.pop(token)
        self.answers[token] = effect
        stored = effect.stored
        if stored is not None:
            expect(self._is_durable(region, stored), "what is answered is durable here")
        if isinstance(effect, Answer):
            self._hears_success(asked, effect)
        elif effect.code == "pcs_id_conflict":
            self._hears_conflict(asked, effect)
        else:
            expect(effect.code == "unavailable", "the genuine are refused for a reason")

    def _is_durable(self, region: str, stored: Stored) -> bool:
        return self.disks[region].holds(stored.origin.region, stored.seq)

    def _hears_success(self, asked: Asked, effect: Answer) -> None:
        region, key, content, level = asked
        stored = effect.stored
        expect(stored.content == content, "a success is of what was sent")
        expect(level in (effect.level, "durable"), "the level asked for is reached")
        if effect.level == "replicated":
            copies = sum(self._is_durable(code, stored) for code in self.codes)
            expect(copies >= 2, "replicated is on two disks")
            is_ours = stored.origin.region == region
            lost = is_ours and stored.seq in self.told.get(region, ())
            expect(not lost, "replicated is not what lost elsewhere")
        known = self.known.get((region, key))
        if known is not None:
            expect(self.order(stored) <= self.order(known), "what is answered is what stands")
        self._knows(region, key, stored)
        self.acknowledged.append((asked, stored))

    def _hears_conflict(self, asked: Asked, effect: Refuse) -> None:
        extras = effect.extras or {}
        if extras.get("displaced"):
            self.displaced.append((asked, extras["first_acked"]))
        if "winner" in extras or not extras:
            others = {
                facts.stored.content
                for facts in self.disks[asked.region].frames()
                if facts.key == asked.key
            }
            expect(bool(others - {asked.content}), "a conflict is with what is durable here")

    # --- when everything is healed

    def judge_convergence(self) -> None:
        """Hold what every region has come to against the disks."""
        frames: dict[Key, dict[str, Stored]] = {}
        for disk in self.disks.values():
            for facts in disk.frames():
                name = _name(facts.stored)
                known = frames.setdefault(facts.key, {}).setdefault(name, facts.stored)
                expect(known == facts.stored, "a frame is the same on all disks")
        self.winners = {key: min(of.values(), key=self.order) for key, of in frames.items()}
        whole = total_of(self.winners.items())
        for disk in self.disks.values():
            for peer, mirror in disk.mirrors.items():
                expect(mirror == self.disks[peer].log, "mirrors are whole")
            expect(disk.store.standing == self.winners, "the first write stands everywhere")
            found = reduce(Sum.add, disk.store.digest.windows(1 << 48).values(), NOTHING)
            expect(found == whole, "state digests are equal")
            for key, of in frames.items():
                others = {_name(stored) for stored in disk.store.others(key)}
                expect(
                    others == of.keys() - {_name(self.winners[key])},
                    "what does not stand is kept as overridden",
                )
        self._account(frames)

    def _account(self, frames: dict[Key, dict[str, Stored]]) -> None:
        for asked, stored in self.acknowledged:
            self.classes[self._class_of(asked.key, stored, frames)] += 1
        total = sum(self.classes.values())
        expect(total == len(self.acknowledged), "each acknowledgement is of one class")
        expect(not self.classes["lost"], "no acknowledged record is lost")
        for asked, name in self.displaced:
            first = frames[asked.key].get(name)
            expect(first is not None, "a displaced record was recorded")
            expect(first is not None and first.content == asked.content, "it is one's own position")
            expect(first != self.winners[asked.key], "what is called displaced does not stand")

    def _class_of(self, key: Key, stored: Stored, frames: dict[Key, dict[str, Stored]]) -> str:
        if frames.get(key, {}).get(_name(stored)) != stored:
            return "lost"
        winner = self.winners[key]
        if stored == winner:
            return "winner"
        return "duplicate" if stored.content == winner.content else "displaced"

    def judge_healed(self, key: Key, content: str, tokens: list[int]) -> None:
        """Hold what healed regions answer to one content: the same, everywhere."""
        winner = self.winners[key]
        acked = [s for asked, s in self.acknowledged if asked.key == key and s.content == content]
        for token in tokens:
            answer = self.answers.get(token)
            expect(answer is not None, "every request has its answer")
            if content == winner.content:
                expect(
                    isinstance(answer, Answer) and answer.stored == winner and answer.replayed,
                    "the outcome that stands is answered everywhere",
                )
                continue
            expect(
                isinstance(answer, Refuse) and answer.code == "pcs_id_conflict",
                "other content is refused everywhere",
            )
            extras = getattr(answer, "extras", None) or {}
            if acked:
                expect(extras.get("displaced") is True, "the displaced are told so everywhere")


def _name(stored: Stored) -> str:
    return "/".join(map(str, (*stored.origin, stored.seq)))
