"""Faults of what lies between two ends, and of the object store that segments go through."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final

from ..waiting import NS_PER_MS
from .incidents import Incident
from .net import CLIENT
from .objects import ObjectStream
from .playing import Mend, Play, nothing
from .setup import ns

if TYPE_CHECKING:
    from .world import World

Fault = Mapping[str, Any]


def _pairs(fault: Fault) -> list[tuple[str, str]]:
    ends = (fault["from"], fault["to"])
    return [ends] if fault["kind"] == "one-way-cut" else [ends, ends[::-1]]


def _cut(world: World, fault: Fault, incident: Incident) -> Mend:
    pairs = _pairs(fault)
    for pair in pairs:
        world.net.cut(*pair)

    def mend() -> None:
        for pair in pairs:
            world.net.cut(*pair, -1)

    return mend


def _refuse(world: World, fault: Fault, incident: Incident) -> Mend:
    """Answer every connection with a reset: whoever asks knows at once.

    A reset without a duration ends the connections of one moment; they are made again.
    """
    if fault["kind"] == "reset" and "for_s" not in fault:
        ends = {fault[name] for name in ("from", "to", "region") if name in fault}
        met = sum(len(site.feeds) for code, site in world.sites.items() if code in ends)
        incident.effects["resets"] += met or len(world.streams)
        return nothing
    if "region" in fault:
        site = world.sites[fault["region"]]
        site.rejects += 1

        def admit() -> None:
            site.rejects -= 1

        return admit
    for pair in _pairs(fault):
        world.net.reject(*pair)

    def mend() -> None:
        for pair in _pairs(fault):
            world.net.reject(*pair, -1)

    return mend


def _flapping(world: World, fault: Fault, incident: Incident) -> Mend:
    """Cut and mend in turns: `share` of each period, or half of it, is cut."""
    period_ns = ns(fault["period_s"])
    cut_ns = max(1, int(period_ns * fault.get("share", 0.5)))
    state = {"cut": False, "over": False}

    def turn(cut: bool) -> None:
        if state["over"]:
            return
        state["cut"] = cut
        for pair in _pairs(fault):
            world.net.cut(*pair, 1 if cut else -1)
        incident.effects["turns"] += 1
        world.changed()
        wait_ns = cut_ns if cut else period_ns - cut_ns
        world.agenda.after(wait_ns, turn, not cut)

    turn(cut=True)

    def mend() -> None:
        state["over"] = True
        if state["cut"]:
            for pair in _pairs(fault):
                world.net.cut(*pair, -1)

    return mend


def _worse(world: World, fault: Fault, incident: Incident) -> Mend:
    """Make a link slower, narrower or lossy."""
    changes = [world.net.change(*pair) for pair in _pairs(fault)]
    if CLIENT in (fault["from"], fault["to"]):
        ends = {fault["from"], fault["to"]}
        incident.effects["feeds met"] += sum(
            len(site.feeds) for code, site in world.sites.items() if code in ends
        )
    delay_ns = round(fault.get("delay_ms", 0) * NS_PER_MS)
    loss = fault["share"] if fault["kind"] == "loss" else 0.0
    width = fault.get("bandwidth_bytes_per_s")
    for change in changes:
        change.delay_ns += delay_ns
        change.losses.append(loss)
        if width is not None:
            change.bytes_per_s.append(width)

    def mend() -> None:
        for change in changes:
            change.delay_ns -= delay_ns
            change.losses.remove(loss)
            if width is not None:
                change.bytes_per_s.remove(width)

    return mend


def _objects_of(world: World, fault: Fault) -> list[ObjectStream]:
    region = fault.get("region")
    return [
        stream for stream in world.streams.values()
        if isinstance(stream, ObjectStream) and region in (None, stream.log.region)
    ]  # fmt: skip


def _reply_lost(world: World, fault: Fault, incident: Incident) -> Mend:
    streams, share = _objects_of(world, fault), fault.get("share", 1.0)

    def count() -> None:
        incident.effects["uploads made again"] += 1

    for stream in streams:
        stream.look()
        stream.lost_replies, stream.on_lost_reply = share, count

    def mend() -> None:
        for stream in streams:
            stream.lost_replies = 0.0

    return mend


def _listing(world: World, fault: Fault, incident: Incident) -> Mend:
    streams, age_ns = _objects_of(world, fault), ns(fault.get("age_s", LISTING_AGE_S))
    before = sum(stream.batches for stream in streams)
    for stream in streams:
        stream.look()
        stream.listing_age_ns += age_ns

    def mend() -> None:
        for stream in streams:
            stream.listing_age_ns -= age_ns
        incident.effects["segments seen late"] += sum(s.batches for s in streams) - before

    return mend


LISTING_AGE_S: Final = 60
"""How old a stale listing is, if the fault does not say."""

OBJECTS: Final = frozenset({"upload-reply-lost", "listing-stale"})

PLAYS: Final[dict[str, Play]] = {
    "partition": _cut,
    "one-way-cut": _cut,
    "flapping": _flapping,
    "loss": _worse,
    "delay": _worse,
    "bandwidth": _worse,
    "reset": _refuse,
    "refuse": _refuse,
    "upload-reply-lost": _reply_lost,
    "listing-stale": _listing,
}
