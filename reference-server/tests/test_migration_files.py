"""Migrations over SQLite files, as the commands of a person and as processes that are killed."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st
from migration_runs import OLD, new_world, planted, rolled_back_migration, whole_migration
from migration_world import World, done, key_number

from fractal_lba_server import cli_dedup_migrate, dedup_transfer
from fractal_lba_server.core.ring_document import ShardInfo, ring_of
from fractal_lba_server.store.control import ControlStore
from fractal_lba_server.store.control_engines import SqliteEngine, open_control
from fractal_lba_server.store.shards.sqlite import SqliteShard


async def over_files(tmp_path: Path, run: Callable[[World], Awaitable[None]]) -> None:
    """Run something over SQLite files with the clock of the test."""
    holder: list[World] = []

    async def make(name: str) -> SqliteShard:
        return SqliteShard(name, tmp_path / f"{name}.sqlite", now_ms=lambda: holder[0].now_ms)

    control = ControlStore(SqliteEngine(tmp_path / "control.sqlite"))
    world = await new_world(control, make, *OLD, "shard-3")
    holder.append(world)
    try:
        await run(world)
    finally:
        for shard in world.shards.values():
            await shard.close()
        await control.close()


@pytest.mark.parametrize("run", [whole_migration, rolled_back_migration])
def test_a_migration_over_sqlite_files(
    tmp_path: Path, run: Callable[[World], Awaitable[None]]
) -> None:
    asyncio.run(over_files(tmp_path, run))


def test_verify_finds_every_planted_entry_over_sqlite_files(tmp_path: Path) -> None:
    asyncio.run(over_files(tmp_path, lambda world: planted(world, 1)))


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 2**32))
def test_verify_finds_every_planted_entry(seed: int) -> None:
    asyncio.run(planted(World(), seed))


# --- commands --------------------------------------------------------------------------------


class Region:
    """Files of a region, and the commands on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control = f"sqlite:///{folder}/control.sqlite"

    def url(self, name: str) -> str:
        return f"sqlite:///{self.folder}/{name}.sqlite"

    def run(self, *arguments: str, exit_code: int = 0) -> Result:
        command = [*arguments, "--control", self.control]
        result = CliRunner().invoke(cli_dedup_migrate.main, command)
        assert result.exit_code == exit_code, f"{arguments}: {result.output} {result.exception!r}"
        return result

    def json(self, *arguments: str, exit_code: int = 0) -> dict:
        return json.loads(self.run(*arguments, "--json", exit_code=exit_code).stdout)

    def prepared(self, *, keys: int = 300, upto: str = "cleanup", rate: str = "0") -> Region:
        """Found a ring, fill it, and go some steps."""
        shards = [f"--shard={name}={self.url(name)}" for name in OLD]
        self.run("init", *shards)
        asyncio.run(self.fill(keys))
        steps = {
            # Nothing here is about how fast this machine is just now.
            "plan": ["plan", f"--add=shard-3={self.url('shard-3')}", "--window=0",
                     "--pause=10000", f"--out={self.folder}/plan.json"],
            "dual-write": ["dual-write", f"{self.folder}/plan.json"],
            "copy": ["copy", f"--rate={rate}"],
            "verify": ["verify"],
            "cutover": ["cutover"],
            "cleanup": ["cleanup"],
        }  # fmt: skip
        for name, command in steps.items():
            if name == upto:
                break
            self.run(*command)
        return self

    async def fill(self, keys: int) -> None:
        infos = tuple(ShardInfo(name, 1, self.url(name)) for name in OLD)
        found: dict[str, list] = {name: [] for name in OLD}
        for number in range(keys):
            key = key_number(number)
            found[ring_of(infos).pick("|".join(key))].append(done(key, hlc=number + 1))
        for name, entries in found.items():
            shard = SqliteShard(name, self.folder / f"{name}.sqlite")
            await shard.put_if_first(entries, ring_epoch=1)
            await shard.close()

    async def counts(self) -> dict[str, int]:
        counts = {}
        for name in (*OLD, "shard-3"):
            shard = SqliteShard(name, self.folder / f"{name}.sqlite")
            counts[name] = await shard.count()
            await shard.close()
        return counts

    def content(self) -> dict[str, str]:
        """Digest every table of every file; opening a file may change bytes that mean nothing."""
        import sqlite3

        digests = {}
        for path in sorted(self.folder.glob("*.sqlite")):
            with contextlib.closing(sqlite3.connect(path)) as connection:
                text = "\n".join(connection.iterdump())
            digests[path.name] = hashlib.sha256(text.encode()).hexdigest()
        return digests


@pytest.fixture
def region(tmp_path: Path) -> Region:
    return Region(tmp_path)


def test_the_commands_of_a_migration_in_their_order(region: Region) -> None:
    region.prepared()
    status = region.json("status")
    assert status["document"]["phase"] == "committed"
    assert status["migration"]["step"] == "committed"
    assert region.json("cleanup")["step"] == "cleaned"
    counts = asyncio.run(region.counts())
    assert sum(counts.values()) == 300
    assert counts["shard-3"] > 40
    assert region.run("doctor").output == "all is well\n"


@pytest.mark.parametrize(
    ("upto", "command"),
    [
        ("dual-write", ["dual-write", "{}/plan.json", "--dry-run"]),
        ("copy", ["copy", "--dry-run"]),
        ("verify", ["verify", "--dry-run"]),
        ("cutover", ["cutover", "--dry-run"]),
        ("cleanup", ["rollback", "--dry-run"]),
        ("cleanup", ["cleanup", "--dry-run"]),
        ("cleanup", ["status"]),
        ("cleanup", ["doctor"]),
        ("plan", ["plan", "--add=shard-9=memory:"]),
    ],
)
def test_a_dry_run_writes_nothing(region: Region, upto: str, command: list[str]) -> None:
    region.prepared(upto=upto)
    before = region.content()
    exit_code = 1 if command == ["doctor"] else 0  # the window is over: it says so
    region.run(*(part.format(region.folder) for part in command), exit_code=exit_code)
    assert region.content() == before


def test_a_dry_run_of_init_writes_no_document(region: Region) -> None:
    region.run("init", f"--shard=a={region.url('a')}", "--dry-run")
    assert region.json("status") == {"document": None}
    assert not (region.folder / "a.sqlite").exists()


def test_the_same_plan_twice_is_the_same_file(region: Region) -> None:
    region.prepared(upto="dual-write")
    plan = (region.folder / "plan.json").read_bytes()
    region.run("plan", f"--add=shard-3={region.url('shard-3')}", "--window=0",
               "--pause=10000", f"--out={region.folder}/again.json")  # fmt: skip
    assert (region.folder / "again.json").read_bytes() == plan
    assert (region.folder / "plan.json").stat().st_mode & 0o777 == 0o600


@pytest.mark.parametrize(
    ("upto", "command", "says"),
    [
        ("plan", ["copy"], "there is no migration"),
        ("plan", ["plan"], "nothing moves"),
        ("plan", ["plan", "--add=x=memory:", "--rate=10", "--writes=2000"], "never end"),
        ("plan", ["plan", "--add=x=memory:", "--room=x=1"], "has room for 1"),
        ("plan", ["init", "--shard=a=memory:"], "there is a ring document already"),
        ("copy", ["cutover"], "the copy lags behind"),
        ("copy", ["verify"], "verify needs the whole copy first"),
        ("copy", ["cleanup"], "there is nothing to clean up"),
        ("verify", ["cutover"], "ranges that move are not verified"),
        ("copy", ["dual-write", "{}/plan.json"], "dual writes began already"),
        ("copy", ["plan", "--add=x=memory:"], "another migration is on its way"),
    ],
)
def test_a_refusal_says_why_and_exits_with_1(
    region: Region, upto: str, command: list[str], says: str
) -> None:
    region.prepared(upto=upto, keys=60)
    arguments = [part.format(region.folder) for part in command]
    assert says in region.run(*arguments, exit_code=1).stderr
    answer = region.json(*arguments, exit_code=1)
    assert says in " ".join(answer["reasons"])


@pytest.mark.parametrize(
    "command",
    [
        ["init", "--shard=a"],
        ["init", "--shard=a=memory:", "--weight=b=2"],
        ["init", "--shard=a=memory:", "--weight=a=x"],
        ["plan", "--remove=x"],
        ["plan", "--add=shard-0=memory:"],
        ["plan", "--weight=x=2"],
        ["dual-write", "absent.json"],
        ["copy", "--rate=-1"],
    ],
)
def test_wrong_usage_exits_with_2(region: Region, command: list[str]) -> None:
    region.prepared(upto="plan", keys=6)
    region.run(*command, exit_code=2)


def test_without_a_control_store_the_usage_is_said() -> None:
    result = CliRunner().invoke(cli_dedup_migrate.main, ["status"], env={"FLK_DEDUP_CONTROL": None})
    assert result.exit_code == 2
    assert "--control URL" in result.output


def test_a_changed_plan_is_refused(region: Region) -> None:
    region.prepared(upto="dual-write", keys=60)
    path = region.folder / "plan.json"
    path.write_bytes(path.read_bytes().replace(b'"pause_ms":10000', b'"pause_ms":99'))
    assert "sha256" in region.run("dual-write", str(path), exit_code=1).stderr


def test_weights_and_removals_are_planned(region: Region) -> None:
    region.prepared(upto="plan")
    taken_out = region.json("plan", "--remove=shard-1")
    assert {pair["from"] for pair in taken_out["pairs"]} == {"shard-1"}
    heavier = region.json("plan", "--weight=shard-2=3")
    assert {pair["to"] for pair in heavier["pairs"]} == {"shard-2"}


def test_no_command_prints_the_url_of_a_dedup_shard(region: Region) -> None:
    region.run("init", f"--shard=a=sqlite:///{region.folder}/a.sqlite")
    secret = f"--add=b=sqlite:///{region.folder}/secret.sqlite"
    for command in (["plan", secret], ["plan", secret, "--json"], ["status"], ["status", "--json"]):
        assert "secret" not in region.run(*command).output


def test_verify_without_mending_exits_with_1_if_anything_differs(region: Region) -> None:
    region.prepared(upto="verify")

    async def lose_one() -> None:
        shard = SqliteShard("shard-3", region.folder / "shard-3.sqlite")
        entries = await shard.scan(ranges=[(0, 2**32 - 1)], after=None, limit=1)
        await shard.delete([entries[0].key], ring_epoch=2)
        await shard.close()

    asyncio.run(lose_one())
    assert region.json("verify", "--dry-run", exit_code=1)["missing"] == 1
    assert region.json("verify")["mended"] == 1
    assert region.json("verify", "--dry-run")["missing"] == 0


def test_a_window_that_is_open_is_shown_and_keeps_cleanup_waiting(region: Region) -> None:
    region.prepared(upto="plan", keys=60)
    region.run("plan", f"--add=shard-3={region.url('shard-3')}", "--pause=10000",
               f"--out={region.folder}/plan.json")  # fmt: skip
    for command in (
        ["dual-write", f"{region.folder}/plan.json"],
        ["copy"],
        ["verify"],
        ["cutover"],
    ):
        region.run(*command)
    assert "rollback is possible" in region.run("status").output
    assert "window for a rollback is open" in region.run("cleanup", exit_code=1).stderr
    assert region.json("rollback")["step"] == "rolled_back"
    assert "`dedup cleanup`" in region.run("doctor", exit_code=1).output
    assert region.json("cleanup")["step"] == "cleaned"


def test_doctor_names_what_repair_then_mends(region: Region) -> None:
    region.prepared(upto="cutover")

    async def hurt() -> None:
        # A coordinator ended in the middle of a cutover: one fence is ahead of the document.
        shard = SqliteShard("shard-1", region.folder / "shard-1.sqlite")
        await shard.set_fence(9)
        await shard.close()
        control = open_control(region.control)
        held = await control.read()
        assert held is not None
        assert await control.queue_repair("shard-3", [key_number(3)], version=held.version)
        await control.close()

    asyncio.run(hurt())
    problems = [each["problem"] for each in region.json("doctor", exit_code=1)["findings"]]
    assert any("fenced at 9, the document is at 2: writes wait" in each for each in problems)
    assert any("1 entries wait for repair" in each for each in problems)
    done_ = region.json("repair")["done"]
    assert done_[0] == "writes go on under ring_epoch 9"
    assert "1 entries were repaired" in done_
    assert region.run("doctor").output == "all is well\n"
    assert region.run("repair").output == "there was nothing to repair\n"
    region.run("cutover")


def test_entries_that_lie_where_nobody_asks_are_brought_home(region: Region) -> None:
    region.prepared(upto="plan", keys=60)

    async def misplace() -> str:
        infos = tuple(ShardInfo(name, 1, region.url(name)) for name in OLD)
        entry = done(key_number(999))
        owner = ring_of(infos).pick("|".join(entry.key))
        wrong = next(name for name in OLD if name != owner)
        shard = SqliteShard(wrong, region.folder / f"{wrong}.sqlite")
        await shard.put_if_first([entry], ring_epoch=1)
        await shard.close()
        return owner

    before = asyncio.run(region.counts())
    owner = asyncio.run(misplace())
    findings = region.json("doctor", exit_code=1)["findings"]
    assert ["holds 1 entries that others own" in each["problem"] for each in findings] == [True]
    assert "1 entries were brought home" in region.run("repair", "--misplaced").output
    assert region.run("doctor").output == "all is well\n"
    assert asyncio.run(region.counts()) == {**before, owner: before[owner] + 1}


def test_status_says_how_far_the_copy_is(region: Region, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dedup_transfer, "BATCH_ENTRIES", 5)
    region.prepared(upto="copy")
    assert region.json("status")["migration"]["copy"]["share"] == 0
    environment = {**os.environ, "FLK_DEDUP_CONTROL": region.control}
    program = "from fractal_lba_server.cli_dedup_migrate import main; main()"
    command = [sys.executable, "-c", program, "copy", "--rate", "40"]
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
        deadline = time.monotonic() + 30
        while region.json("status")["migration"]["copy"]["share"] < 0.2:
            assert time.monotonic() < deadline
            assert process.poll() is None
        process.send_signal(signal.SIGKILL)
    copied = region.json("status")["migration"]["copy"]
    assert 0.2 <= copied["share"] < 1
    assert 0 < copied["keys"] < copied["keys_planned"] * 1.5
    assert copied["eta_s"] > 0
    assert "% of the ranges" in region.run("status").output
    rest = region.json("copy", "--rate", "0")["copied"]
    moved = asyncio.run(region.counts())["shard-3"]
    assert rest < moved
    assert region.json("verify")["compared"] == moved


def test_a_bar_is_for_a_terminal_alone(region: Region) -> None:
    result = region.prepared(upto="copy").run("copy")
    assert "%" not in result.stderr


def test_watch_looks_as_often_as_it_is_told(region: Region) -> None:
    region.prepared(upto="cutover")
    lines = region.run("watch", "--looks=2", "--interval=0.1").output.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("verified: ")
    assert " 0 lost, 0 samples differ" in lines[0]


def test_the_commands_join_the_group_of_dedup() -> None:
    names = [command.name for command in cli_dedup_migrate.COMMANDS]
    assert names == [
        "init", "backfill", "plan", "dual-write", "copy", "verify", "cutover", "rollback", "cleanup",
        "status", "doctor", "repair", "watch",
    ]  # fmt: skip
