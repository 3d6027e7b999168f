"""Look-ups in each tier, and what the tiers hold against what the formula says.

    python -m bench.tiers [--redis URL] [--postgres URL] [--s3 URL] [--rows N]

Every look-up goes through the whole walk, as a server's does. A cold read includes its lineage
entry, which is synced before the object is read. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import statistics
import tempfile
import time
from collections.abc import Awaitable, Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from fractal_lba_server.core.capacity import HOT_OVERHEADS, WARM_OVERHEAD
from fractal_lba_server.core.first_write import Apply, Key, Origin, Stored
from fractal_lba_server.core.tiering import TierBook, TierPolicy
from fractal_lba_server.store.index_cold import IndexWarm
from fractal_lba_server.store.sqlite import Index
from fractal_lba_server.store.tiers.cold_objects import open_cold
from fractal_lba_server.store.tiers.conditions import Condition
from fractal_lba_server.store.tiers.lineage import Lineage
from fractal_lba_server.store.tiers.warm_postgres import PostgresWarm
from fractal_lba_server.tier_mover import TierMover
from fractal_lba_server.tier_service import open_hot
from fractal_lba_server.tiers import Found, Tiers

OLD_MS = 1_700_000_000_000
ORIGIN = Origin("eu1", "open", 1)
LOOK_UPS = 2_000


def row(number: int) -> Apply:
    """Make an outcome of 270 bytes."""
    pcs_id = sha256(b"bench %d" % number).hexdigest()
    outcome = (
        f'{{"accepted":true,"escalated":false,"first_seen":{{"hlc":"{number:016x}","region":"eu1"}}'
        f',"pcs_id":"{pcs_id}","policy_version":"0123456789abcdef","recomputed_D_hat":1.58,'
        f'"recomputed_budget":0.33}}'
    )
    digest = sha256(b"content %d" % number).hexdigest()
    stored = Stored(number, digest, 200, outcome.encode(), ORIGIN, OLD_MS << 16)
    return Apply(("bench", pcs_id), stored, "kid")


async def timed(
    name: str, keys: list[Key], get: Callable[[Key], Awaitable[Any]], tier: str
) -> dict[str, Any]:
    """Look keys up one after the other; give percentiles in milliseconds."""
    times = []
    for key in keys:
        start = time.perf_counter_ns()
        answer = await get(key)
        times.append((time.perf_counter_ns() - start) / 1e6)
        if tier and not (isinstance(answer, Found) and answer.tier == tier):
            raise SystemExit(f"{name}: expected {tier}, got {answer}")
    cuts = statistics.quantiles(times, n=100)
    return {"what": name, "p50_ms": cuts[49], "p95_ms": cuts[94], "p99_ms": cuts[98]}


class Bench:
    """One run over one data directory."""

    def __init__(self, folder: Path, rows: int) -> None:
        self.folder, self.rows = folder, rows
        self.figures: list[dict[str, Any]] = []
        chance = random.Random(1)
        self.keys = [row(n).key for n in chance.sample(range(1, rows + 1), LOOK_UPS)]
        self.new = [("bench", sha256(b"new %d" % n).hexdigest()) for n in range(LOOK_UPS)]

    def tiers(self, warm: Any, hot: str | None, cold: Any, *, promote: str) -> Tiers:
        """Make the walk over some stores, without a budget in its way."""
        policy = TierPolicy(promote_on=promote, cold_reads_per_s=1e6, cold_reads_burst=10**6)
        book = TierBook(policy, overall_per_s=1e6, overall_burst=10**6)
        return Tiers(
            warm=warm, hot=None if hot is None else open_hot(hot, "flk:bench"), cold=cold,
            lineage=Lineage(self.folder / "lineage"), book=book, condition=Condition,
        )  # fmt: skip

    async def measure(
        self, name: str, tiers: Tiers, keys: list[Key], tier: str, *, warmed: bool = False
    ) -> None:
        """Measure one tier; `warmed` looks everything up once before."""
        await tiers.start()
        if warmed:
            for key in keys:
                await tiers.get(key)
                await tiers.promoted()
        self.figures.append(await timed(name, keys, tiers.get, tier))
        await tiers.stop()

    async def run(self, redis: str | None, postgres: str | None, s3: str | None) -> None:
        """Measure every tier that there is."""
        index = Index(self.folder / "index.sqlite")
        for first in range(1, self.rows + 1, 65_536):
            index.apply(row(n) for n in range(first, min(first + 65_536, self.rows + 1)))
        warm = IndexWarm(index, self.folder / "index.sqlite")
        await self.bytes_of_warm(warm)
        cold = open_cold(f"file://{self.folder}/cold")
        hots = {"hot, memory": "memory:"} | ({} if redis is None else {"hot, Redis": redis})
        for name, hot in hots.items():
            tiers = self.tiers(warm, hot, cold, promote="true")
            await self.measure(name, tiers, self.keys, "hot", warmed=True)
        tiers = self.tiers(warm, None, cold, promote="false")
        await self.measure("warm, the index (SQLite)", tiers, self.keys, "warm")
        tiers = self.tiers(warm, "memory:", cold, promote="false")
        await self.measure("a new id: hot, then warm, never cold", tiers, self.new, "")
        if postgres is not None:
            await self.measure_postgres(postgres)
        await self.measure_cold(warm, cold, "cold, a folder")
        if s3 is not None:
            other = IndexWarm(index, self.folder / "index.sqlite")
            await self.copy_to(open_cold(s3), cold, other)
            await self.measure_cold(other, open_cold(s3), "cold, S3", moves=False)
            await other.close()
        await warm.close()
        index.close()

    async def measure_postgres(self, url: str) -> None:
        """Measure warm in PostgreSQL, with as many rows as the index has."""
        warm = await PostgresWarm.open(url)
        for first in range(1, self.rows + 1, 8_192):
            rows = [row(n) for n in range(first, min(first + 8_192, self.rows + 1))]
            await warm.put([(each.key, each.stored) for each in rows])
        tiers = self.tiers(warm, None, None, promote="false")
        await self.measure("warm, PostgreSQL", tiers, self.keys, "warm")
        await warm.close()

    async def measure_cold(self, warm: Any, cold: Any, name: str, *, moves: bool = True) -> None:
        """Move everything to cold, then read it from there."""
        if moves:
            start = time.perf_counter()
            report = await TierMover(warm=warm, cold=cold, book=TierBook()).run()
            seconds = time.perf_counter() - start
            size = await warm.cold_size()
            self.figures.append(
                {
                    "what": "the mover", "payloads_per_s": report.payloads / seconds,
                    "objects": report.objects, "bytes_per_payload": size.size_bytes / size.keys,
                }
            )  # fmt: skip
        tiers = self.tiers(warm, None, cold, promote="false")
        await self.measure(name, tiers, self.keys, "cold")

    async def copy_to(self, target: Any, source: Any, warm: Any) -> None:
        """Put the objects that the folder has into another store, under the same names."""
        for info in await warm.objects("", 1_000):
            data = await source.read(info.name)
            await target.create(info.name, data)

    async def bytes_of_warm(self, warm: Any) -> None:
        """Compare the bytes of hot and warm with the formula."""
        size = await warm.size()
        await warm.fold()
        index_bytes = sum(path.stat().st_size for path in self.folder.glob("index.sqlite*"))
        hot = open_hot("memory:", "")
        for each in (row(n) for n in range(1, 10_001)):
            await hot.put(each.key, each.stored, until_ms=1 << 60, generation=0, now_ms=OLD_MS)
        held = await hot.size()
        self.figures.append(
            {
                "what": "bytes of a payload", "outcome": size.size_bytes / size.keys,
                "hot_memory": held.size_bytes / held.keys,
                "index_with_ids": index_bytes / size.keys,
                "overheads_of_the_formula": [*HOT_OVERHEADS.values(), WARM_OVERHEAD],
            }
        )  # fmt: skip


def main() -> None:
    """Run it and print one JSON object per line."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("--redis", "--postgres", "--s3"):
        parser.add_argument(name)
    parser.add_argument("--rows", type=int, default=200_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(Path(folder), given.rows)
        asyncio.run(bench.run(given.redis, given.postgres, given.s3))
    for figure in bench.figures:
        print(json.dumps(figure))


if __name__ == "__main__":
    main()
