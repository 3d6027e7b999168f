"""How dedup shards are opened, and what a file of one refuses."""

from __future__ import annotations

import asyncio
import sqlite3
from pathlib import Path

import pytest
from test_shards_contract import asynchronous

from fractal_lba.errors import ConfigError
from fractal_lba_server.store.shards.opening import open_shard


@asynchronous
async def test_a_fence_waits_for_the_lock_of_a_busy_file(tmp_path: Path) -> None:
    shard = await open_shard("a", f"sqlite:///{tmp_path}/a.sqlite")
    await shard.start()
    other = sqlite3.connect(tmp_path / "a.sqlite", isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    fencing = asyncio.create_task(shard.set_fence(3))
    await asyncio.sleep(0.05)
    assert not fencing.done()
    other.execute("COMMIT")
    await fencing
    assert 3 == await shard.fence()
    other.close()
    await shard.close()


@asynchronous
async def test_a_file_belongs_to_one_dedup_shard(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path}/a.sqlite"
    first = await open_shard("a", url)
    await first.start()
    await first.close()
    second = await open_shard("b", url)
    with pytest.raises(ConfigError, match=r"dedup shard a, expected b"):
        await second.start()
    await second.close()


@pytest.mark.parametrize(
    "url", ["mysql://u:secret@h/d", "sqlite:///", "sqlite://h/x", "secret", "redis://:secret@h:x/0"]
)
@asynchronous
async def test_a_wrong_url_is_refused_without_being_printed(url: str) -> None:
    with pytest.raises(ConfigError, match="url of dedup shard a") as caught:
        await open_shard("a", url)
    assert "secret" not in str(caught.value)


@asynchronous
async def test_a_server_keeps_no_ids_in_memory_alone() -> None:
    with pytest.raises(ConfigError, match="forgets every id"):
        await open_shard("a", "memory:", lasting=True)
