"""The ring document: who decides about a key, who gets its entry too, and what is refused."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba.errors import ConfigError
from fractal_lba.ring import ring_key
from fractal_lba_server.core.ring_document import (
    COMMITTED,
    DUAL,
    STEADY,
    RingDocument,
    ShardInfo,
    movement_of,
    read_shards,
    ring_of,
)


def infos(count: int, *, first: int = 0) -> tuple[ShardInfo, ...]:
    return tuple(
        ShardInfo(f"shard-{i}", 1, f"sqlite:///{i}.sqlite") for i in range(first, first + count)
    )


KEYS = [("acme", f"{number:064x}") for number in range(400)]
OLD, NEW = infos(3), infos(4)


@given(count=st.integers(1, 4), more=st.integers(0, 3), epoch=st.integers(1, 2**53 - 2))
def test_a_document_reads_back_as_it_was_written(count: int, more: int, epoch: int) -> None:
    document = RingDocument(epoch, infos(count))
    if more:
        document = document.dual(infos(count + more), "m1")
    assert RingDocument.from_bytes(document.to_bytes()) == document


def test_a_steady_document_asks_nobody_else() -> None:
    document = RingDocument(1, OLD)
    assert {document.routes(key).also for key in KEYS} == {()}
    assert document.moves() == []
    assert document.everyone() == OLD


def test_a_dual_document_decides_by_the_old_ring_and_writes_to_the_new_one_as_well() -> None:
    document = RingDocument(1, OLD).dual(NEW, "m1")
    assert (document.ring_epoch, document.phase, document.migration) == (2, DUAL, "m1")
    for key in KEYS:
        routes = document.routes(key)
        owner = ring_of(NEW).pick(ring_key(*key))
        assert routes.authority == ring_of(OLD).pick(ring_key(*key))
        assert routes.also == (() if owner == routes.authority else (owner,))
    assert {moved.target for moved in document.moves()} == {"shard-3"}
    assert document.everyone() == NEW


def test_a_committed_document_decides_by_the_new_ring_and_writes_back() -> None:
    dual = RingDocument(1, OLD).dual(NEW, "m1")
    document = dual.commit()
    assert (document.ring_epoch, document.phase) == (3, COMMITTED)
    for key in KEYS:
        before, after = dual.routes(key), document.routes(key)
        assert after.authority == (before.also or (before.authority,))[0]
        assert after.also == ((before.authority,) if before.also else ())


def test_every_change_raises_the_ring_epoch() -> None:
    steady = RingDocument(7, OLD)
    dual = steady.dual(NEW, "m1")
    committed = dual.commit()
    assert dual.ring_epoch == 8
    assert dual.go_on() == RingDocument(9, OLD, DUAL, NEW, "m1")
    assert dual.go_on(20).ring_epoch == 20
    assert dual.abandon() == RingDocument(9, OLD)
    assert committed.abandon() == RingDocument(10, OLD)
    assert committed.close() == RingDocument(10, NEW)
    assert steady.version_text == "steady at ring_epoch 7"


STEADY_ONE = RingDocument(1, OLD)


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (lambda: STEADY_ONE.dual(NEW, "m1").dual(NEW, "m2"), "expected steady"),
        (STEADY_ONE.commit, "expected dual"),
        (STEADY_ONE.dual(NEW, "m1").close, "expected committed"),
    ],
)
def test_a_change_of_the_wrong_phase_is_refused(change: Callable, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        change()


@pytest.mark.parametrize(
    ("fault", "says"),
    [
        ({"ring_epoch": 0}, "ring_epoch: expected 1"),
        ({"ring_epoch": True}, "ring_epoch: expected 1"),
        ({"phase": "moving"}, "phase: expected steady"),
        ({"phase": DUAL}, "next: a dual document has both"),
        ({"next": NEW}, "next: a steady document has neither"),
        ({"migration": "m1"}, "next: a steady document has neither"),
        ({"migration": 3, "phase": DUAL, "next": NEW}, "migration: expected a text"),
        ({"shards": ()}, "shards: expected an integer from 1"),
    ],
)
def test_a_document_that_contradicts_itself_is_refused(fault: dict, says: str) -> None:
    members = {"ring_epoch": 1, "shards": OLD, "phase": STEADY, "next": (), "migration": None}
    with pytest.raises(ConfigError, match=says):
        RingDocument(**{**members, **fault})


def test_a_dedup_shard_is_in_one_place() -> None:
    moved = (ShardInfo("shard-0", 1, "sqlite:///elsewhere.sqlite"), *infos(3, first=1))
    with pytest.raises(ConfigError, match="shard-0 has another url"):
        RingDocument(1, OLD).dual(moved, "m1")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (b"", "text: "),
        (b"[]", "not the RFC 8785 form"),
        (b'{"ring_epoch":1}', "not the RFC 8785 form"),
        (RingDocument(1, OLD).to_bytes() + b" ", "not the RFC 8785 form"),
        (RingDocument(1, OLD).to_bytes().replace(b"steady", b"moving"), "phase: expected"),
        (RingDocument(1, OLD).to_bytes().replace(b"{", b'{"also":1,', 1), "not the RFC 8785"),
        (b'{"migration":null,"next":[],"phase":"steady","ring_epoch":1,"shards":[{}]}', "not the"),
    ],
)
def test_a_text_that_is_no_document_is_refused(text: bytes, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        RingDocument.from_bytes(text)


@pytest.mark.parametrize("url", ["", "x" * 401, 3, None])
def test_a_url_has_a_length(url: object) -> None:
    with pytest.raises(ConfigError, match=r"shards\[0\].url: expected 1 to 400 bytes"):
        read_shards([{"name": "a", "weight": 1, "url": url}])


def test_a_url_is_never_printed() -> None:
    shard = ShardInfo("a", 1, "postgresql://me:secret@db/flk")
    assert "secret" not in repr(RingDocument(1, (shard,)))


def test_movement_of_the_golden_rings_is_the_closed_form() -> None:
    shares = {
        (1, 2): 0.47197, (1, 3): 0.65386, (2, 3): 0.36001, (3, 4): 0.27075, (4, 5): 0.20806,
    }  # fmt: skip
    for (before, after), share in shares.items():
        assert round(float(movement_of(infos(before), infos(after)).share), 5) == share
