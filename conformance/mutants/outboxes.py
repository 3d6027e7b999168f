"""Family B: other ways to keep records until they are acknowledged (formats 11)."""

from __future__ import annotations

import struct
import zlib
from dataclasses import replace
from typing import Any

from fractal_lba import canonical, deliver, journal, outbox, schedule, spool
from fractal_lba.outbox import DeadLetter, Letter, Recovery, Scan
from fractal_lba.schedule import Bury
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
