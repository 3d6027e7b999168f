"""The cold tier in an object store: a folder, S3 or memory, through one client.

The invariant of this file: an object is created, never written over, and "there is none" is said
only where the store says exactly that. Every other answer of the store is unavailability.
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Mapping
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qsl, urlsplit

import obstore
from obstore.exceptions import AlreadyExistsError, BaseError, PreconditionError
from obstore.store import LocalStore, MemoryStore, S3Store

from .protocols import TierUnavailableError

TIMEOUT: Final = "10s"
"""Longest wait for one request of an object store."""

LIST_PAGE: Final = 1_000
"""Names in one page of a listing."""

S3_OPTIONS: Final = frozenset({"endpoint", "region", "virtual_hosted_style_request"})
"""What may stand behind the `?` of an s3 URL; secrets come from the environment."""

_NOT_THERE: Final = (FileNotFoundError, obstore.exceptions.NotFoundError)
_THERE: Final = (AlreadyExistsError, FileExistsError, PreconditionError)


class ColdObjects:
    """Objects by name below one prefix."""

    def __init__(self, store: Any, *, folder: Path | None = None) -> None:
        self._store = store
        self._folder = folder
        # Memory and a folder answer sooner than a task of the client's own runtime begins.
        self._is_remote = isinstance(store, S3Store)

    async def create(self, name: str, data: bytes) -> bool:
        is_new = True
        try:
            await self._call(obstore.put, obstore.put_async, name, data, mode="create")
        except _THERE:
            is_new = False
        except (BaseError, OSError) as error:
            raise _failed("create", error) from error
        if self._folder is not None:
            await asyncio.to_thread(_sync, self._folder, name)
        return is_new

    async def read(self, name: str) -> bytes | None:
        try:
            if self._is_remote:
                found = await obstore.get_async(self._store, name)
                return bytes(await found.bytes_async())
            return await asyncio.to_thread(lambda: bytes(obstore.get(self._store, name).bytes()))
        except _NOT_THERE:
            return None
        except (BaseError, OSError) as error:
            raise _failed("read", error) from error

    async def read_range(self, name: str, offset: int, length: int) -> bytes | None:
        try:
            found = await self._call(
                obstore.get_range, obstore.get_range_async, name, start=offset, length=length
            )
        except _NOT_THERE:
            return None
        except (BaseError, OSError, ValueError) as error:
            raise _failed("read", error) from error
        return bytes(found)

    async def remove(self, name: str) -> None:
        try:
            await self._call(obstore.delete, obstore.delete_async, name)
        except _NOT_THERE:
            return
        except (BaseError, OSError) as error:
            raise _failed("remove", error) from error

    async def names(self, prefix: str) -> AsyncIterator[str]:
        try:
            pages = obstore.list(self._store, prefix or None, chunk_size=LIST_PAGE)
            while page := await asyncio.to_thread(next, pages, None):
                for item in page:
                    yield item["path"]
        except (BaseError, OSError) as error:
            raise _failed("list", error) from error

    async def _call(self, sync: Any, remote: Any, *args: Any, **options: Any) -> Any:
        if self._is_remote:
            return await remote(self._store, *args, **options)
        return await asyncio.to_thread(sync, self._store, *args, **options)


def open_cold(url: str, environment: Mapping[str, str] = os.environ) -> ColdObjects:
    """Open `file:///FOLDER`, `s3://BUCKET/PREFIX?endpoint=URL&region=NAME` or `memory:`.

    Raises ValueError for any other URL. Keys of S3 are AWS_ACCESS_KEY_ID, AWS_SECRET_ACCESS_KEY
    and AWS_SESSION_TOKEN of the environment, never part of a URL.
    """
    parts = urlsplit(url)
    if parts.username or parts.password:
        raise ValueError("a URL of a cold store holds no secret: use the environment")
    match parts.scheme:
        case "memory":
            return ColdObjects(MemoryStore())
        case "file":
            folder = Path(parts.path)
            folder.mkdir(parents=True, exist_ok=True)
            return ColdObjects(LocalStore(str(folder)), folder=folder)
        case "s3":
            return ColdObjects(
                _s3(parts.netloc, parts.path, dict(parse_qsl(parts.query)), environment)
            )
        case scheme:
            raise ValueError(f"{scheme}: expected file:///FOLDER, s3://BUCKET/PREFIX or memory:")


def _s3(bucket: str, path: str, options: dict[str, str], environment: Mapping[str, str]) -> S3Store:
    unknown = sorted(options.keys() - S3_OPTIONS)
    if unknown or not bucket:
        raise ValueError(f"s3 URL: expected a bucket, and of options only {sorted(S3_OPTIONS)}")
    config: Any = dict(options)
    for name in ("access_key_id", "secret_access_key", "session_token"):
        if value := environment.get(f"AWS_{name.upper()}"):
            config[name] = value
    is_plain = options.get("endpoint", "").startswith("http://")
    return S3Store(
        bucket,
        prefix=path.strip("/") or None,
        config=config,
        client_options={"timeout": TIMEOUT, "allow_http": is_plain},
        # A request that is sent again could find its own first copy: `create` compares instead.
        retry_config={"max_retries": 2},
    )


def _sync(folder: Path, name: str) -> None:
    """Make a file of a folder durable, and every folder above it; the client does not."""
    path = folder / name
    try:
        for place in (path, *path.relative_to(folder).parents):
            fd = os.open(folder / place, os.O_RDONLY | os.O_CLOEXEC)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)
    except OSError as error:
        raise _failed("sync", error) from error


def _failed(what: str, error: Exception) -> TierUnavailableError:
    return TierUnavailableError(f"cold: {what}: {type(error).__name__}")
