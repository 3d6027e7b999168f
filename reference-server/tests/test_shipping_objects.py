"""Streams through an object store: created once, never listed, taken by the same receiver."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from typing import Any

import obstore
import pytest
from obstore.store import LocalStore, MemoryStore
from shipping_frames import NOW_NS, POLICY, REGION_KEYS, SegmentBuilder, batch_signature, replay
from shipping_region import mirror_of, own_of, regions, stream_bytes

from fractal_lba.errors import ConfigError
from fractal_lba_server.core.receiver import Held
from fractal_lba_server.core.replication import NOTHING, Mark
from fractal_lba_server.core.segment import HEADER_BYTES, read_frame
from fractal_lba_server.inbound import Alarm, Inbound, Surroundings
from fractal_lba_server.outbound import OutBatch, PeerRefusedError
from fractal_lba_server.store.object_transport import (
    ObjectReader,
    Objects,
    ObjectSender,
    ObjectTransport,
    Turn,
    end_of,
    open_store,
    part_name,
    read_manifest,
)


class _Loop:
    """Calls at once, in whatever thread asks."""

    def soon(self, call: Any) -> None:
        call()

    def later(self, delay_s: float, call: Any) -> None:
        """Nothing takes that long here."""


class Peer:
    """A mirror of eu1's stream that is fed through a store."""

    def __init__(self, folder: Path, store: Any, **facts: Any) -> None:
        self.alarms: list[Alarm] = []
        self.merged: list[int] = []
        self.policies = {POLICY.version: POLICY.to_bytes()}
        world = Surroundings(
            _Loop(), ThreadPoolExecutor(1), facts.get("replay", replay()), self._merge,
            self.alarms.append, lambda: NOW_NS,
        )  # fmt: skip
        key = REGION_KEYS["eu1"].public_key
        self.inbound = Inbound("eu1", "open", folder, key, world)
        self.inbound.open(0)
        self.inbound._ready = True
        self.reader = ObjectReader(store, self.inbound, keep_policy=self._keep)

    def _merge(self, origin: Any, frames: Any, done: Any) -> None:
        self.merged += [one.frame.seq for one in frames]
        done(())

    def _keep(self, version: str, document: bytes) -> bool:
        return self.policies.setdefault(version, document) == document


@pytest.fixture
def stream() -> SegmentBuilder:
    """Give a stream of two segments, of which the first is sealed."""
    made = SegmentBuilder()
    made.begin()
    made.add(4)
    made.seal()
    made.begin()
    made.add(3)
    return made


def batches(stream: SegmentBuilder, *, frames: int = 2) -> list[OutBatch]:
    """Cut a stream as a shipper would."""
    made = []
    for first, data in sorted(stream.files.items()):
        at = start = 0
        seq, count = first - 1, 0
        at = HEADER_BYTES
        while at < len(data):
            sealing = data[at : at + 4] == b"WORM"
            if not sealing:
                frame = read_frame(data, at)
                at, seq, count = frame.end, frame.seq, count + 1
            else:
                at = len(data)
            if sealing or count == frames or (at == len(data) and start < at):
                body = data[start:at]
                signature = batch_signature("eu1", "open", 1, first, start, body)
                mark = Mark(first, at, seq, sealing)
                made.append(OutBatch("open", 1, first, start, body, signature, mark, seq))
                start, count = at, 0
    return made


@pytest.fixture(params=["memory", "folder"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Any:
    """Give an empty store of each kind that needs no server."""
    if request.param == "memory":
        return MemoryStore()
    folder = tmp_path / "objects"
    folder.mkdir()
    return LocalStore(folder)


def test_stream_goes_through_a_store_byte_for_byte(
    tmp_path: Path, store: Any, stream: SegmentBuilder
) -> None:
    sender = ObjectSender(store, "eu1")
    assert sender.ask("open", 0).mark == NOTHING
    peer = Peer(tmp_path / "mirror", store)
    assert peer.reader.turn() == Turn(0, False, None)
    parts = batches(stream)
    for batch in parts:
        assert sender.send(batch).mark == batch.end
    assert peer.reader.turn() == Turn(len(parts), False, None)
    assert stream_bytes(tmp_path / "mirror") == b"".join(
        data for _, data in sorted(stream.files.items())
    )
    assert peer.merged == list(range(1, 8))
    sender.ask("open", 7)
    assert peer.reader.turn() == Turn(0, False, None)
    assert peer.inbound.claimed_seq == 7
    # Another life of the sender finds how far it was, and one of the reader where it is.
    assert ObjectSender(store, "eu1").ask("open", 7).mark == parts[-1].end
    assert Peer(tmp_path / "mirror", store).reader.turn().fault is None


def test_part_is_never_written_over(store: Any, stream: SegmentBuilder) -> None:
    sender = ObjectSender(store, "eu1", now_s=lambda: 0.0)
    small, large = batches(stream, frames=1), batches(stream, frames=4)
    assert sender.send(large[0]).mark == large[0].end
    # A later life cuts otherwise: it goes on behind what is there.
    assert ObjectSender(store, "eu1").send(small[0]).mark == large[0].end
    other = SegmentBuilder()
    other.begin()
    other.add(4, r=0.4)
    with pytest.raises(PeerRefusedError, match="fork"):
        sender.send(batches(other)[0])


def test_missing_part_is_a_gap_only_when_the_sender_has_passed_it(
    tmp_path: Path, store: Any, stream: SegmentBuilder
) -> None:
    # The literal design lists the store and takes what is shown, in that order.
    sender = ObjectSender(store, "eu1")
    parts = batches(stream)
    for batch in parts:
        sender.send(batch)
    sender.ask("open", 7)
    hidden = part_name("eu1", "open", parts[1].first_seq, parts[1].offset)
    obstore.delete(store, hidden)
    peer = Peer(tmp_path / "mirror", store)
    assert peer.reader.turn() == Turn(1, True, None)
    assert peer.merged == [1, 2]
    shown = sorted(found["path"] for found in obstore.list(store).collect())
    literal = [name for name in shown if name.startswith("eu1/open/0")]
    assert len(literal) == len(parts) - 1  # nothing in the listing says that one is missing
    sender.send(parts[1])
    assert peer.reader.turn().fault is None
    assert peer.merged == list(range(1, 8))


def test_what_another_transport_brought_is_not_taken_twice(
    tmp_path: Path, store: Any, stream: SegmentBuilder
) -> None:
    sender = ObjectSender(store, "eu1")
    for batch in batches(stream, frames=3):
        sender.send(batch)
    peer = Peer(tmp_path / "mirror", store)
    for batch in batches(stream, frames=2)[:1]:
        assert peer.inbound._mirror is not None
        peer.inbound._mirror.append(1, 0, batch.body, seal=False)
    peer.inbound.close()
    peer = Peer(tmp_path / "mirror", store)
    assert peer.inbound.held().mark.seq == 2
    assert peer.reader.turn().fault is None
    assert peer.inbound.held().mark.seq == 7
    again = Peer(tmp_path / "mirror", store)
    assert again.reader.turn() == Turn(1, False, None)


def test_damaged_and_forged_parts_are_refused(
    tmp_path: Path, store: Any, stream: SegmentBuilder
) -> None:
    first = batches(stream)[0]
    name = part_name("eu1", "open", 1, 0)
    for data, fault in (
        (b"", None),
        (b"x" * 100, "batch_malformed"),
        (b"\0\0\0\1" + bytes(64) + first.body, "signature_invalid"),
        (b"\0\0\0\1" + first.signature + first.body[:-1], "batch_malformed"),
    ):
        obstore.put(store, name, data)
        assert Peer(tmp_path / "mirror", store).reader.turn().fault == fault


def test_policy_is_found_beside_the_parts(
    tmp_path: Path, store: Any, stream: SegmentBuilder
) -> None:
    sender = ObjectSender(store, "eu1")
    sender.send(batches(stream)[0])
    known: dict[str, Any] = {}
    judge = replay()
    judge._policy = known.get
    peer = Peer(tmp_path / "mirror", store, replay=judge)
    assert peer.reader.turn().fault == "policy_unknown"
    sender.put_policy(POLICY.version, POLICY.to_bytes())
    peer.reader._keep_policy = lambda version, document: not known.update({version: POLICY})
    assert peer.reader.turn() == Turn(1, False, None)


def test_store_that_does_not_answer_is_unreachable(tmp_path: Path, stream: SegmentBuilder) -> None:
    folder = tmp_path / "objects"
    folder.mkdir()
    objects = Objects(LocalStore(folder))
    (folder / "eu1").write_text("a file where a folder should be")
    for call in (
        partial(objects.create, "eu1/open/x", b""),
        partial(objects.replace, "eu1/open/x", b""),
        partial(objects.read, "eu1/open/x"),
    ):
        with pytest.raises(PeerRefusedError, match="unreachable"):
            call()


def test_manifest_that_cannot_be_read_is_none(store: Any) -> None:
    objects = Objects(store)
    for text in (b"?", b"{}", json.dumps([1]).encode()):
        objects.replace("eu1/open/manifest", text)
        assert read_manifest(objects, "eu1", "open") is None


def test_store_is_named_by_url(tmp_path: Path) -> None:
    store = open_store(f"file://{tmp_path}/made")
    Objects(store).create("a/b", b"x")
    assert (tmp_path / "made" / "a" / "b").read_bytes() == b"x"
    assert open_store("memory:") is not None
    for url in ("s3:///prefix", "ftp://x", "s3://user@bucket", "s3://bucket?secret=1"):
        with pytest.raises(ConfigError):
            open_store(url)
    assert end_of(1, 100, b"", 0) == Mark(1, 100, 0, sealed=False)
    assert Held().mark == NOTHING


def test_regions_that_cannot_reach_each_other_meet_in_a_store(tmp_path: Path) -> None:
    ways = ObjectTransport(open_store(f"file://{tmp_path}/objects"))
    with regions(tmp_path, "eu1", "us1", objects=ways, segment_bytes=20_000) as running:
        eu1, us1 = running["eu1"], running["us1"]
        for one in running.values():
            for outbound in one.replication._own["open"].outbound.values():
                outbound._route.transport.abort()
        last = eu1.write(50)
        us1.wait(lambda: len(us1.merged) == last)
        # A copy in a store, and even its arrival, is no acknowledgement.
        assert eu1.replication.watermark("open")[2] == 0
        assert (eu1.alarms, us1.alarms) == ([], [])
    assert stream_bytes(own_of(tmp_path / "eu1")) == stream_bytes(
        mirror_of(tmp_path / "us1", "eu1")
    )
