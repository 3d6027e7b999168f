"""Reach the dedup shards of a ring: open them, and know which of them answer.

A dedup shard that failed is asked nothing but a probe until it answers again, so a shard that
hangs costs its keys an answer and no time. Health changes no ownership (spec/ring.md 1.6).
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import Awaitable, Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple, TypeVar

from fractal_lba.errors import ConfigError

from ...core.dedup import DedupShard, ShardUnavailable, StaleRingEpoch
from ...core.first_write import Key
from ...core.ring_document import ShardInfo
from .redis_scripts import GONE

PROBE_S: Final = 0.25
"""Pause between two probes of a dedup shard that does not answer."""

OpenShard = Callable[[ShardInfo], Awaitable[DedupShard]]
ResultT = TypeVar("ResultT")


class Unavailable(NamedTuple):
    """The dedup shard that decides about a key does not answer: the key is not "new"."""

    dedup_shard: str
    reason: str
    sent: bool = False
    """The shard was asked, and may have done it all the same."""


class Health(NamedTuple):
    """Whether a dedup shard answers; if not, since when and why."""

    dedup_shard: str
    healthy: bool
    down_ms: int
    reason: str

    @property
    def forgot(self) -> bool:
        """Say whether the shard waits to be filled from the logs (spec/dedup.md 4)."""
        return GONE in self.reason


class Reach:
    """The open dedup shards of one process, by name."""

    def __init__(self, open_shard: OpenShard, *, probe_s: float = PROBE_S) -> None:
        self._open_shard = open_shard
        self._probe_s = probe_s
        self._open: dict[str, DedupShard] = {}
        self._down: dict[str, tuple[float, str]] = {}
        self._probes: dict[str, asyncio.Task[None]] = {}
        self._opening = asyncio.Lock()

    async def use(self, infos: Iterable[ShardInfo]) -> None:
        """Open what is not open yet; raises ConfigError if one is not fit to hold ids."""
        unfit: ConfigError | None = None
        async with self._opening:
            for info in infos:
                if info.name not in self._open:
                    try:
                        self._open[info.name] = await self._open_shard(info)
                        await self._open[info.name].start()
                    except ConfigError as error:
                        self.mark_down(info.name, error.message)
                        unfit = error
                    except ShardUnavailable as error:
                        self.mark_down(info.name, error.reason)
        if unfit is not None:
            raise unfit

    def dedup_shard(self, name: str) -> DedupShard:
        """Give an open dedup shard."""
        return self._open[name]

    async def call(
        self, name: str, run: Callable[[DedupShard], Awaitable[ResultT]]
    ) -> ResultT | Unavailable:
        """Call a dedup shard, unless it is known not to answer; StaleRingEpoch passes through."""
        dedup_shard, down = self._open.get(name), self._down.get(name)
        if dedup_shard is None or down is not None:
            return Unavailable(name, "not open" if down is None else down[1])
        try:
            return await run(dedup_shard)
        except ShardUnavailable as error:
            self.mark_down(name, error.reason)
            return Unavailable(name, error.reason, sent=True)
        except ConfigError as error:
            self.mark_down(name, error.message)
            return Unavailable(name, error.message)

    async def spread(
        self,
        pairs: Iterable[tuple[str, Key]],
        run: Callable[[DedupShard, list[Key]], Awaitable[Sequence[ResultT]]],
    ) -> dict[tuple[str, Key], ResultT | Unavailable | StaleRingEpoch]:
        """Call each dedup shard once, all at a time, with its keys."""
        by_shard: dict[str, list[Key]] = {}
        for name, key in pairs:
            by_shard.setdefault(name, []).append(key)

        async def ask(name: str, keys: list[Key]) -> Sequence[Any]:
            try:
                found = await self.call(name, lambda dedup_shard: run(dedup_shard, keys))
            except StaleRingEpoch as stale:
                return [stale] * len(keys)
            return [found] * len(keys) if isinstance(found, Unavailable) else found

        found = await asyncio.gather(*(ask(name, keys) for name, keys in by_shard.items()))
        return {
            (name, key): answer
            for (name, keys), answers in zip(by_shard.items(), found, strict=True)
            for key, answer in zip(keys, answers, strict=True)
        }

    def health(self) -> list[Health]:
        """Say of each dedup shard whether it answers."""
        now = time.monotonic()
        found = []
        for name in sorted(self._open):
            since, reason = self._down.get(name, (now, ""))
            found.append(Health(name, name not in self._down, int((now - since) * 1_000), reason))
        return found

    def is_healthy(self, name: str) -> bool:
        """Say whether a dedup shard answered last time."""
        return name in self._open and name not in self._down

    async def close(self) -> None:
        """End the probes and close every dedup shard."""
        probes = list(self._probes.values())
        for probe in probes:
            probe.cancel()
        for probe in probes:
            with contextlib.suppress(asyncio.CancelledError):
                await probe
        for dedup_shard in self._open.values():
            await dedup_shard.close()

    def mark_down(self, name: str, reason: str) -> None:
        """Ask a dedup shard nothing more until a probe is answered."""
        since = self._down.get(name, (time.monotonic(), ""))[0]
        self._down[name] = (since, reason)
        if name in self._open and name not in self._probes:
            self._probes[name] = asyncio.create_task(self._probe(name))

    async def _probe(self, name: str) -> None:
        """Ask for the fence until it is told; engines check there what they check anywhere."""
        while name in self._down:
            await asyncio.sleep(self._probe_s)
            try:
                await self._open[name].fence()
            except (ShardUnavailable, ConfigError) as error:
                self.mark_down(name, getattr(error, "reason", str(error)))
            else:
                del self._down[name]
        del self._probes[name]
