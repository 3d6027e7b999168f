"""Gives a region back what its peers hold of its own log, before the log is opened.

A disk that was lost, or that forgot, would otherwise begin again at a number that peers know: it
would take known records for new ones, and its peers would refuse its stream for ever
(spec/shipping.md 10.5). What is fetched is checked as any frame of a peer is.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from .core.policy import Policy
from .core.regions import Registry
from .core.replay import Replay
from .core.replication import TailHeld, lost_tail
from .inbound import Alarm, Inbound, Surroundings
from .net.peer_client import PeerClient
from .net.peers import PeerTls
from .outbound import PeerRefusedError
from .replication import policy_of
from .store.mirror import write_fence
from .store.wal import segment_ends


class Returned(NamedTuple):
    """What became of one stream of ours before it was opened."""

    before_seq: int
    """The last number that was here."""
    seq: int
    """The last number that is here now."""
    source: str | None
    """Who gave what was missing; None if nothing was."""
    silent: tuple[str, ...]
    """Peers that could not be asked: they may hold more."""


class _Here:
    """Stands where an event loop stands: there is none yet, and nothing is merged."""

    def soon(self, call: Callable[[], None]) -> None:
        call()

    def later(self, delay_s: float, call: Callable[[], None]) -> None:
        """Nothing waits: what is fetched is merged from the log, at its opening."""


def return_lost_tail(
    directory: Path,
    *,
    registry: Registry,
    region: str,
    placement: str,
    replay: Replay,
    keep_policy: Callable[[Policy], None],
    tls: PeerTls | None,
) -> Returned:
    """Bring our log up to what any peer holds of it; blocks; raises OSError, WalCorruptError.

    Raises PeerRefusedError if a peer holds more than is here and it cannot be had.
    """
    ends = segment_ends(directory)
    before_seq = ends[-1][1] if ends else 0
    silent: list[str] = []
    held: list[TailHeld] = []
    for peer in registry.peers(placement, region):
        client = PeerClient(region, peer, registry.regions[peer].peer, tls)
        try:
            holds = client.holds(region, placement)
            held.append(TailHeld(holds.mark.seq, peer, holds.region_epoch))
        except PeerRefusedError:
            silent.append(peer)
        finally:
            client.close()
    lost = lost_tail(before_seq, held)
    if lost is None:
        return Returned(before_seq, before_seq, None, tuple(silent))
    write_fence(directory, lost.region_epoch)
    source = lost.source
    client = PeerClient(region, source, registry.regions[source].peer, tls)

    def get_policy(version: str) -> bool:
        document = client.policy(version)
        policy = None if document is None else policy_of(version, document)
        if policy is not None:
            keep_policy(policy)
        return policy is not None

    alarms: list[Alarm] = []
    with ThreadPoolExecutor(1, thread_name_prefix="lost-tail") as workers:
        world = Surroundings(
            _Here(), workers, replay, lambda origin, frames, done: done(()), alarms.append
        )
        own = registry.regions[region].public_key
        inbound = Inbound(region, placement, directory, own, world)
        inbound.open(before_seq)
        inbound.catch_up(before_seq, threading.Event())
        if alarms:
            raise PeerRefusedError("unavailable", alarms[0].message)
        try:
            relay_key = registry.regions[source].public_key
            mark = inbound.fetch(client.read, relay_key, get_policy)
        finally:
            inbound.close()
            client.close()
    return Returned(before_seq, mark.seq, source, tuple(silent))


__all__ = ["Returned", "return_lost_tail"]
