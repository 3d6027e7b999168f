"""Migrations under load: how long clients wait at a cutover, how fast the copy is.

    python -m bench.migration [--cutovers N] [--rate PER_S] [--keys N] [--only PART]

Claims and completions go through the router of a server over SQLite files, in groups as a server
makes them; the commands of the migration run in processes of their own, as an operator's do. A
*pause* is the longest time that a record which was sent from 0.2 s before a cutover until 0.2 s
after it waited for its verdict; the same is measured around `status`, which changes nothing and
starts a process just so. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from hashlib import sha256
from pathlib import Path
from typing import Any

from fractal_lba.canonical import jcs
from fractal_lba_server.core.dedup import DONE, Claimed, Entry, Found, encode_stored
from fractal_lba_server.core.first_write import Key, Order, Origin, Stored
from fractal_lba_server.core.migration_plan import Wish, make_plan
from fractal_lba_server.core.ring_document import RingDocument, ShardInfo
from fractal_lba_server.dedup_migration import Coordinator
from fractal_lba_server.store.control import ControlStore
from fractal_lba_server.store.control_engines import open_control
from fractal_lba_server.store.shards.memory import MemoryShard
from fractal_lba_server.store.shards.opening import open_shard
from fractal_lba_server.store.shards.router import ShardedDedup

TICK_S = 0.002
"""Records arrive in steps of this time."""

GROUP_MAX = 512
"""Most records that are claimed together."""

AROUND_S = 0.2
"""Records sent this long before or after a cutover are looked at."""

DUPLICATES = 10
"""Every so many records one is sent that was acknowledged before."""

ORIGIN = Origin("eu1", "open", 1)
PROGRAM = "from fractal_lba_server.cli_dedup_migrate import main; main()"


def entry_of(number: int) -> Entry:
    """Make an outcome with bytes as many as those of a server."""
    pcs_id = sha256(b"bench %d" % number).hexdigest()
    stored = Stored(number + 1, pcs_id, 200, b"x" * 300, ORIGIN, number + 1)
    order = Order(stored.hlc, 0, 1, stored.seq)
    return Entry(("bench", pcs_id), DONE, "eu1", pcs_id, order, encode_stored(stored), None)


async def opened(info: ShardInfo) -> Any:
    """Open a dedup shard as a server does."""
    return await open_shard(info.name, info.url)


class Load:
    """Send records at a rate through a router, and keep what each waited.

    What arrives while one group is claimed makes the next group, as in the log of a server;
    completions follow in the same way.
    """

    def __init__(self, dedup: ShardedDedup, *, rate_per_s: int, first: int) -> None:
        self._dedup = dedup
        self._rate_per_s = rate_per_s
        self._next = first
        self._acknowledged: list[int] = []
        self._arrived: list[tuple[float, int, bool]] = []
        self._claimed: list[tuple[int, Entry]] = []
        self._ended = False
        self.waits: list[tuple[float, float]] = []
        """When each record was sent, and how long it waited, in seconds."""
        self.faults: list[str] = []

    async def run(self) -> None:
        """Send records until told to end."""
        await asyncio.gather(self._send(), self._claim(), self._complete())

    def end(self) -> None:
        """Send no more."""
        self._ended = True

    async def _send(self) -> None:
        due = time.monotonic()
        while not self._ended:
            for _ in range(int(self._rate_per_s * TICK_S)):
                again = bool(self._acknowledged) and self._next % DUPLICATES == 0
                number = self._next
                if again:
                    number = self._acknowledged[self._next * 7919 % len(self._acknowledged)]
                self._arrived.append((due, number, again))
                self._next += 1
            due += TICK_S
            await asyncio.sleep(max(0.0, due - time.monotonic()))

    async def _claim(self) -> None:
        while self._arrived or not self._ended:
            group, self._arrived = self._arrived[:GROUP_MAX], self._arrived[GROUP_MAX:]
            if not group:
                await asyncio.sleep(0.001)
                continue
            entries = [entry_of(number) for _, number, _ in group]
            answers = await self._dedup.claim_many([(e.key, e.content) for e in entries])
            ended = time.monotonic()
            for (sent, number, again), entry, answer in zip(group, entries, answers, strict=True):
                self.waits.append((sent, ended - sent))
                if type(answer) is not (Found if again else Claimed):
                    self.faults.append(f"{number}: {answer!r:.120}")
                elif not again:
                    self._claimed.append((number, entry))

    async def _complete(self) -> None:
        while self._claimed or self._arrived or not self._ended:
            group, self._claimed = self._claimed, []
            await self._dedup.complete_many([entry for _, entry in group])
            self._acknowledged += [number for number, _ in group]
            await asyncio.sleep(0.001)


class Region:
    """SQLite files of one region, and the commands on them."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.control_url = f"sqlite:///{folder}/control.sqlite"

    def url(self, name: str) -> str:
        """Say where a dedup shard is."""
        return f"sqlite:///{self.folder}/{name}.sqlite"

    async def command(self, *words: str) -> dict[str, Any]:
        """Run one command of an operator; give its answer."""
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", PROGRAM, *words, "--json",
            env={**os.environ, "FLK_DEDUP_CONTROL": self.control_url},
            stdout=asyncio.subprocess.PIPE,
        )  # fmt: skip
        text, _ = await process.communicate()
        answer: dict[str, Any] = json.loads(text)
        if process.returncode:
            raise RuntimeError(f"{' '.join(words)}: {answer}")
        return answer

    async def migrate(self, change: list[str], *, rate: int = 0) -> dict[str, Any]:
        """Go through a whole migration; give when the cutover was, and what it told."""
        plan = str(self.folder / "plan.json")
        planned = await self.command("plan", *change, "--window=0", f"--out={plan}")
        await self.command("dual-write", plan)
        copied = await self.command("copy", f"--rate={rate}")
        await self.command("verify")
        began = time.monotonic()
        idle_began = time.monotonic()
        await self.command("status")
        idle_ended = time.monotonic()
        await asyncio.sleep(2 * AROUND_S)
        called_off = 0
        while True:
            try:
                cut = await self.command("cutover")
                break
            except RuntimeError as error:
                if "called off" not in str(error):
                    raise
                called_off += 1
        ended = time.monotonic()
        await self.command("cleanup")
        return {
            "began": began, "ended": ended, "paused_ms": cut["paused_ms"],
            "called_off": called_off,
            "idle_began": idle_began, "idle_ended": idle_ended,
            "keys": planned["keys_to_move"], "copied": copied["copied"],
            "seconds": copied["seconds"],
        }  # fmt: skip


@contextlib.asynccontextmanager
async def loaded(region: Region, count: int, *, rate_per_s: int, keys: int) -> AsyncIterator[Load]:
    """Found a ring of so many dedup shards with keys in them, and send records meanwhile."""
    names = [f"shard-{number}" for number in range(count)]
    await region.command("init", *(f"--shard={name}={region.url(name)}" for name in names))
    control = open_control(region.control_url)
    held = await control.read()
    assert held is not None
    dedup = ShardedDedup(held, control=control, open_shard=opened, node="eu1/bench")
    await dedup.start()
    for start in range(0, keys, 1_000):
        await dedup.merge_many([entry_of(number) for number in range(start, start + 1_000)])
    load = Load(dedup, rate_per_s=rate_per_s, first=keys)
    running = asyncio.create_task(load.run())
    await asyncio.sleep(1)
    try:
        yield load
    finally:
        load.end()
        await running
        await dedup.close()
        await control.close()


def row(name: str, value: str) -> None:
    """Print one line of the table."""
    print(f"{name:58}{value:>24}", flush=True)


def at(values: list[float], share: float) -> float:
    """Give a percentile by nearest rank."""
    ordered = sorted(values)
    return ordered[max(0, -(-len(ordered) * int(share * 1000) // 1000) - 1)]


def waits_around(load: Load, began: float, ended: float) -> list[float]:
    """Give the waits, ms, of the records that were sent around a cutover."""
    return [
        1000 * waited for sent, waited in load.waits if began - AROUND_S <= sent <= ended + AROUND_S
    ]


async def cutovers(count: int, *, rate_per_s: int, keys: int) -> None:
    """Cut over again and again, 3 -> 4 and back, under load."""
    with tempfile.TemporaryDirectory() as folder:
        region = Region(Path(folder))
        change = [f"--add=shard-3={region.url('shard-3')}", "--remove=shard-3"]
        longest, fenced, idle, called_off = [], [], [], 0
        async with loaded(region, 3, rate_per_s=rate_per_s, keys=keys) as load:
            for number in range(count):
                done = await region.migrate([change[number % 2]])
                longest.append(max(waits_around(load, done["began"], done["ended"])))
                idle.append(max(waits_around(load, done["idle_began"], done["idle_ended"])))
                fenced.append(done["paused_ms"])
                called_off += done["called_off"]
                sys.stderr.write(
                    f"  {number + 1}: waited {longest[-1]:.1f} ms, paused {fenced[-1]:.1f} ms, "
                    f"idle {idle[-1]:.1f} ms, called off {called_off}, "
                    f"{len(load.waits)} records, {len(load.faults)} errors\n"
                )
        every = [1000 * waited for _, waited in load.waits]
        row(f"cutovers 3 -> 4 and back, at {rate_per_s}/s", f"{count}")
        row("called off by their budget of 50 ms, and done again", f"{called_off}")
        row("records, of them with an error", f"{len(every)}, {len(load.faults)}")
        row("longest wait of a record per cutover, median", f"{at(longest, 0.5):.1f} ms")
        row("the same, p99", f"{at(longest, 0.99):.1f} ms")
        row("the same around a command that changes nothing, median / p99",
            f"{at(idle, 0.5):.1f} / {at(idle, 0.99):.1f} ms")  # fmt: skip
        row("first fence to commit, median / p99",
            f"{at(fenced, 0.5):.1f} / {at(fenced, 0.99):.1f} ms")  # fmt: skip
        row("wait of every record, p50 / p99", f"{at(every, 0.5):.1f} / {at(every, 0.99):.1f} ms")
        for fault in load.faults[:5]:
            print(f"  {fault}")


async def growth(before: int, after: int, *, rate_per_s: int, keys: int) -> None:
    """Add dedup shards once, under load."""
    with tempfile.TemporaryDirectory() as folder:
        region = Region(Path(folder))
        added = [f"shard-{number}" for number in range(before, after)]
        async with loaded(region, before, rate_per_s=rate_per_s, keys=keys) as load:
            done = await region.migrate([f"--add={name}={region.url(name)}" for name in added])
            await asyncio.sleep(0.5)
        around = waits_around(load, done["began"], done["ended"])
        row(f"{before} -> {after} at {rate_per_s}/s: keys planned, copied",
            f"{done['keys']}, {done['copied']}")  # fmt: skip
        row("  records, errors", f"{len(load.waits)}, {len(load.faults)}")
        row("  longest wait around the cutover", f"{max(around):.1f} ms")
        for fault in load.faults[:5]:
            print(f"  {fault}")


async def copy_speed(kind: str, keys: int) -> None:
    """Copy without a throttle and without load."""
    with tempfile.TemporaryDirectory() as folder:
        names = ("shard-0", "shard-1", "shard-2", "shard-3")
        shards = {name: MemoryShard(name) for name in names}
        region = Region(Path(folder))
        control = open_control(region.control_url)

        async def pick(info: ShardInfo) -> Any:
            return shards[info.name] if kind == "memory" else await opened(info)

        await prepare(region, control, pick, keys)
        coordinator = Coordinator(control, pick, now_ms=lambda: time.time_ns() // 1_000_000)
        started = time.perf_counter()
        copied = await coordinator.copy(0)
        seconds = time.perf_counter() - started
        row(f"copy without a throttle, {kind}: {copied} keys", f"{copied / seconds:,.0f} keys/s")
        started = time.perf_counter()
        report = await coordinator.verify()
        seconds = time.perf_counter() - started
        row(f"verify, {kind}: {report.compared} keys", f"{report.compared / seconds:,.0f} keys/s")
        await coordinator.close()
        await control.close()


async def prepare(region: Region, control: ControlStore, pick: Any, keys: int) -> None:
    """Fill three dedup shards and begin dual writes to the fourth."""
    infos = tuple(ShardInfo(f"shard-{n}", 1, region.url(f"shard-{n}")) for n in range(4))
    document = RingDocument(1, infos[:3])
    await control.create(document)
    shards = {info.name: await pick(info) for info in infos}
    groups: dict[str, list[Entry]] = {name: [] for name in shards}
    for number in range(keys):
        entry = entry_of(number)
        groups[owner(document, entry.key)].append(entry)
    for name, entries in groups.items():
        for start in range(0, len(entries), 1_000):
            await shards[name].put_if_first(entries[start : start + 1_000], ring_epoch=1)
    counts = {info.name: await shards[info.name].count() for info in infos[:3]}
    coordinator = Coordinator(control, pick, now_ms=lambda: time.time_ns() // 1_000_000)
    await coordinator.begin(jcs(make_plan(document, infos, counts, Wish(rate_per_s=0))))
    await coordinator.run("dual-write")
    await coordinator.close()


def owner(document: Any, key: Key) -> str:
    """Name the dedup shard that decides about a key."""
    name: str = document.routes(key).authority
    return name


def main() -> None:
    """Run every part and print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cutovers", type=int, default=20)
    parser.add_argument("--rate", type=int, default=2_000)
    parser.add_argument("--keys", type=int, default=20_000)
    parser.add_argument("--only", choices=("copy", "growth", "cutovers"))
    given = parser.parse_args()
    if given.only in (None, "copy"):
        for kind in ("memory", "sqlite"):
            asyncio.run(copy_speed(kind, 5 * given.keys))
    if given.only in (None, "growth"):
        for before, after in ((1, 3), (3, 4)):
            asyncio.run(growth(before, after, rate_per_s=given.rate, keys=given.keys))
    if given.only in (None, "cutovers"):
        asyncio.run(cutovers(given.cutovers, rate_per_s=given.rate, keys=given.keys))


if __name__ == "__main__":
    main()
