"""Claims and outcomes per second in each engine of a dedup shard, singly and in batches of 100.

    python -m bench.shards [--redis URL] [--postgres URL] [--keys N] [--router]

Engines with a server are measured where a URL is given: an empty database that syncs its
commits, a Redis that appends. A single claim waits for the one before; so the figure is the
inverse of a round trip. Nothing else should run on the machine.
"""

from __future__ import annotations

import argparse
import asyncio
import secrets
import tempfile
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from hashlib import sha256
from pathlib import Path
from typing import Any

from fractal_lba_server.core.dedup import Claim, Claimed, DedupShard, Entry, done_entry
from fractal_lba_server.core.first_write import Key, Origin, Stored
from fractal_lba_server.core.ring_document import RingDocument, ShardInfo
from fractal_lba_server.store.control import Held
from fractal_lba_server.store.shards.following import FixedControl
from fractal_lba_server.store.shards.opening import open_shard
from fractal_lba_server.store.shards.redis import RedisShard
from fractal_lba_server.store.shards.router import ShardedDedup

BATCH = 100
SINGLES_SHARE = 20
"""One key in so many is asked for singly."""

EVERYWHERE = [(0, 2**32 - 1)]


def key_of(number: int) -> Key:
    """Give an id as random as a real one."""
    return "bench", sha256(b"bench %d" % number).hexdigest()


def entry_of(number: int) -> Entry:
    """Make an outcome of 300 bytes."""
    key = key_of(number)
    stored = Stored(number + 1, key[1], 200, b"x" * 300, Origin("eu1", "open", 1), number + 1)
    return done_entry(key, stored, lambda _: 0, owner="eu1")


async def per_second(
    items: Sequence[Any], size: int, call: Callable[[Sequence[Any]], Awaitable[Any]]
) -> float:
    """Give the rate of items that go one call after the other."""
    start = time.perf_counter()
    for at in range(0, len(items), size):
        await call(items[at : at + size])
    return len(items) / (time.perf_counter() - start)


async def measure(name: str, shard: DedupShard, keys: int) -> list[str]:
    """Measure one engine; give a row of the table."""

    async def claim(claims: Sequence[Claim]) -> None:
        answers = await shard.claim(claims, ring_epoch=1)
        if any(type(answer) is not Claimed for answer in answers):
            raise SystemExit(f"{name}: a new key was not claimed")

    async def put(entries: Sequence[Entry]) -> None:
        await shard.put_if_first(entries, ring_epoch=1)

    singles = keys // SINGLES_SHARE
    claims = [Claim(key_of(number), "c" * 64, "eu1") for number in range(keys + singles)]
    entries = [entry_of(number) for number in range(keys + singles)]
    fresh = [entry_of(number) for number in range(10**6, 10**6 + keys)]
    rates = [
        await per_second(claims[:keys], BATCH, claim),
        await per_second(claims[keys:], 1, claim),
        await per_second(entries[:keys], BATCH, put),
        await per_second(entries[keys:], 1, put),
        await per_second(fresh, BATCH, put),
        await per_second([entry.key for entry in fresh], BATCH, shard.lookup),
    ]
    start = time.perf_counter()
    after, found = None, 0
    while page := await shard.scan(ranges=EVERYWHERE, after=after, limit=1_000):
        found += len(page)
        after = (0, page[-1].key)
    rates.append(found / (time.perf_counter() - start))
    start = time.perf_counter()
    ((counted, _),) = await shard.digest(EVERYWHERE)
    rates.append(counted / (time.perf_counter() - start))
    if not found == counted == 2 * keys + singles:
        raise SystemExit(f"{name}: {found} entries scanned, {counted} digested")
    return [name, *(f"{rate:,.0f}" for rate in rates)]


async def measure_router(folder: Path, keys: int) -> float:
    """Give claims per second through a router over three files."""
    infos = tuple(ShardInfo(f"s{n}", 1, f"sqlite:///{folder}/r{n}.sqlite") for n in range(3))
    document = RingDocument(1, infos)
    router = ShardedDedup(
        Held(document, 1),
        control=FixedControl(document),
        open_shard=lambda info: open_shard(info.name, info.url),
        node="eu1",
    )
    await router.start()
    claims = [(key_of(number), "c" * 64) for number in range(keys)]
    rate = await per_second(claims, BATCH, router.claim_many)
    await router.close()
    return rate


@asynccontextmanager
async def opened(url: str) -> AsyncIterator[DedupShard]:
    """Open a dedup shard with a name of its own."""
    shard = await open_shard(f"bench-{secrets.token_hex(4)}", url)
    await shard.start()
    if isinstance(shard, RedisShard):
        await shard.refill([], ring_epoch=1, node="eu1")
    try:
        yield shard
    finally:
        await shard.close()


HEAD = ("engine", "claim x100", "claim x1", "complete x100", "complete x1", "put new x100",
        "look-up x100", "scan", "digest")  # fmt: skip


async def run(options: argparse.Namespace) -> None:
    """Measure every engine that there is, one after the other."""
    rows: list[Sequence[str]] = [HEAD]
    with tempfile.TemporaryDirectory() as folder:
        urls = {"memory": "memory:", "SQLite": f"sqlite:///{folder}/bench.sqlite",
                "PostgreSQL": options.postgres, "Redis": options.redis}  # fmt: skip
        for name, url in urls.items():
            if url is not None:
                async with opened(url) as shard:
                    rows.append(await measure(name, shard, options.keys))
        if options.router:
            rate = await measure_router(Path(folder), options.keys)
            print(f"router over three SQLite files, claims x100: {rate:,.0f} per second")
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD))]
    for row in rows:
        print("  ".join(cell.rjust(width) for cell, width in zip(row, widths, strict=True)))


def main() -> None:
    """Read the options, and measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--redis", help="redis://HOST:PORT/N")
    parser.add_argument("--postgres", help="postgresql://USER@HOST/DATABASE")
    parser.add_argument("--keys", type=int, default=10_000)
    parser.add_argument("--router", action="store_true", help="also a router over three files")
    asyncio.run(run(parser.parse_args()))


if __name__ == "__main__":
    main()
