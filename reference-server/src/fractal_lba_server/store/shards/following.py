"""Follow the ring document: read it when a fence is ahead of it, and now and then."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Sequence
from typing import Final, Protocol

from fractal_lba.errors import ConfigError

from ...core.first_write import Key
from ...core.ring_document import RingDocument
from ..control import ControlError, Held
from .reach import Reach

POLL_S: Final = 1.0
"""Pause between two readings of the ring document when nothing asks for one."""

RELOAD_S: Final = 0.005
"""Pause before a ring document that was not new yet is read again."""

END_PAUSE_S: Final = 0.5
"""A pause of writes at a cutover that lasts longer has lost its coordinator, and is ended."""

log = logging.getLogger("fractal_lba_server.dedup")


class Control(Protocol):
    """What a router needs of the control store (store/control.py)."""

    async def read(self) -> Held | None:
        """Give the ring document."""

    async def queue_repair(self, dedup_shard: str, keys: Sequence[Key], *, version: int) -> bool:
        """Note that a dedup shard missed entries; False: route by the new document instead."""

    async def end_pause(self, ring_epoch: int) -> Held:
        """Let the same rings go on under the ring epoch of a fence."""


class FixedControl:
    """The ring document of a region that has no control store; it lives as long as the process."""

    def __init__(self, document: RingDocument) -> None:
        self._held = Held(document, 1)

    async def read(self) -> Held | None:
        """Give the document."""
        return self._held

    async def queue_repair(self, dedup_shard: str, keys: Sequence[Key], *, version: int) -> bool:
        """Refuse: a steady document has no copies that could miss anything."""
        return False

    async def end_pause(self, ring_epoch: int) -> Held:
        """Go on under the ring epoch of a fence that is ahead."""
        document, version = self._held
        if document.ring_epoch < ring_epoch:
            self._held = Held(document.go_on(ring_epoch), version + 1)
        return self._held


class Following:
    """The ring document of this moment; its dedup shards are open before it is used."""

    def __init__(self, held: Held, control: Control, reach: Reach) -> None:
        self.held = held
        self._control = control
        self._reach = reach
        self._reading: asyncio.Task[None] | None = None
        self._behind_since: float | None = None

    async def poll(self) -> None:
        """Read the document now and then, until the task is cancelled."""
        while True:
            await asyncio.sleep(POLL_S)
            await self._read_together()

    async def next_document(self, fence: int) -> None:
        """Read the document that follows the one of this moment, or wait a little for it."""
        version = self.held.version
        await self._read_together()
        if self.held.document.ring_epoch >= fence:
            self._behind_since = None
        elif self._behind_since is None:
            self._behind_since = time.monotonic()
        elif time.monotonic() - self._behind_since > END_PAUSE_S:
            try:
                await self._control.end_pause(fence)
            except ControlError as error:
                log.error("a pause of writes cannot be ended: %s", error)
        if self.held.version == version:
            await asyncio.sleep(RELOAD_S)

    async def _read_together(self) -> None:
        """Read the document once for all who want it now."""
        if self._reading is None:
            self._reading = asyncio.create_task(self._read())
        await asyncio.shield(self._reading)

    async def _read(self) -> None:
        try:
            held = await self._control.read()
            if held is not None and held.version > self.held.version:
                try:
                    await self._reach.use(held.document.everyone())
                except ConfigError as error:
                    log.error("a dedup shard of the ring is not fit: %s", error)
                self.held = held
        except ControlError as error:
            log.error("the ring document cannot be read: %s", error)
        finally:
            self._reading = None
