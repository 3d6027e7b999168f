"""Ships a stream through an object store: a folder or S3 stands between two regions.

The invariant of this file: a part is created once at a name that follows from its place, and is
never written over; a reader asks for the one name that comes next. That a store does not show an
object means "not yet", never "there is none" (spec/shipping.md 11). What is read goes through the
same receiver as what a peer sends. A copy here counts for no acknowledgement.

    <prefix>/<region>/<placement>/<first_seq, 16 digits>/<offset, 16 digits>
        region_epoch u32 . signature 64 B . header, frames, footer as in the segment
    <prefix>/<region>/<placement>/manifest
    <prefix>/policies/<version>
"""

from __future__ import annotations

import json
import logging
import os
import queue
import struct
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, NotFoundError, PreconditionError
from obstore.store import LocalStore, MemoryStore, S3Store

from fractal_lba.canonical import jcs
from fractal_lba.errors import ConfigError

from ..core.receiver import Refuse
from ..core.replication import NOTHING, Mark
from ..core.segment import FOOTER_BYTES, HEADER_BYTES, SegmentError, read_frame, read_header
from ..inbound import Answer, Batch, Inbound
from ..outbound import Accepted, Holds, OutBatch, PeerRefusedError

MANIFEST_S: Final = 1.0
"""How often a busy sender renews its manifest; an idle one does so with each heartbeat."""

POLL_S: Final = 1.0
"""How often a store is asked for what comes next."""

PARTS_MAX: Final = 1_000
"""Most parts that one turn of a reader takes before it lets others have theirs."""

TIMEOUT: Final = "10s"
"""Longest wait for one request of an object store."""

log = logging.getLogger("fractal_lba_server.replication")

_HEAD: Final = struct.Struct(">I64s")
_NOT_THERE: Final = (FileNotFoundError, NotFoundError)
_THERE: Final = (AlreadyExistsError, FileExistsError, PreconditionError)


def open_store(url: str, environ: Mapping[str, str] = os.environ) -> Any:
    """Open `file:///FOLDER`, `s3://BUCKET/PREFIX?endpoint=URL&region=NAME` or `memory:`.

    Keys of S3 are variables of the environment, never part of a URL. Raises ConfigError.
    """
    parts = urlsplit(url)
    options: dict[str, Any] = dict(parse_qsl(parts.query))
    if parts.username or options.keys() - {"endpoint", "region"}:
        raise ConfigError("config_invalid", "object store: only endpoint and region are options")
    match parts.scheme:
        case "memory":
            return MemoryStore()
        case "file":
            folder = Path(parts.path)
            folder.mkdir(parents=True, exist_ok=True, mode=0o700)
            return LocalStore(folder)
        case "s3" if parts.netloc:
            for name in ("access_key_id", "secret_access_key", "session_token"):
                if value := environ.get(f"AWS_{name.upper()}"):
                    options[name] = value
            is_plain = options.get("endpoint", "").startswith("http://")
            return S3Store(
                parts.netloc,
                prefix=parts.path.strip("/") or None,
                config=options,  # type: ignore[arg-type]  # names that it knows
                client_options={"timeout": TIMEOUT, "allow_http": is_plain},
                retry_config={"max_retries": 2},
            )
        case _:
            raise ConfigError("config_invalid", "object store: a file:, s3: or memory: URL")


def part_name(region: str, placement: str, first_seq: int, offset: int) -> str:
    """Name the part of a stream that begins at a place."""
    return f"{region}/{placement}/{first_seq:016d}/{offset:016d}"


def end_of(first_seq: int, offset: int, body: bytes, seq: int) -> Mark:
    """Say where a stream stands after a part, whose form is checked; raises SegmentError."""
    at = 0
    if offset == 0:
        read_header(body)
        at = HEADER_BYTES
    while at < len(body):
        try:
            frame = read_frame(body, at)
        except SegmentError:
            if len(body) - at != FOOTER_BYTES:
                raise
            return Mark(first_seq, offset + len(body), seq, sealed=True)
        at, seq = frame.end, frame.seq
    return Mark(first_seq, offset + at, seq, sealed=False)


class Objects:
    """A few calls of an object store; each raises PeerRefusedError if it cannot be asked."""

    def __init__(self, store: Any) -> None:
        self._store = store

    def create(self, name: str, data: bytes) -> bool:
        """Create an object; False if there is one of this name."""
        try:
            obstore.put(self._store, name, data, mode="create")
        except _THERE:
            return False
        except (BaseError, OSError) as error:
            raise _failed(name, error) from None
        return True

    def replace(self, name: str, data: bytes) -> None:
        """Write an object, whatever was there."""
        try:
            obstore.put(self._store, name, data)
        except (BaseError, OSError) as error:
            raise _failed(name, error) from None

    def read(self, name: str) -> bytes | None:
        """Read an object; None if the store shows none of this name now."""
        try:
            return bytes(obstore.get(self._store, name).bytes())
        except _NOT_THERE:
            return None
        except (BaseError, OSError) as error:
            raise _failed(name, error) from None


def _failed(name: str, error: Exception) -> PeerRefusedError:
    return PeerRefusedError("unreachable", f"object {name}: {type(error).__name__}")


class ObjectSender:
    """The transport of one stream into a store; a shipper drives it as it drives a peer."""

    def __init__(self, store: Any, region: str, *, now_s: Callable[[], float] = time.time) -> None:
        self._objects = Objects(store)
        self._region = region
        self._now_s = now_s
        self._manifest_s = 0.0
        self._mark = NOTHING

    def ask(self, placement: str, tail_seq: int) -> Holds:
        """Find how far the parts go: from the manifest on, name by name."""
        found = read_manifest(self._objects, self._region, placement)
        mark = found.mark if found is not None else NOTHING
        if mark.progress < self._mark.progress:
            mark = self._mark
        while (body := self._part(placement, *mark.next)) is not None:
            mark = end_of(*mark.next, body, mark.seq)
        self._write_manifest(placement, mark)
        return Holds(mark, 0, 0)

    def send(self, batch: OutBatch) -> Accepted:
        """Create the part of a batch; one that is there already must be of the same stream."""
        place = (batch.first_seq, batch.offset)
        name = part_name(self._region, batch.placement, *place)
        head = _HEAD.pack(batch.region_epoch, batch.signature)
        mark = batch.end
        if not self._objects.create(name, head + batch.body):
            there = self._part(batch.placement, *place)
            if there is None:
                raise PeerRefusedError("unreachable", f"object {name}: there and not readable")
            size = min(len(there), len(batch.body))
            if there[:size] != batch.body[:size]:
                raise PeerRefusedError("fork", f"object {name} has other bytes")
            mark = end_of(*place, there, batch.end.seq)
        if self._now_s() - self._manifest_s >= MANIFEST_S:
            self._write_manifest(batch.placement, mark)
        self._mark = mark
        return Accepted(mark, ())

    def put_policy(self, version: str, document: bytes) -> None:
        """Keep a policy that frames name."""
        self._objects.create(f"policies/{version}", document)

    def abort(self) -> None:
        """Nothing waits for long: the store's client has time-outs of its own."""

    def close(self) -> None:
        """Nothing is open."""

    def _part(self, placement: str, first_seq: int, offset: int) -> bytes | None:
        data = self._objects.read(part_name(self._region, placement, first_seq, offset))
        return None if data is None else data[_HEAD.size :]

    def _write_manifest(self, placement: str, mark: Mark) -> None:
        document = {**mark._asdict(), "at_ms": int(self._now_s() * 1_000)}
        self._objects.replace(f"{self._region}/{placement}/manifest", jcs(document))
        self._manifest_s = self._now_s()


class Manifest(NamedTuple):
    """What a sender says of itself: how far it is, and when that was."""

    mark: Mark
    at_ms: int


def read_manifest(objects: Objects, region: str, placement: str) -> Manifest | None:
    """Read a manifest; None if there is none that can be read."""
    data = objects.read(f"{region}/{placement}/manifest")
    if data is None:
        return None
    try:
        document = json.loads(data)
        return Manifest(Mark(*(document[name] for name in Mark._fields)), document["at_ms"])
    except (ValueError, KeyError, TypeError):
        return None


class Turn(NamedTuple):
    """What one turn of a reader came to."""

    parts: int
    gap: bool
    """Whether the sender says that it has passed a place where no object is found."""
    fault: str | None
    """Why a part was refused, or None."""


class ObjectReader:
    """Takes one stream of another region from a store, through the stream's receiver."""

    def __init__(
        self,
        store: Any,
        inbound: Inbound,
        *,
        keep_policy: Callable[[str, bytes], bool],
    ) -> None:
        self._objects = Objects(store)
        self._inbound = inbound
        self._keep_policy = keep_policy
        self._at = NOTHING
        """Where the next part begins. Parts are cut as their sender cut them, and what is held
        may end within one: another transport may have brought it."""

    def turn(self) -> Turn:
        """Take what has come since the last turn; blocks; raises PeerRefusedError."""
        inbound = self._inbound
        self._at = max(self._at, _segment_start(inbound.held().mark), key=lambda mark: mark.next)
        for parts in range(PARTS_MAX):
            place = self._at.next
            data = self._read(place)
            if data is None:
                return Turn(parts, self._is_gap(place), None)
            try:
                end = end_of(*place, data[_HEAD.size :], self._at.seq)
            except SegmentError:
                return Turn(parts, False, "batch_malformed")
            if end.progress > inbound.held().mark.progress:
                answer = self._take(place, data)
                if isinstance(answer, Refuse):
                    return Turn(parts, False, answer.fault)
            self._at = end
        return Turn(PARTS_MAX, False, None)

    def _take(self, place: tuple[int, int], data: bytes) -> Answer:
        region_epoch, signature = _HEAD.unpack_from(data)
        batch = Batch(region_epoch, *place, data[_HEAD.size :], signature)
        answer = self._receive(batch)
        if isinstance(answer, Refuse) and answer.fault == "policy_unknown":
            document = self._objects.read(f"policies/{answer.policy_version}")
            if document is not None and self._keep_policy(answer.policy_version, document):
                answer = self._receive(batch)
        return answer

    def _read(self, place: tuple[int, int]) -> bytes | None:
        inbound = self._inbound
        data = self._objects.read(part_name(inbound.region, inbound.placement, *place))
        return data if data is not None and len(data) > _HEAD.size else None

    def _receive(self, batch: Batch) -> Answer:
        answers: queue.SimpleQueue[Answer] = queue.SimpleQueue()
        self._inbound.receive(batch, answers.put)
        return answers.get()

    def _is_gap(self, place: tuple[int, int]) -> bool:
        """Say whether the sender is beyond a place where there is nothing, not even now."""
        inbound = self._inbound
        found = read_manifest(self._objects, inbound.region, inbound.placement)
        if found is None:
            return False
        inbound.heard(found.mark.seq)
        return found.mark.progress > self._at.progress and self._read(place) is None


def _segment_start(mark: Mark) -> Mark:
    """Give the prefix that ends where the last segment of a prefix begins."""
    return mark if mark.sealed else Mark(0, 0, mark.first_seq - 1, sealed=True)


class ObjectTransport:
    """The ways of a region into and out of one object store."""

    def __init__(self, store: Any, *, poll_s: float = POLL_S) -> None:
        self._store = store
        self._poll_s = poll_s

    def sender(self, region: str) -> ObjectSender:
        """Give the way in."""
        return ObjectSender(self._store, region)

    def watch(
        self,
        streams: Mapping[tuple[str, str], Inbound],
        keep_policy: Callable[[str, bytes], bool],
        on_trouble: Callable[[str, str, str, str], None],
        stopping: threading.Event,
    ) -> None:
        """Take what other regions have put there, beside what they send, until told to stop."""
        readers = {
            place: ObjectReader(self._store, inbound, keep_policy=keep_policy)
            for place, inbound in streams.items()
        }
        known: dict[tuple[str, str], str | None] = {}
        while not stopping.wait(self._poll_s):
            for place, reader in readers.items():
                try:
                    turn = reader.turn()
                except PeerRefusedError as error:
                    log.warning("the object store cannot be read: %s", error)
                    continue
                trouble = "gap" if turn.gap else turn.fault
                if trouble is not None and known.get(place) != trouble:
                    on_trouble(*place, trouble, "a part in the object store")
                known[place] = trouble


__all__ = [
    "Manifest",
    "ObjectReader",
    "ObjectSender",
    "ObjectTransport",
    "Turn",
    "end_of",
    "open_store",
    "part_name",
    "read_manifest",
]
