"""A dedup shard in Redis 7: a cache of the logs, never the authority (spec/dedup.md 4).

Replication and the append-only file of Redis lag behind its answers, so a server that restarted
or was promoted may have forgotten what it answered. Each script therefore checks that the data
set is the one that was filled from the logs (redis_scripts.py); until it is filled again the
answer is "unavailable", never "new".
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Awaitable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final, cast

import redis.asyncio
from redis.asyncio.retry import Retry
from redis.backoff import NoBackoff
from redis.exceptions import RedisError, ResponseError

from fractal_lba.errors import ConfigError

from ...core import dedup
from ...core.dedup import (
    Claim,
    Claimed,
    Entry,
    Found,
    Pending,
    Ranges,
    ShardUnavailable,
    StaleRingEpoch,
    Verdict,
)
from ...core.first_write import Key
from . import redis_scripts as scripts
from .batches import BATCH_MAX, CALL_S, DIGEST_PAGE, SCAN_MAX, Clock, late_ms, parts, unix_ms

CONNECTIONS_MAX: Final = 4
"""Connections of one process to one dedup shard; a call more waits for one of them."""

GENERATION_BYTES: Final = 16
"""Random bytes that tell one filling from another."""

NODES_MAX: Final = 64
"""Most server processes of a region that fill one dedup shard together."""

_NEEDED: Final = (
    ("maxmemory-policy", ("noeviction",)),
    ("appendonly", ("yes",)),
    ("appendfsync", ("everysec", "always")),
)
"""What `CONFIG GET` has to say: ids are not evicted, and a stop loses at most a second."""


class RedisShard:
    """Scripts over a few connections, all bound to one filling of one server."""

    def __init__(
        self, name: str, url: str, *, now_ms: Clock = unix_ms, grace_ms: int = dedup.GRACE_MS
    ) -> None:
        self.name = name
        self._now_ms = now_ms
        self._grace_ms = grace_ms
        self._generation = b""
        """The filling that this process knows; what it claimed in another one is not there."""
        self._keys = [f"flk:dedup:{{{name}}}:{part}" for part in ("rows", "points", "nodes")]
        self._room = asyncio.Semaphore(CONNECTIONS_MAX)
        self._client = redis.asyncio.Redis.from_url(
            url, socket_timeout=CALL_S, socket_connect_timeout=CALL_S,
            retry=Retry(NoBackoff(), 0),
        )  # fmt: skip
        self._scripts = {
            text: self._client.register_script(text)
            for text in (
                scripts.CURRENT, scripts.CLAIM, scripts.PUT, scripts.DELETE, scripts.LOOKUP,
                scripts.SCAN, scripts.COUNT, scripts.FENCE, scripts.SET_FENCE,
                scripts.BEGIN_REFILL, scripts.REFILL, scripts.END_REFILL,
            )
        }  # fmt: skip

    async def start(self) -> None:
        """Check the server's configuration; raises ConfigError if it may forget ids."""
        for name, allowed in _NEEDED:
            found = await self._ask(self._client.config_get(name))
            value = found.get(name, "not told") if isinstance(found, dict) else "not told"
            if value not in allowed:
                raise ConfigError(
                    "config_invalid",
                    f"dedup shard {self.name}: Redis has {name} {value}, expected "
                    f"{' or '.join(allowed)}",
                )

    async def claim(self, claims: Sequence[Claim], *, ring_epoch: int) -> list[Verdict]:
        """Decide about each claim, in order."""
        entries = [dedup.claim_entry(claim) for claim in claims]
        standing = await self._put(scripts.CLAIM, entries, ring_epoch)
        return [_verdict(claim, row) for claim, row in zip(claims, standing, strict=True)]

    async def complete(self, entries: Sequence[Entry], *, ring_epoch: int) -> None:
        """Put outcomes where their claims were."""
        await self.put_if_first(entries, ring_epoch=ring_epoch)

    async def release(self, keys: Sequence[Key], owner: str, *, ring_epoch: int) -> None:
        """Give back claims of this owner."""
        await self._delete(keys, dedup.owner_bytes(owner), ring_epoch)

    async def lookup(self, keys: Sequence[Key]) -> list[Entry | None]:
        """Give what stands under each key."""
        found: list[Entry | None] = []
        for part in parts(len(keys)):
            hashed = [dedup.place_of(keys[index])[1] for index in part]
            rows = await self._run(scripts.LOOKUP, *hashed)
            found += [
                None if row is None else self._entry(keys[index], row)
                for index, row in zip(part, rows, strict=True)
            ]
        return found

    async def put_if_first(self, entries: Sequence[Entry], *, ring_epoch: int) -> list[Entry]:
        """Put each entry that comes before what stands; give what stands now."""
        return await self._put(scripts.PUT, entries, ring_epoch)

    async def scan(
        self, *, ranges: Ranges, after: tuple[int, Key] | None, limit: int
    ) -> list[Entry]:
        """Give entries of these ranges behind `after`, in order."""
        behind = (-1, b"") if after is None else dedup.place_of(after[1])
        rows = await self._scan(ranges, behind, min(limit, SCAN_MAX))
        return [self._entry(dedup.key_of(key), row) for _, key, row in rows]

    async def digest(self, ranges: Ranges) -> list[tuple[int, bytes]]:
        """Give number and digest of the entries of each range."""
        digests: list[list[bytes]] = [[] for _ in ranges]
        behind: tuple[int, bytes] = (-1, b"")
        while rows := await self._scan(ranges, behind, DIGEST_PAGE):
            for span, hashed, row in rows:
                digests[span - 1].append(dedup.entry_digest(hashed, row))
            behind = dedup.place_of(dedup.key_of(rows[-1][1]))
        return [dedup.range_digest(each) for each in digests]

    async def delete(self, keys: Sequence[Key], *, ring_epoch: int) -> int:
        """Delete entries; give how many there were."""
        return await self._delete(keys, b"", ring_epoch)

    async def count(self) -> int:
        """Count the entries."""
        return int(await self._run(scripts.COUNT))

    async def fence(self) -> int:
        """Give the smallest ring epoch under which writes are taken."""
        return int(await self._run(scripts.FENCE))

    async def set_fence(self, ring_epoch: int) -> None:
        """Raise the fence; scripts run one after the other."""
        await self._run(scripts.SET_FENCE, ring_epoch)

    async def close(self) -> None:
        """End the connections."""
        await self._client.aclose()

    async def refill(
        self,
        entries: Iterable[Entry],
        *,
        ring_epoch: int,
        node: str,
        nodes: Sequence[str] = (),
    ) -> bool:
        """Fill the shard anew with what this node knows: its logs, and the claims that it holds.

        It answers again when each of `nodes` has done so; False if others are still missing.
        The fence is then at least `ring_epoch`, which has to lie above every ring epoch that
        was in use before: a fence that was forgotten may have been one above.
        """
        if len(nodes) > NODES_MAX:
            raise ConfigError("config_invalid", f"at most {NODES_MAX} nodes, got {len(nodes)}")
        await self.start()
        mark = await self._call(scripts.BEGIN_REFILL, secrets.token_hex(GENERATION_BYTES))
        expired = dedup.expiry_bytes(dedup.expired_before_ms(self._now_ms(), self._grace_ms))
        pieces = iter(entries)
        while batch := list(islice(pieces, BATCH_MAX)):
            await self._call(scripts.REFILL, mark, expired, *_arguments(batch))
        self._generation = mark
        whole = await self._call(scripts.END_REFILL, mark, ring_epoch, node, *(nodes or (node,)))
        return bool(whole)

    async def begin_empty(self, *, ring_epoch: int) -> None:
        """Fill a shard that never held anything with nothing; one that is whole stays as it is."""
        await self.refill((), ring_epoch=ring_epoch, node="begin")

    async def _put(self, script: str, entries: Sequence[Entry], ring_epoch: int) -> list[Entry]:
        expired = dedup.expiry_bytes(dedup.expired_before_ms(self._now_ms(), self._grace_ms))
        standing: list[Entry] = []
        for part in parts(len(entries)):
            batch = [entries[index] for index in part]
            rows = await self._run(script, ring_epoch, late_ms(), expired, *_arguments(batch))
            pairs = zip(batch, rows, strict=True)
            standing += [self._entry(entry.key, row) for entry, row in pairs]
        return standing

    async def _delete(self, keys: Sequence[Key], owner: bytes, ring_epoch: int) -> int:
        deleted = 0
        for part in parts(len(keys)):
            hashed = [dedup.place_of(keys[index])[1] for index in part]
            deleted += int(await self._run(scripts.DELETE, ring_epoch, late_ms(), owner, *hashed))
        return deleted

    async def _scan(self, ranges: Ranges, behind: tuple[int, bytes], limit: int) -> list[Any]:
        bounds = [bound for span in ranges for bound in span]
        found = await self._run(scripts.SCAN, *behind, limit, *bounds)
        return list(zip(found[::3], found[1::3], found[2::3], strict=True))

    def _entry(self, key: Key, row: bytes) -> Entry:
        try:
            return dedup.decode_row(key, row)
        except ValueError as error:
            raise ShardUnavailable(self.name, str(error)) from error

    async def _run(self, script: str, *values: Any) -> Any:
        """Run a script against the filling that this process knows."""
        if not self._generation:
            await self.start()
            self._generation = await self._call(scripts.CURRENT, b"")
        return await self._call(script, self._generation, *values)

    async def _call(self, script: str, *values: Any) -> Any:
        try:
            async with asyncio.timeout(CALL_S), self._room:
                return await self._scripts[script](keys=self._keys, args=values)
        except ResponseError as error:
            kind, _, rest = str(error).partition(" ")
            if kind == scripts.STALE:
                raise StaleRingEpoch(int(rest)) from None
            raise ShardUnavailable(self.name, f"Redis: {error}") from error
        except (RedisError, OSError) as error:
            reason = str(error) or type(error).__name__
            raise ShardUnavailable(self.name, f"Redis: {reason}") from error

    async def _ask(self, answer: Awaitable[Any] | Any) -> Any:
        try:
            async with asyncio.timeout(CALL_S):
                return await cast("Awaitable[Any]", answer)
        except (RedisError, OSError) as error:
            raise ShardUnavailable(self.name, f"Redis: {error}") from error


def _arguments(entries: Iterable[Entry]) -> Iterator[bytes | int]:
    for entry in entries:
        point, hashed = dedup.place_of(entry.key)
        yield hashed
        yield point
        yield dedup.encode_row(entry)


def _verdict(claim: Claim, stands: Entry) -> Verdict:
    if stands.state == dedup.DONE:
        return Found(stands)
    return Claimed(claim.key) if stands.owner == claim.owner else Pending(stands)
