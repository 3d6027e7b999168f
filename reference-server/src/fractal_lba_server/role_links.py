"""What the roles of a region ask of shipping, index and machine (role_keeper.Links)."""

from __future__ import annotations

import asyncio
import contextlib
from concurrent.futures import Future
from typing import Final

from .core.ingest_events import LeaseChanged
from .ingest import Driver
from .replication import Replication
from .role_keeper import Said
from .store.sqlite import Index

SLICE_S: Final = 0.1
SLICES: Final = 50
"""Longest wait until the ingest machine has taken a word about who may write. It is counted in
slices, so that a process that was stopped for a while has not waited all that time.
"""


class RoleLinks:
    """Everything here is called in threads of the roles."""

    def __init__(
        self, *, region: str, replication: Replication, index: Index, driver: Driver
    ) -> None:
        self._region = region
        self._replication = replication
        self._index = index
        self._driver = driver
        self._loop = asyncio.get_running_loop()

    def emit(self, said: Said) -> None:
        """Tell the ingest machine who may write; it has taken the word on return."""
        taken: Future[None] = Future()

        def feed() -> None:
            self._driver.feed(LeaseChanged(*said))
            taken.set_result(None)

        self._loop.call_soon_threadsafe(feed)
        for _ in range(SLICES):
            with contextlib.suppress(TimeoutError):
                return taken.result(SLICE_S)
        raise OSError("the ingest machine does not take the word")

    def fence(self, region: str, placement: str, region_epoch: int) -> None:
        """Refuse the batches of a region below this epoch; durable on return."""
        self._replication.fence(region, placement, region_epoch)

    def adopt(self, placement: str, region_epoch: int) -> None:
        """Ship our stream under this epoch, which the role file keeps."""
        self._replication.adopt(placement, region_epoch)

    def merged(self, region: str, placement: str) -> int:
        """Give the highest number of a region's stream in the index; of ours: durable."""
        if region == self._region:
            return self.stored(region, placement)
        return self._index.applied(region, placement)

    def stored(self, region: str, placement: str) -> int:
        """Give the highest number of a region's stream that is durable here."""
        if region == self._region:
            return self._driver.core.streams[placement].durable_seq
        for one in self._replication.received():
            if (one.region, one.placement) == (region, placement):
                return one.seq
        return 0

    def acked(self, placement: str, peer: str) -> int:
        """Give the highest number of our stream that a peer holds and has merged."""
        for lag in self._replication.lags():
            if (lag.placement, lag.peer) == (placement, peer):
                return lag.acked_seq
        return 0

    def in_flight(self, placement: str) -> int:
        """Count the requests that have no answer yet, of all placements."""
        return self._driver.waiting

    def fetch(self, peer: str, region: str, placement: str) -> None:
        """Bring our mirror of a region's stream up to what a peer holds."""
        self._replication.fetch(peer, region, placement)
