"""Open the dedup shard of a URL."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

from fractal_lba.errors import ConfigError

from ...core.dedup import GRACE_MS, DedupShard
from .batches import Clock, unix_ms
from .memory import MemoryShard
from .sqlite import SqliteShard

SCHEMES: Final = ("memory", "sqlite", "postgresql", "redis", "rediss")
"""Schemes of the URLs; each engine but the first two needs its extra."""


async def open_shard(
    name: str,
    url: str,
    *,
    now_ms: Clock = unix_ms,
    grace_ms: int = GRACE_MS,
    read_only: bool = False,
    lasting: bool = False,
) -> DedupShard:
    """Open a dedup shard; nothing is reached before `start` or the first call.

    `memory:`, `sqlite:///PATH` (four slashes for an absolute path), `postgresql://...` and
    `redis://...`; raises ConfigError for any other, without the URL, which may hold a password.
    With `read_only` nothing is made, and writes fail; with `lasting`, `memory:` is refused.
    """
    scheme = url.partition(":")[0]
    options: Any = {"now_ms": now_ms, "grace_ms": grace_ms, "read_only": read_only}
    try:
        parts = urlsplit(url)
        sqlite_path = unquote(parts.path[1:])
        if scheme == "memory" and lasting:
            raise _wrong(name, "memory: forgets every id when the process ends")
        if scheme == "memory":
            return MemoryShard(name, now_ms=now_ms, grace_ms=grace_ms)
        if scheme == "sqlite" and not parts.netloc and sqlite_path:
            return SqliteShard(name, Path(sqlite_path), **options)
        if scheme == "postgresql" and parts.hostname != "":
            from .postgres import PostgresShard  # noqa: PLC0415 - asyncpg is an extra

            return PostgresShard(name, url, **options)
        if scheme in ("redis", "rediss"):
            from .redis import RedisShard  # noqa: PLC0415 - redis is an extra

            return RedisShard(name, url, now_ms=now_ms, grace_ms=grace_ms)
    except ImportError as error:
        raise _wrong(
            name, f"{scheme} needs a package that is not installed: {error.name}"
        ) from None
    except ValueError:
        raise _wrong(name, f"not a {scheme} URL") from None
    raise _wrong(name, f"expected a scheme of {', '.join(SCHEMES)}")


async def begin_empty(dedup_shard: DedupShard, *, ring_epoch: int) -> None:
    """Make a dedup shard ready that never held anything; only one in Redis has to be told.

    Whoever calls this says that no ring document named the shard before. One that a document
    names has to be filled from the logs: begun empty, it would call every old key new.
    """
    begin = getattr(dedup_shard, "begin_empty", None)
    if begin is not None:
        await begin(ring_epoch=ring_epoch)


def _wrong(name: str, problem: str) -> ConfigError:
    return ConfigError("config_invalid", f"url of dedup shard {name}: {problem}")
