"""The hot tier in a Redis of one's own: a cache that may forget everything, and says so.

The invariant of this file: what is read was put under this incarnation of the namespace. A start,
and a Redis that was restarted or replaced, begin a new incarnation, so nothing that was forgotten
comes back with an old copy of the data. Entries expire by absolute time; a Redis that evicts is
refused (spec/tiers.md 5.3).
"""

from __future__ import annotations

import struct
import uuid
from collections.abc import Sequence
from typing import Any, Final

import redis.asyncio as redis
from redis.exceptions import OutOfMemoryError, RedisError

from ...core.cold_segment import ColdCorruptError, Entry, read_entry, write_entry
from ...core.first_write import Key, Stored
from .protocols import TierSize, TierUnavailableError

TIMEOUT_S: Final = 0.25
"""Longest wait for one answer: after it hot is a miss, and warm answers in less."""

_UNTIL: Final = struct.Struct(">Q")

_PUT: Final = """
if redis.call('GET', KEYS[1]) ~= ARGV[1] then return 0 end
redis.call('SET', KEYS[2], ARGV[2], 'PXAT', ARGV[3])
return 1
"""
_FORGET: Final = """
redis.call('SET', KEYS[1], ARGV[1])
for i = 2, #KEYS do redis.call('UNLINK', KEYS[i]) end
return 1
"""


class HotRedis:
    """Hold outcomes in one Redis server, under a namespace that this process owns."""

    def __init__(self, url: str, *, namespace: str, timeout_s: float = TIMEOUT_S) -> None:
        self._client: Any = redis.from_url(
            url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s
        )
        self._namespace = namespace
        self._generation = 0
        self._incarnation = ""
        self._run_id = ""
        self._is_known = False
        self._put = self._client.register_script(_PUT)
        self._forget = self._client.register_script(_FORGET)

    async def begin(self, generation: int) -> None:
        """Take a new incarnation; raises TierUnavailableError, also where Redis evicts."""
        self._generation = generation
        try:
            await self._begin()
        except RedisError as error:
            raise self._failed(error) from error

    async def _begin(self) -> None:
        info = await self._client.info()
        policy = info.get("maxmemory_policy")
        if policy != "noeviction":
            raise TierUnavailableError(f"redis: maxmemory-policy is {policy}; set it to noeviction")
        self._run_id = info["run_id"]
        self._incarnation = uuid.uuid4().hex[:12]
        await self._client.set(self._marker(), self._generation)
        self._is_known = True

    async def get(self, key: Key, now_ms: int) -> Stored | None:
        try:
            await self._check()
            data = await self._client.get(self._name(key))
        except RedisError as error:
            raise self._failed(error) from error
        if data is None:
            return None
        (until_ms,) = _UNTIL.unpack_from(data)
        try:
            entry = read_entry(data[_UNTIL.size :])
        except ColdCorruptError as error:
            raise TierUnavailableError(f"redis: {error}") from error
        return entry.stored if entry.key == key and until_ms > now_ms else None

    async def put(
        self, key: Key, stored: Stored, *, until_ms: int, generation: int, now_ms: int
    ) -> bool:
        if until_ms <= now_ms:
            return False
        value = _UNTIL.pack(until_ms) + write_entry(Entry(key, stored, b""))
        try:
            await self._check()
            keys = [self._marker(), self._name(key)]
            taken = bool(await self._put(keys=keys, args=[generation, value, until_ms]))
        except OutOfMemoryError:
            return False
        except RedisError as error:
            raise self._failed(error) from error
        # A Redis that was flushed has no marker, and would refuse every entry from now on.
        self._is_known = taken
        return taken

    async def forget(self, keys: Sequence[Key], generation: int) -> None:
        self._generation = generation
        names = [self._marker(), *map(self._name, keys)]
        try:
            await self._check()
            await self._forget(keys=names, args=[generation])
        except RedisError as error:
            raise self._failed(error) from error

    async def size(self) -> TierSize:
        """Count this incarnation's keys; the bytes are those that the whole Redis uses."""
        try:
            await self._check()
            keys = 0
            async for _ in self._client.scan_iter(match=f"{self._prefix()}*", count=1_000):
                keys += 1
            info = await self._client.info("memory")
        except RedisError as error:
            raise self._failed(error) from error
        return TierSize(keys, int(info["used_memory"]))

    async def close(self) -> None:
        await self._client.aclose()

    async def _check(self) -> None:
        """After a failure, look whether it is still the Redis that it was."""
        if self._is_known:
            return
        info = await self._client.info("server")
        held = await self._client.get(self._marker())
        if info["run_id"] != self._run_id or held is None or int(held) != self._generation:
            await self._begin()
        self._is_known = True

    def _failed(self, error: Exception) -> TierUnavailableError:
        self._is_known = False
        return TierUnavailableError(f"redis: {type(error).__name__}")

    def _marker(self) -> str:
        return f"{self._namespace}:generation"

    def _prefix(self) -> str:
        return f"{self._namespace}:{self._incarnation}:"

    def _name(self, key: Key) -> str:
        return f"{self._prefix()}{key[0]}|{key[1]}"
