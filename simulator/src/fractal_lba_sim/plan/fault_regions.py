"""Faults of a region: its processes, disks, clock, keys and shards, and the region as a whole."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from fractal_lba_server.core.hlc import MAX_SKEW_MS

from ..waiting import NS_PER_MS
from .incidents import Incident
from .net import CHECKER
from .playing import Mend, Play, nothing
from .setup import ns

if TYPE_CHECKING:
    from .world import World

Fault = Mapping[str, Any]

RESTART_S: Final = 1.0
"""How long a restart takes, if the fault does not say."""

SLOW_SYNC_MS: Final = 1_000
"""What a slow disk adds to a sync, if the fault does not say."""


def _down(world: World, fault: Fault, incident: Incident) -> Mend:
    """Take a region away as a whole: nothing answers, not even with a refusal."""
    region = fault["region"]
    world.net.isolate(region)
    world.die(region)
    if fault["kind"] == "disk-lost":
        world.lose_disk(region, -1)
    elif fault["kind"] != "region-down":
        world.lose_disk(region, world.agenda.now_ns - ns(fault.get("age_s", 0)))

    def mend() -> None:
        world.net.isolate(region, -1)
        world.live(region)

    return mend


def _kill(world: World, fault: Fault, incident: Incident) -> Mend:
    """End the process of a region, or of one of its nodes; the machine refuses connections."""
    region, nodes = fault["region"], world.setup.nodes[fault["region"]]
    if "node" in fault and nodes > 1:
        return _without_nodes(world, region, 1 / nodes, incident)
    waiting = world.sites[region].in_flight()
    world.die(region)
    if fault["kind"] == "unsynced-lost":
        incident.effects["unsynced records"] += waiting
    if "for_s" not in fault and fault["kind"] in RESTARTED:
        world.agenda.after(ns(RESTART_S), _restart, world, region)
        return nothing

    def mend() -> None:
        world.live(region)

    return mend


def _restart(world: World, region: str) -> None:
    world.live(region)
    world.changed()


def _without_nodes(world: World, region: str, share: float, incident: Incident) -> Mend:
    site = world.sites[region]
    site.capacity_share -= share
    incident.effects["nodes down"] += 1

    def mend() -> None:
        site.capacity_share += share

    return mend


def _rolling(world: World, fault: Fault, incident: Incident) -> Mend:
    """Restart one node after the other; a region of one node is down for a period."""
    region, period_ns = fault["region"], ns(fault["period_s"])
    nodes = world.setup.nodes[region]

    def stop(number: int) -> None:
        if nodes == 1:
            world.die(region)
            incident.effects["nodes down"] += 1
            undo: Mend = lambda: world.live(region)  # noqa: E731 - one of two ways back
        else:
            undo = _without_nodes(world, region, 1 / nodes, incident)
        world.changed()
        world.agenda.after(period_ns, start, number, undo)

    def start(number: int, undo: Mend) -> None:
        undo()
        world.changed()
        if number < nodes:
            stop(number + 1)

    stop(1)
    return nothing


def _pause(world: World, fault: Fault, incident: Incident) -> Mend:
    region = fault["region"]
    world.pause(region)

    def mend() -> None:
        world.resume(region)

    return mend


def _closed(world: World, fault: Fault, incident: Incident) -> Mend:
    """Have a region refuse every record."""
    site, kind = world.sites[fault["region"]], fault["kind"]
    site.closed[kind] += 1
    incident.effects["regions closed"] += bool(site.feeds)

    def mend() -> None:
        site.closed[kind] -= 1

    return mend


def _slow(world: World, fault: Fault, incident: Incident) -> Mend:
    site = world.sites[fault["region"]]
    slow_ns = round(fault.get("delay_ms", SLOW_SYNC_MS) * NS_PER_MS)
    site.slow_ns += slow_ns
    incident.effects["feeds slowed"] += len(site.feeds)

    def mend() -> None:
        site.slow_ns -= slow_ns

    return mend


def _gray(world: World, fault: Fault, incident: Incident) -> Mend:
    site, share = world.sites[fault["region"]], fault.get("share", 1.0)
    site.gray = 1 - (1 - site.gray) * (1 - share)
    incident.effects["feeds hurt"] += len(site.feeds)

    def mend() -> None:
        site.gray = 0.0

    return mend


def _probe_path(world: World, fault: Fault, incident: Incident) -> Mend:
    world.net.cut(CHECKER, fault["region"])

    def mend() -> None:
        world.net.cut(CHECKER, fault["region"], -1)

    return mend


def _keys(world: World, fault: Fault, incident: Incident) -> Mend:
    """Have keys refused; a key that is rotated as it should be changes nothing for its client."""
    sites = [world.sites[fault["region"]]] if "region" in fault else list(world.sites.values())
    incident.effects["feeds met"] += sum(len(site.feeds) for site in sites)
    if fault["kind"] == "key-rotated":
        return nothing
    for site in sites:
        site.denied[fault["kind"]] += 1

    def mend() -> None:
        for site in sites:
            site.denied[fault["kind"]] -= 1

    return mend


def _shard(world: World, fault: Fault, incident: Incident) -> Mend:
    """Have the ids of one shard refused: it is neither known nor unknown whether they are new."""
    sites = [world.sites[fault["region"]]] if "region" in fault else list(world.sites.values())
    share = 1 / world.setup.shards if "shard" in fault else 1.0
    if "for_s" not in fault and fault["kind"] == "shard-flush":
        # The log knows what the shard has forgotten: it is asked until the shard is filled again.
        incident.effects["keys_flushed"] += sum(len(site.feeds) for site in sites)
        return nothing
    for site in sites:
        site.shard_share += share
        incident.effects["feeds hurt"] += len(site.feeds)

    def mend() -> None:
        for site in sites:
            site.shard_share -= share

    return mend


def _clock(world: World, fault: Fault, incident: Incident) -> Mend:
    """Set a clock wrong: what is stamped ahead waits at its peers, behind its own log it waits."""
    region = fault["region"]
    site = world.sites[region]
    begin_ns = world.agenda.now_ns
    drift = fault.get("drift_ppm", 0.0) / 1e6
    step_ns = fault.get("step_ms", 0) * NS_PER_MS
    world.clocks.set(region, begin_ns, step_ns, drift)
    incident.effects["clock_reads"] += 1 + len(site.feeds)
    allowed_ns = MAX_SKEW_MS * NS_PER_MS
    if step_ns < -allowed_ns:
        # The log's own clock never goes back: the gate is closed until time has caught up.
        site.closed["clock"] += 1
        world.agenda.after(-step_ns - allowed_ns, _open_again, world, region)
    ahead_ns = max(0, step_ns - allowed_ns)
    for stream in world.streams.values():
        if stream.log.region == region:
            stream.look()
            stream.ahead_ns += ahead_ns

    def mend() -> None:
        world.clocks.set(region, world.agenda.now_ns, 0, 0.0)
        if ahead_ns:
            # Its own stamps are ahead of its clock now: no record until the clock has caught up.
            site.closed["clock"] += 1
            world.agenda.after(ahead_ns, _open_again, world, region)
        for stream in world.streams.values():
            if stream.log.region == region:
                stream.ahead_ns -= ahead_ns

    return mend


def _open_again(world: World, region: str) -> None:
    world.sites[region].closed["clock"] -= 1
    world.changed()


RESTARTED: Final = frozenset({"process-restart", "unsynced-lost"})
"""Kinds after which the process starts again by itself."""

PLAYS: Final[dict[str, Play]] = {
    "region-down": _down, "stale-return": _down, "disk-lost": _down, "disk-stale": _down,
    "process-kill": _kill, "process-restart": _kill, "unsynced-lost": _kill,
    "sync-error": _kill,
    "process-pause": _pause, "rolling-restart": _rolling,
    "disk-full": _closed, "disk-slow": _slow,
    "region-gray": _gray, "probe-path-down": _probe_path,
    "key-rotated": _keys, "key-wrong": _keys, "key-revoked": _keys,
    "shard-down": _shard, "shard-flush": _shard,
    "clock-offset": _clock, "clock-step": _clock, "clock-back": _clock, "clock-drift": _clock,
}  # fmt: skip
