"""Own what a world is made of, and how one part of it is made wrong on purpose.

A plant is a function of `Parts`: it gets the parts of the world and gives them changed. What is
planted is a wrong protocol (kind "protocol") that the judge must catch, or a wrong simulator
(kind "simulator") that the tests of the simulator must catch.

    @plant("acks-before-sync", kind="protocol", says="the log says durable before the disk does")
    def acks_before_sync(parts: Parts) -> Parts:
        return parts.but(wal=HastyWal)

`rules` replaces functions of the core by name, `"fractal_lba_server.core.ingest:merge"`, while
the world runs; `settings` gets the scenario's document and gives another.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from fractal_lba_server.core import health, lease
from fractal_lba_server.core.health import Probe, Quorum
from fractal_lba_server.core.ingest import Ingest
from fractal_lba_server.core.mover import Mover
from fractal_lba_server.core.receiver import Receiver
from fractal_lba_server.core.replay import Replay
from fractal_lba_server.core.replication import Shipper
from fractal_lba_server.core.roles import Role
from fractal_lba_server.drill.scenario import ScenarioError

from ..streams import Streams

if TYPE_CHECKING:
    from .arbiter import Arbiter
    from .boot import Opening
    from .breaker import Breaker
    from .client import Client
    from .clock import Clock
    from .comparing import Comparer
    from .disk import Disk
    from .inbound import Inbound
    from .index import Index
    from .keeper import Keeper
    from .lookups import IndexLookups, ShardLookups, TierLookups
    from .mirror import Mirror
    from .names import NamedClient, Names
    from .network import Link
    from .node import Node
    from .outbound import Outbound
    from .people import Operator
    from .probing import Checker
    from .segments import Segments
    from .shards import DedupStore, ShardRouter
    from .tiers import ColdStore, HotStore, Tiers
    from .tracing import TraceWriter
    from .wal import Wal
    from .watch import Watch

PROTOCOL: Final = "protocol"
SIMULATOR: Final = "simulator"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """What a world is made of: classes that it makes its things with, and functions of the core."""

    # machines of the server's core
    ingest: type[Ingest] = Ingest
    shipper: type[Shipper] = Shipper
    receiver: type[Receiver] = Receiver
    role: type[Role] = Role
    probe: type[Probe] = Probe
    quorum: type[Quorum] = Quorum
    mover: type[Mover] = Mover
    replay: type[Replay] = Replay
    ask_lease: Callable[..., lease.Decision] = lease.ask
    promote_lease: Callable[..., lease.Decision] = lease.promote
    release_lease: Callable[..., lease.Row] = lease.release
    successor: Callable[..., str | None] = health.successor
    # what carries their effects out
    node: type[Node]
    opening: type[Opening]
    keeper: type[Keeper]
    wal: type[Wal]
    mirror: type[Mirror]
    outbound: type[Outbound]
    inbound: type[Inbound]
    index: type[Index]
    segments: type[Segments]
    lookups: type[IndexLookups]
    shard_lookups: type[ShardLookups]
    tier_lookups: type[TierLookups]
    shard_store: type[DedupStore]
    shard_router: type[ShardRouter]
    tiers: type[Tiers]
    hot: type[HotStore]
    cold: type[ColdStore]
    arbiter: type[Arbiter]
    checker: type[Checker]
    # the environment
    disk: type[Disk]
    clock: type[Clock]
    link: type[Link]
    client: type[Client]
    named_client: type[NamedClient]
    names: type[Names]
    operator: type[Operator]
    breaker: type[Breaker]
    watch: type[Watch]
    comparer: type[Comparer]
    trace: type[TraceWriter]
    streams: type[Streams] = Streams
    rules: Mapping[str, Any] | None = None
    settings: Callable[[dict[str, Any]], dict[str, Any]] = lambda document: document

    def but(self, **parts: Any) -> Parts:
        """Give these parts with some changed; `rules` are added to those that are there."""
        if "rules" in parts:
            parts["rules"] = {**(self.rules or {}), **parts["rules"]}
        return replace(self, **parts)


Change = Callable[[Parts], Parts]


class Plant(NamedTuple):
    """One wrong part."""

    name: str
    kind: str
    says: str
    change: Change


PLANTS: Final[dict[str, Plant]] = {}


def plant(name: str, *, kind: str, says: str = "") -> Callable[[Change], Change]:
    """Register a plant under a name."""

    def register(change: Change) -> Change:
        PLANTS[name] = Plant(name, kind, says or (change.__doc__ or "").strip(), change)
        return change

    return register


def right_parts() -> Parts:
    """Give the parts of a world in which nothing is wrong."""
    from . import (  # noqa: PLC0415 - they take the types of this file
        arbiter,
        boot,
        breaker,
        client,
        clock,
        comparing,
        disk,
        inbound,
        index,
        keeper,
        lookups,
        mirror,
        names,
        network,
        node,
        outbound,
        people,
        probing,
        segments,
        shards,
        tiers,
        tracing,
        wal,
        watch,
    )

    return Parts(
        arbiter=arbiter.Arbiter,
        breaker=breaker.Breaker,
        checker=probing.Checker,
        client=client.Client,
        clock=clock.Clock,
        cold=tiers.ColdStore,
        comparer=comparing.Comparer,
        disk=disk.Disk,
        hot=tiers.HotStore,
        inbound=inbound.Inbound,
        index=index.Index,
        keeper=keeper.Keeper,
        link=network.Link,
        lookups=lookups.IndexLookups,
        mirror=mirror.Mirror,
        named_client=names.NamedClient,
        names=names.Names,
        node=node.Node,
        opening=boot.Opening,
        operator=people.Operator,
        outbound=outbound.Outbound,
        segments=segments.Segments,
        shard_lookups=lookups.ShardLookups,
        shard_router=shards.ShardRouter,
        shard_store=shards.DedupStore,
        tier_lookups=lookups.TierLookups,
        tiers=tiers.Tiers,
        trace=tracing.TraceWriter,
        wal=wal.Wal,
        watch=watch.Watch,
    )


def planted(names: Sequence[str]) -> Parts:
    """Give the parts with these plants put in, in this order. Raises ScenarioError."""
    from . import planted_drills  # noqa: F401, PLC0415 - registers what shipped controls name

    parts = right_parts()
    for name in names:
        if name not in PLANTS:
            known = ", ".join(sorted(PLANTS))
            raise ScenarioError(f"the exact engine has no plant {name!r}; it has {known}")
        parts = PLANTS[name].change(parts)
    return parts


@contextmanager
def replaced(rules: Mapping[str, Any] | None) -> Iterator[None]:
    """Replace functions of the core while a world runs."""
    before: list[tuple[Any, str, Any]] = []
    try:
        for path, function in (rules or {}).items():
            module_name, _, name = path.partition(":")
            owner: Any = importlib.import_module(module_name)
            *outer, last = name.split(".")
            for part in outer:
                owner = getattr(owner, part)
            before.append((owner, last, getattr(owner, last)))
            setattr(owner, last, function)
        yield
    finally:
        for owner, last, function in reversed(before):
            setattr(owner, last, function)
