"""One face for both clients, so that a test says once what both must do."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable
from typing import Any

from record_samples import full_record
from scripted_server import Seen

from fractal_lba.aio import AsyncClient
from fractal_lba.base import Item
from fractal_lba.client import Client
from fractal_lba.ids import derive_pcs_id
from fractal_lba.sign import HmacSigner
from fractal_lba.testing import FakeClock, SeededRandom

KEY = bytes(range(32))
SIGNER = HmacSigner(KEY, kid="k1")


def record(number: int = 7) -> dict[str, Any]:
    """Give a record of its own for each number."""
    changed = full_record(epoch=number)
    pcs_id = derive_pcs_id(changed["merkle_root"], number, changed["shard_id"])
    return {**changed, "pcs_id": pcs_id}


def options(**changes: Any) -> dict[str, Any]:
    """Give the options of a client whose waits pass at once."""
    usual: dict[str, Any] = {
        "signer": SIGNER, "tenant": "acme", "clock": FakeClock(), "random": SeededRandom(1),
    }  # fmt: skip
    return {**usual, **changes}


def is_first(seen: Seen) -> bool:
    """Say whether a request carries the record of number 0."""
    return bool(json.loads(seen.body)["epoch"] == 0)


class AnyClient:
    """Call either client as if it were the synchronous one."""

    def __init__(self, kind: str, endpoints: Any, **changes: Any) -> None:
        chosen = options(**changes)
        self.clock: FakeClock = chosen["clock"]
        self.sync = Client(endpoints, **chosen) if kind == "sync" else None
        self.runner = asyncio.Runner()
        self.aio = AsyncClient(endpoints, **chosen) if kind == "async" else None

    def __getattr__(self, name: str) -> Any:
        if self.sync is not None:
            return getattr(self.sync, name)
        method = getattr(self.aio, name)

        def call(*args: Any, **kwargs: Any) -> Any:
            async def run() -> Any:
                return await method(*args, **kwargs)

            return self.runner.run(run())

        return call

    @property
    def inner(self) -> Any:
        """Give the client itself."""
        return self.sync or self.aio

    def submit_many(self, records: Iterable[Any], **kwargs: Any) -> list[Item]:
        """Collect all answers."""
        if self.sync is not None:
            return list(self.sync.submit_many(records, **kwargs))
        assert self.aio is not None
        many = self.aio.submit_many

        async def run() -> list[Item]:
            return [item async for item in many(records, **kwargs)]

        return self.runner.run(run())

    def end(self) -> None:
        """Close the client and its loop."""
        self.close()
        self.runner.close()
