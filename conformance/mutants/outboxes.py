"""Family B: other ways to keep records until they are acknowledged (formats 11)."""

from __future__ import annotations

import struct
import zlib
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from fractal_lba import call, canonical, deliver, held, journal, logs, outbox, schedule, spool
from fractal_lba.held import Fate, Held
from fractal_lba.http import RawResponse
from fractal_lba.outbox import DeadLetter, Letter, Recovery, Scan
from fractal_lba.outcome import Position
from fractal_lba.region_status import read_region_status, watermark_of
from fractal_lba.schedule import Acknowledge, Bury, Verdict
from fractal_lba.sign import SignedRecord

from .patching import Patch, mutation


@mutation("B01")
def sent_before_sync(patch: Patch) -> None:
    patch.set(journal.LogFile, "sync", lambda self: None)


@mutation("B02")
def names_not_synced(patch: Patch) -> None:
    """Sync what files hold, and never the directory."""
    right = journal.LogFile.__init__

    class Forgetful:
        def __init__(self, files: Any) -> None:
            self._files = files

        def __getattr__(self, name: str) -> Any:
            return (lambda: None) if name == "fsync_dir" else getattr(self._files, name)

    def built(self: Any, files: Any, lock: Any) -> None:
        right(self, Forgetful(files), lock)

    patch.set(journal.LogFile, "__init__", built)


@mutation("B03")
def torn_tail_drops_file(patch: Patch) -> None:
    right = outbox.scan

    def scan(data: bytes) -> Scan:
        found = right(data)
        return found if found.torn_at is None else replace(found, frames=())

    patch.swap(right, scan)


@mutation("B04")
def checksum_ignored(patch: Patch) -> None:
    """Read a frame as if its checksum were right, whatever it is."""
    right = outbox.read_frame

    def read_frame(data: bytes, offset: int = 0) -> Any:
        start = offset + 8
        if start > len(data):
            return None
        (length,) = struct.unpack_from(">I", data, offset)
        text = data[start : start + length]
        whole = data[offset : offset + 4] + struct.pack(">I", zlib.crc32(text)) + text
        found = right(whole)
        return None if found is None else replace(found, offset=offset)

    patch.swap(right, read_frame)


def releases(id: str, mark: str) -> None:
    """Register a mutant that takes a mark for an acknowledgement."""

    @mutation(id)
    def change(patch: Patch) -> None:
        right = Recovery.feed

        def feed(self: Recovery, name: str, data: bytes, *, last: bool) -> None:
            right(self, name, data, last=last)
            for framed in outbox.scan(data).frames:
                if framed.value["t"] == mark:
                    self.entries.pop(framed.value["id"], None)

        patch.set(Recovery, "feed", feed)


releases("B05", "hold")
releases("B06", "sent")


@mutation("B07")
def expired_is_sent(patch: Patch) -> None:
    right = spool.Outbox.__init__

    def built(self: Any, *args: Any, **options: Any) -> None:
        right(self, *args, **{**options, "max_age_ms": 2**62})

    patch.set(spool.Outbox, "__init__", built)


@mutation("B08")
def refused_keys_are_buried(patch: Patch) -> None:
    right = schedule.judge

    def judge(status: int | None, code: str, reason: str, body: bytes, **facts: Any) -> Any:
        if status == 401:
            return Bury(status, code, reason)
        return right(status, code, reason, body, **facts)

    patch.swap(right, judge)


@mutation("B09")
def full_drops_oldest(patch: Patch) -> None:
    def check_room(self: Any, body_bytes: int) -> None:
        if len(self._entries) + len(self._dead) >= self._max_entries:
            self._forget(next(iter(self._entries.values())))

    patch.set(spool.Outbox, "_check_room", check_room)


@mutation("B10")
def body_written_again(patch: Patch) -> None:
    """Read the kept body and write it anew before it is sent."""

    def signed_of(letter: Letter) -> SignedRecord:
        record = canonical.parse(letter.body)
        record["ft"] = {**record["ft"], "outbox_seq": int(letter.id, 16)}
        return SignedRecord(canonical.jcs(record), letter.pcs_id, letter.key, {})

    patch.swap(deliver.signed_of, signed_of)


@mutation("B11")
def ids_repeat(patch: Patch) -> None:
    """Take the next id from the entries that live, not from all that were ever given."""
    patch.set(Recovery, "_see", lambda self, name: None)
    right = Recovery.feed

    def feed(self: Recovery, name: str, data: bytes, *, last: bool) -> None:
        right(self, name, data, last=last)
        for id in self.entries:
            self.next_id = max(self.next_id, int(id, 16) + 1)

    patch.set(Recovery, "feed", feed)


@mutation("B12")
def purged_comes_back(patch: Patch) -> None:
    """Overlook in the dead-letter file that a letter was requeued or purged."""
    right = Recovery.feed_dead

    def feed_dead(self: Recovery, data: bytes) -> None:
        right(self, data)
        for framed in outbox.scan(data).frames:
            frame = framed.value
            if frame["t"] == "dead" and DeadLetter.of(frame) is not None:
                self.dead[frame["id"]] = (framed.offset, framed.length)
        for id in self.dead:
            self.entries.pop(id, None)

    patch.set(Recovery, "feed_dead", feed_dead)


# --- what is held until it is replicated (formats 11.22-11.29) ---------------------------------


@mutation("B13")
def released_on_durable(patch: Patch) -> None:
    """Take every recorded answer for the level of the client."""
    patch.swap(held.judge_recorded, lambda submitted, level: Acknowledge(submitted.raw.status))


@mutation("B14")
def region_ignored(patch: Patch) -> None:
    """Compare watermarks by placement alone."""
    patch.swap(held._stream_of, lambda position: ("any", position.placement))


def covers(id: str, covered: Callable[[tuple[int, int], Position], bool], *, passes: bool) -> None:
    """Register a mutant that covers positions in another way."""

    @mutation(id)
    def change(patch: Patch) -> None:
        def fate(self: Held, position: Position) -> Fate:
            newest = self._newest.get(held._stream_of(position), (-1, -1))
            if passes and newest[0] > position.region_epoch:
                return Fate.PASSED
            return Fate.COVERED if covered(newest, position) else Fate.OPEN

        patch.set(Held, "fate", fate)


covers("B15", lambda newest, at: at.seq <= newest[1], passes=False)
covers("B16", lambda newest, at: newest[0] == at.region_epoch and at.seq < newest[1], passes=True)
covers("B17", lambda newest, at: newest[0] == at.region_epoch and at.seq <= newest[1], passes=False)


@mutation("B18")
def hold_forgotten_at_restart(patch: Patch) -> None:
    patch.swap(outbox.hold_of, lambda frame: None)


@mutation("B19")
def held_is_in_flight(patch: Patch) -> None:
    """Keep a held entry among those that are being sent."""
    right = spool.Outbox._hold

    def hold(self: Any, entry: Any, verdict: Any, now_ms: int, u: float) -> None:
        right(self, entry, verdict, now_ms, u)
        if entry.id in self._held:
            self._schedule.add(entry, in_flight=True)

    patch.set(spool.Outbox, "_hold", hold)


@mutation("B20")
def held_is_sent_again(patch: Patch) -> None:
    """Let a held entry wait for its next turn as one that was not acknowledged."""
    right = spool.Outbox._hold

    def hold(self: Any, entry: Any, verdict: Any, now_ms: int, u: float) -> None:
        right(self, entry, verdict, now_ms, u)
        if entry.id in self._held:
            self._schedule.add(entry)

    patch.set(spool.Outbox, "_hold", hold)


@mutation("B21")
def closed_is_lost(patch: Patch) -> None:
    """Send again whatever an earlier region_epoch wrote, wherever that ended."""
    patch.swap(held._stands, lambda position, status: False)


@mutation("B22")
def refusals_not_heard(patch: Patch) -> None:
    """Read the watermark of a success alone."""
    right = call._hear

    def hear(turn: Any) -> Any:
        if getattr(turn.answer, "status", None) == 200:
            yield from right(turn)

    patch.swap(right, hear)


@mutation("B23")
def header_before_status(patch: Patch) -> None:
    """Hear the header of a status before the status itself."""

    def ask(request: Any, timeout_ms: int) -> Any:
        turn = yield call.Send(request(), timeout_ms, timeout_ms)
        if not isinstance(turn.answer, RawResponse):
            return
        status = read_region_status(turn.answer.body) if turn.answer.status == 200 else None
        for news in (watermark_of(turn.answer.headers), status):
            if news is not None:
                yield call.Hear(news)

    patch.swap(deliver.ask, ask)


@mutation("B24")
def hold_left_behind(patch: Patch) -> None:
    """Write a held entry again without its hold, when an old file goes."""
    right = logs.Logs._carry

    def carry(self: Any, names: list[str]) -> None:
        for id, entry in self.entries.items():
            if entry.file in names:
                self.entries[id] = replace(entry, hold=None)
        right(self, names)

    patch.set(logs.Logs, "_carry", carry)


@mutation("B25")
def answer_without_place_is_enough(patch: Patch) -> None:
    """Acknowledge what nobody can say to be replicated."""
    right = held.judge_recorded

    def judge_recorded(submitted: Any, level: str) -> Verdict:
        if submitted.position is None:
            return Acknowledge(submitted.raw.status)
        return right(submitted, level)

    patch.swap(right, judge_recorded)
