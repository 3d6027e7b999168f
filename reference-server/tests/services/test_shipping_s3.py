"""Streams through a real S3, and what a server that refuses makes of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from s3_servers import S3, moto
from shipping_frames import SegmentBuilder
from test_shipping_objects import Peer, batches

from fractal_lba_server.outbound import PeerRefusedError
from fractal_lba_server.store.object_transport import ObjectSender, Turn, open_store
from fractal_lba_server.store.wal import read_frames

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def s3() -> Iterator[S3]:
    with moto() as server:
        yield server


def test_stream_goes_through_s3_and_no_part_is_written_over(s3: S3, tmp_path: Path) -> None:
    store = open_store(s3.url(s3.new_bucket()), s3.environment())
    stream = SegmentBuilder()
    stream.begin()
    stream.add(4)
    stream.seal()
    stream.begin()
    stream.add(3)
    sender = ObjectSender(store, "eu1")
    parts = batches(stream)
    for batch in parts:
        assert sender.send(batch).mark == batch.end
    assert ObjectSender(store, "eu1").send(parts[0]).mark == parts[0].end
    assert ObjectSender(store, "eu1").ask("open", 7).mark == parts[-1].end
    peer = Peer(tmp_path / "mirror", store)
    assert peer.reader.turn() == Turn(len(parts), False, None)
    assert [frame.seq for _, frame in read_frames(tmp_path / "mirror")] == list(range(1, 8))
    other = SegmentBuilder()
    other.begin()
    other.add(2, r=0.4)
    with pytest.raises(PeerRefusedError, match="fork"):
        sender.send(batches(other)[0])


def test_bucket_that_is_not_there_takes_nothing_and_shows_nothing(s3: S3, tmp_path: Path) -> None:
    store = open_store(s3.url("nobodys-bucket"), s3.environment())
    stream = SegmentBuilder()
    stream.begin()
    stream.add(1)
    with pytest.raises(PeerRefusedError, match="unreachable"):
        ObjectSender(store, "eu1").send(batches(stream)[0])
    # "Nothing is there yet" is all that a reader may conclude; the age of the silence says more.
    assert Peer(tmp_path / "mirror", store).reader.turn() == Turn(0, False, None)
