"""Planted: an answer before the disk, the signature or the store has spoken."""

from __future__ import annotations

from typing import Any, Final

from fractal_lba_server.core.ingest import Ingest, _Candidate
from fractal_lba_server.core.ingest_events import (
    Answer,
    BodyReceived,
    Effect,
    StoreAnswered,
)
from fractal_lba_server.core.replication import TailGrown
from fractal_lba_server.core.streams import Entry

from ...exact.disk import Disk
from ...exact.wal import Wal
from ...waiting import NS_PER_S
from .bug import bug

POWER: Final = ("region-down", "unsynced-lost", "disk-torn", "process-kill", "partition")
"""Ways for a machine to end, and one that has nothing to do with it."""


@bug(
    "acknowledged-before-fsync", "a record is acknowledged when its frame is handed to the log",
    base="alone", part="ingest", kinds=(*POWER[:-1], "disk-slow"),
    found_by=("no_loss_at_level", "linearizable", "no_loss_end_to_end"),
)  # fmt: skip
class AnswersBeforeTheSync(Ingest):
    """Acknowledges as soon as the frame is handed over."""

    def _decide(self, candidate: _Candidate, now_ns: int) -> list[Effect]:
        effects = super()._decide(candidate, now_ns)
        entry = self._recent.get(candidate.key)
        if entry is not None and not entry.durable:
            entry.waiters.clear()
            effects.append(Answer(candidate.token, entry.stored, False, entry.key))
        return effects


WRITTEN_BACK_NS: Final = 30 * NS_PER_S
"""When a system writes a directory that nobody asked it to."""


@bug(
    "directory-not-synced", "a new segment is synced and the directory that names it is not",
    hazard="H58", base="alone", part="disk", kinds=("region-down", "unsynced-lost", "disk-slow"),
    found_by=("no_loss_at_level", "linearizable", "no_loss_end_to_end"),
)  # fmt: skip
class ForgetfulDirectory(Disk):
    """Keeps a new file only if its directory was synced, which nobody does."""

    def write(self, name: str, offset: int, data: bytes) -> None:
        super().write(name, offset, data)
        self._born.setdefault(name, self.agenda.now_ns)

    @property
    def _born(self) -> dict[str, int]:
        born: dict[str, int] = self.__dict__.setdefault("_born_at", {})
        return born

    def lose_power(self, *, torn: bool) -> None:
        super().lose_power(torn=torn)
        for name, at_ns in list(self._born.items()):
            if self.agenda.now_ns - at_ns < WRITTEN_BACK_NS and name in self.files:
                self.counts["lost_bytes"] += len(self.files[name].data)
                del self.files[name]
                del self._born[name]


@bug(
    "check-then-act", "two submissions of one id are each told that they are the first",
    base="alone", part="ingest", kinds=("disk-slow", "delay", "process-pause"),
    found_by=("linearizable", "accounting", "answers"),
)  # fmt: skip
class ChecksThenActs(Ingest):
    """Asks the store, and decides on its answer whatever has happened since."""

    def _look_up(self, candidate: _Candidate, now_ns: int) -> list[Effect]:
        return self._ask(candidate.key, candidate)

    def _on_store_answer(self, event: StoreAnswered, now_ns: int) -> list[Effect]:
        effects: list[Effect] = []
        askers = self._asking.pop(event.key)
        for asker in askers:
            if isinstance(asker, _Candidate) and event.stored is None:
                effects += self._decide(asker, now_ns)
            else:
                self._asking[event.key] = [asker]
                effects += super()._on_store_answer(event, now_ns)
        return effects

    def _let_go(self, entry: Entry) -> None:
        entry.rows -= 1
        if entry.rows <= 0:
            self._recent.pop(entry.key, None)


@bug(
    "verified-after-acknowledging", "a record is acknowledged and its signature checked later",
    hazard="H46", base="pair-keys", part="ingest", kinds=("key-wrong", "delay", "process-kill"),
    found_by=("digests_equal", "no_loss_at_level", "no_loss_end_to_end"),
)  # fmt: skip
class VerifiesLater(Ingest):
    """Acknowledges first and looks at the signature afterwards, if at all."""

    def _on_body(self, event: BodyReceived, now_ns: int) -> list[Effect]:
        reason = self._gate(now_ns)
        if reason is not None:
            return super()._on_body(event, now_ns)
        return self._on_authentic(self._read(event, now_ns), now_ns)


@bug(
    "key-without-tenant", "an id of one tenant is taken for that of another", hazard="H15",
    base="tenants", part="ingest", kinds=("disk-slow", "process-kill"),
    found_by=("linearizable", "answers", "no_loss_end_to_end", "phantom"),
)  # fmt: skip
class OneNamespace(Ingest):
    """Knows an id by itself, whoever sends it."""

    _first: str | None = None

    def _read(self, event: BodyReceived, now_ns: int) -> Any:
        candidate = super()._read(event, now_ns)
        self._first = self._first or candidate.key[0]
        return candidate._replace(key=(self._first, candidate.key[1]))


@bug(
    "replicated-before-durable", "a frame is shipped before the disk of its own region has it",
    part="wal", kinds=("region-down", "unsynced-lost", "disk-slow", "delay"),
    found_by=("digests_equal", "linearizable", "phantom", "no_loss_at_level", "answers"),
)  # fmt: skip
class ShipsUnsynced(Wal):
    """Offers a frame to the peers when it is written, not when it is durable."""

    def sync(self, first: int, seq: int) -> None:
        size = len(self.segments.file(first).data)
        self._on_tail(TailGrown(first, size, seq))
        super().sync(first, seq)
