"""The control store: of two changes to one version the second fails; nothing is half done."""

from __future__ import annotations

import asyncio
import sqlite3
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from migration_world import infos, key_number

from fractal_lba.errors import ConfigError
from fractal_lba_server.core.migration import PLANNED, Migration
from fractal_lba_server.core.ring_document import RingDocument
from fractal_lba_server.store import control as module
from fractal_lba_server.store.control import (
    ConflictError,
    ControlStore,
    ControlUnavailableError,
    Repair,
)
from fractal_lba_server.store.control_engines import SqliteEngine, open_control

DOCUMENT = RingDocument(1, infos("a", "b"))
Act = Callable[[ControlStore, ControlStore], Awaitable[None]]


def state(name: str) -> Migration:
    return Migration(name, PLANNED, 1, infos("a"), infos("a", "b"))


def over(tmp_path: Path, act: Act, *, created: bool = True) -> None:
    """Run with two stores on one file, as two processes would."""

    async def run() -> None:
        url = f"sqlite:///{tmp_path}/control.sqlite"
        one, two = open_control(url), open_control(url)
        if created:
            await one.create(DOCUMENT)
        try:
            await act(one, two)
        finally:
            await one.close()
            await two.close()

    asyncio.run(run())


def test_a_document_is_written_once_and_read_by_everybody(tmp_path: Path) -> None:
    async def act(one: ControlStore, two: ControlStore) -> None:
        assert await two.read() is None
        with pytest.raises(ConflictError, match="there is no ring document"):
            await two.end_pause(3)
        with pytest.raises(ConflictError, match="expected 1, found none"):
            await two.put(DOCUMENT, version=1)
        assert not await two.queue_repair("a", [key_number(1)], version=1)
        held = await one.create(DOCUMENT)
        assert await two.read() == held == (DOCUMENT, 1)
        with pytest.raises(ConflictError, match="already"):
            await two.create(DOCUMENT)

    over(tmp_path, act, created=False)


def test_of_two_changes_to_one_version_the_second_fails(tmp_path: Path) -> None:
    async def act(one: ControlStore, two: ControlStore) -> None:
        assert (await one.put(DOCUMENT.go_on(), version=1)).version == 2
        with pytest.raises(ConflictError, match="expected 1, found version 2"):
            await two.put(DOCUMENT.go_on(), version=1)
        with pytest.raises(ConflictError, match="ring_epoch 2 is not above 2"):
            await two.put(DOCUMENT.go_on(), version=2)

    over(tmp_path, act)


def test_a_pause_is_ended_once_by_whoever_comes_first(tmp_path: Path) -> None:
    async def act(one: ControlStore, two: ControlStore) -> None:
        first, second = await asyncio.gather(one.end_pause(4), two.end_pause(4))
        assert first == second == (DOCUMENT.go_on(4), 2)
        assert await one.end_pause(3) == first
        with pytest.raises(ConflictError):
            await one.put(DOCUMENT.go_on(9), version=1)

    over(tmp_path, act)


def test_repairs_wait_until_they_are_done_and_keep_the_queue_from_being_sealed(
    tmp_path: Path,
) -> None:
    async def act(one: ControlStore, two: ControlStore) -> None:
        keys = [key_number(1), key_number(2)]
        assert await one.queue_repair("a", keys, version=1)
        assert not await two.seal(version=1)
        repairs = await two.repairs(1)
        assert repairs == [Repair("a", keys[0], 1)]
        assert await one.queue_repair("a", keys[:1], version=1)
        await two.repaired(repairs)
        assert await two.repairs(9) == [Repair("a", keys[0], 2), Repair("a", keys[1], 1)]
        await two.repaired(await two.repairs(9))
        assert await one.count_repairs() == 0
        assert await two.seal(version=1)
        assert not await one.queue_repair("a", keys, version=1)
        with pytest.raises(ConflictError):
            await two.seal(version=2)

    over(tmp_path, act)


def test_a_new_document_takes_the_seal_off_and_old_writers_are_refused(tmp_path: Path) -> None:
    async def act(one: ControlStore, two: ControlStore) -> None:
        assert await one.seal(version=1)
        held = await two.end_pause(2)
        assert not await one.queue_repair("a", [key_number(1)], version=1)
        assert await one.queue_repair("a", [key_number(1)], version=held.version)

    over(tmp_path, act)


def test_the_repair_queue_has_a_limit(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "REPAIRS_MAX", 2)

    async def act(one: ControlStore, two: ControlStore) -> None:
        keys = [key_number(number) for number in range(3)]
        with pytest.raises(ControlUnavailableError, match="more than 2 entries"):
            await one.queue_repair("a", keys, version=1)
        assert await one.count_repairs() == 0, "all or none"

    over(tmp_path, act)


def test_a_migration_is_begun_and_changed_by_one_process(tmp_path: Path) -> None:
    async def act(one: ControlStore, two: ControlStore) -> None:
        assert await one.migration() is None
        kept = await one.begin(state("m1"), after=None)
        with pytest.raises(ConflictError, match="m1 was begun meanwhile"):
            await two.begin(state("m2"), after=None)
        assert await two.migration() == kept
        later = await one.save(state("m1"), version=kept.version)
        with pytest.raises(ConflictError, match="changed by another process"):
            await two.save(state("m1"), version=kept.version)
        with pytest.raises(ConflictError):
            await two.save(state("m9"), version=1)
        await two.begin(state("m2"), after=later)
        latest = await one.migration()
        assert latest is not None
        assert latest.state.id == "m2"

    over(tmp_path, act)


def test_checkpoints_are_kept_by_name(tmp_path: Path) -> None:
    async def act(one: ControlStore, two: ControlStore) -> None:
        assert await one.checkpoint("m1", "copy") is None
        await one.set_checkpoint("m1", "copy", b"1")
        await one.set_checkpoint("m1", "copy", b"2")
        await one.set_checkpoint("m1", "verify", b"3")
        assert await two.checkpoint("m1", "copy") == b"2"
        assert await two.checkpoints("m1") == {"copy": b"2", "verify": b"3"}
        await two.clear_checkpoint("m1", "copy")
        assert await one.checkpoints("m1") == {"verify": b"3"}

    over(tmp_path, act)


def test_a_call_that_is_cancelled_leaves_nothing_open(tmp_path: Path) -> None:
    async def act(one: ControlStore, two: ControlStore) -> None:
        for _ in range(50):
            task = asyncio.create_task(one.set_checkpoint("m", "n", b"x"))
            await asyncio.sleep(0)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        await two.set_checkpoint("m", "n", b"y")
        assert await one.checkpoint("m", "n") == b"y"

    over(tmp_path, act)


def test_a_file_that_is_locked_for_too_long_is_unavailable(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fractal_lba_server.store.control_engines.BUSY_MS", 20)

    async def act(one: ControlStore, two: ControlStore) -> None:
        await one.read()
        blocker = sqlite3.connect(tmp_path / "control.sqlite", isolation_level=None)
        blocker.execute("BEGIN IMMEDIATE")
        with pytest.raises(ControlUnavailableError, match="locked"):
            await two.end_pause(9)
        assert await one.read() == (DOCUMENT, 1), "who only reads waits for nobody"
        blocker.execute("ROLLBACK")
        blocker.close()
        assert await two.read() is not None

    over(tmp_path, act)


def test_a_file_that_is_no_control_store_is_unavailable(tmp_path: Path) -> None:
    path = tmp_path / "other"
    path.write_bytes(b"no database, but long enough to be looked at as one" * 40)

    async def run() -> None:
        store = ControlStore(SqliteEngine(path))
        with pytest.raises(ControlUnavailableError, match="not a database"):
            await store.read()
        await store.close()

    asyncio.run(run())


@pytest.mark.parametrize(
    "url", ["sqlite://host/file", "sqlite:///", "redis://host", "control.sqlite", ""]
)
def test_a_url_of_another_kind_is_refused_without_being_quoted(url: str) -> None:
    with pytest.raises(ConfigError, match="expected sqlite:///PATH or postgresql://"):
        open_control(url)
