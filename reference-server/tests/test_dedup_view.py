"""`flk-server dedup find` and `dedup shards`: the whole truth about a key, with what is missing."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from test_shards_contract import claim, done, key

from fractal_lba_server.cli_dedup import dedup
from fractal_lba_server.core.dedup import DedupShard, claim_entry
from fractal_lba_server.core.ring_document import RingDocument, ShardInfo
from fractal_lba_server.dedup_view import figures, find
from fractal_lba_server.store.control_engines import open_control
from fractal_lba_server.store.shards.opening import open_shard

NAMES = ("shard-0", "shard-1", "shard-2", "shard-4")


class Home:
    """A control store and dedup shards in files."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control_url = f"sqlite:///{folder}/control.sqlite"
        infos = [ShardInfo(n, 1, f"sqlite:///{folder}/{n}.sqlite") for n in NAMES]
        self.steady = RingDocument(1, tuple(infos[:3]))
        self.dual = self.steady.dual(tuple(infos), "m")

    def publish(self, document: RingDocument) -> None:
        async def run() -> None:
            control = open_control(self.control_url)
            held = await control.read()
            if held is None:
                held = await control.create(self.steady)
            if document != self.steady:
                await control.put(document, version=held.version)
            await control.close()

        asyncio.run(run())

    def change(self, name: str, *entries: Any) -> None:
        async def run() -> None:
            shard: DedupShard = await open_shard(name, f"sqlite:///{self.folder}/{name}.sqlite")
            await shard.start()
            await shard.put_if_first(entries, ring_epoch=9)
            await shard.close()

        asyncio.run(run())

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(dedup, [*arguments, "--control", self.control_url])


@pytest.fixture
def home(tmp_path: Path) -> Home:
    found = Home(tmp_path)
    for name in NAMES:
        found.change(name)
    return found


def numbers_of(home: Home, name: str) -> list[int]:
    return [n for n in range(400) if home.steady.routes(key(n)).authority == name]


def test_a_key_is_right_where_its_owner_alone_holds_it(home: Home) -> None:
    home.publish(home.steady)
    number = numbers_of(home, "shard-1")[0]
    home.change("shard-1", done(number, expires_at_ms=5))
    result = home.run("find", *key(number), "--json")
    assert 0 == result.exit_code, result.output
    told = json.loads(result.output)
    assert (True, []) == (told["complete"], told["faults"])
    roles = {place["dedup_shard"]: (place["role"], place["entry"]) for place in told["places"]}
    assert ("other", None) == roles["shard-0"]
    assert "authority" == roles["shard-1"][0]
    expected = {"content": "c" * 64, "expires_at_ms": 5, "hlc": "0000000000000005",
                "owner": "eu1", "state": "done"}  # fmt: skip
    assert expected == roles["shard-1"][1]
    text = home.run("find", *key(number)).output
    assert "shard-1              authority  done by eu1, content cccccccccccc, until 5 ms" in text
    home.change("shard-2", claim_entry(claim(number)))
    result = home.run("find", *key(number))
    assert 1 == result.exit_code
    assert "fault: shard-2 holds the key and owns it in no ring" in result.output
    assert "claimed by eu1, content cccccccccccc, for ever" in result.output


def test_a_copy_is_compared_with_the_authority(home: Home) -> None:
    home.publish(home.dual)
    number = next(n for n in range(400) if home.dual.routes(key(n)).also)
    owner = home.dual.routes(key(number)).authority

    def faults() -> tuple[str, ...]:
        return asyncio.run(find(home.dual, key(number))).faults

    assert () == faults()
    home.change("shard-4", done(number, 6))
    assert ("shard-4 holds a key that the authority does not know",) == faults()
    home.change(owner, done(number, 5))
    wrong = "shard-4 should have the same entry as the authority and "
    assert (wrong + "has another entry",) == faults()
    home.change("shard-4", done(number, 5))
    assert () == faults()
    other = next(n for n in range(number + 1, 400) if home.dual.routes(key(n)).also)
    home.change(home.dual.routes(key(other)).authority, done(other))
    assert (wrong + "lacks the outcome",) == asyncio.run(find(home.dual, key(other))).faults


def test_a_shard_that_does_not_answer_is_named_and_the_rest_is_told(home: Home) -> None:
    home.publish(home.steady)
    home.change("shard-0", *map(done, numbers_of(home, "shard-0")))
    home.change("shard-1", *map(done, numbers_of(home, "shard-1")))
    (home.folder / "shard-2.sqlite").unlink()
    for command in (["shards"], ["find", *key(1)]):
        result = home.run(*command, "--json")
        told = json.loads(result.output)
        assert (1, False) == (result.exit_code, told["complete"])
        assert ["shard-2"] == [fault.split()[0] for fault in told["faults"]]
    assert not (home.folder / "shard-2.sqlite").exists()  # to look makes nothing
    told = json.loads(home.run("shards", "--json").output)
    known = [(each["dedup_shard"], each["entries"]) for each in told["shards"]]
    counts = [len(numbers_of(home, name)) for name in NAMES[:2]]
    assert [("shard-0", counts[0]), ("shard-1", counts[1]), ("shard-2", None)] == known
    assert abs(sum(each["expected"] for each in told["shards"][:2]) - sum(counts)) < 1e-6
    text = home.run("shards").output
    assert "steady at ring_epoch 1" in text
    assert "shard-2              share" in text
    assert "does not answer" in text


def test_a_shard_in_the_memory_of_a_process_cannot_be_looked_into(home: Home) -> None:
    document = RingDocument(1, (ShardInfo("m", 1, "memory:"), ShardInfo("x", 1, "ftp://h")))
    told = asyncio.run(figures(document, {"m": 3}))
    schemes = "memory, sqlite, postgresql, redis, rediss"
    assert [
        "it is in the memory of another process",
        f"url of dedup shard x: expected a scheme of {schemes}",
    ] == [each.unavailable for each in told]
    assert [(None, 3, 0.0), (None, 0, 0.0)] == [
        (each.entries, each.repairs, each.expected) for each in told
    ]


def test_without_a_ring_document_nothing_is_said(home: Home) -> None:
    result = home.run("shards")
    assert 1 == result.exit_code
    assert "the control store holds no ring document" in result.output
