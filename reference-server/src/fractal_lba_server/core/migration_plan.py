"""Plan a migration: what moves, how long it takes, whether there is room (spec/dedup.md 6.1).

This file owns the plan's arithmetic. A plan is a file with a SHA-256 over the rest of it: the
same rings and counts give the same bytes, on any machine and at any time. Shares are exact, those
of the rings; keys follow from them and from what each dedup shard holds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from fractions import Fraction
from hashlib import sha256
from math import ceil
from typing import Any, Final

from fractal_lba.canonical import jcs, parse_value
from fractal_lba.errors import ConfigError, FractalLBAError
from fractal_lba.ring import HASHES

from .migration import PAUSE_MS, PLANNED, WINDOW_MS, Migration, Refused
from .ring_document import STEADY, RingDocument, ShardInfo, movement_of, read_shards, ring_of

RATE_PER_S: Final = 1_000
"""Keys that the copy moves in a second, unless the plan says otherwise."""

UNTHROTTLED_PER_S: Final = 20_000
"""What a copy without a throttle is planned with."""

KEY_BYTES: Final = 700
"""Room that one entry takes, with index, unless the plan says otherwise."""

PLAN_BYTES_MAX: Final = 8 << 20
"""Longest plan: two documents, and a line for each pair of dedup shards."""

ID_DIGITS: Final = 16
"""Hex digits of the plan's SHA-256 that name the migration."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What the operator asks for, and says about the load."""

    rate_per_s: int = RATE_PER_S
    """Keys a second; 0 is as fast as it goes."""
    writes_per_s: int = 0
    """New keys a second, over all dedup shards, while the copy runs."""
    ttl_ms: int | None = None
    """After this time an entry expires; None for never."""
    key_bytes: int = KEY_BYTES
    room_bytes: Mapping[str, int] | None = None
    """What each dedup shard can still take; those that are not named have room enough."""
    pause_ms: int = PAUSE_MS
    window_ms: int = WINDOW_MS


def make_plan(
    document: RingDocument, new: tuple[ShardInfo, ...], counts: Mapping[str, int], wish: Wish
) -> dict[str, Any]:
    """Plan the way from the steady ring to another; raises Refused with every reason."""
    if document.phase != STEADY:
        raise Refused(f"another migration is on its way: {document.version_text}")
    moved = movement_of(document.shards, new)
    if not moved.ranges:
        raise Refused("nothing moves: both rings give every key the same owner")
    pairs = _pairs(document, new, counts)
    keys = sum(pair["keys"] for pair in pairs)
    rate = wish.rate_per_s or UNTHROTTLED_PER_S
    grown_per_s = moved.share * wish.writes_per_s
    reasons = [
        *_rate_faults(keys, rate, grown_per_s, wish),
        *_room_faults(pairs, wish),
    ]
    if reasons:
        raise Refused(*reasons)
    plan = {
        "base_ring_epoch": document.ring_epoch,
        "copy_ms": _copy_ms(keys, rate),
        "copy_ms_without_dual_writes": _ms(Fraction(keys) / (rate - grown_per_s)),
        "counts": dict(counts),
        "key_bytes": wish.key_bytes,
        "keys_to_move": keys,
        "new": [dedup_shard.member() for dedup_shard in new],
        "old": [dedup_shard.member() for dedup_shard in document.shards],
        "pairs": pairs,
        "pause_ms": wish.pause_ms,
        "rate_per_s": wish.rate_per_s,
        "share": f"{moved.share.numerator}/{moved.share.denominator}",
        "ttl_ms": wish.ttl_ms,
        "version": 1,
        "window_ms": wish.window_ms,
        "writes_per_s": wish.writes_per_s,
    }
    return {**plan, "sha256": _digest(plan)}


def _pairs(
    document: RingDocument, new: tuple[ShardInfo, ...], counts: Mapping[str, int]
) -> list[dict[str, Any]]:
    """Say for each pair of dedup shards how many hashes and how many keys go over."""
    widths: dict[tuple[str, str], int] = {}
    for lo, hi, source, target in movement_of(document.shards, new).ranges:
        widths[source, target] = widths.get((source, target), 0) + hi - lo + 1
    shares = ring_of(document.shards).shares()
    return [
        {
            "from": source,
            "hashes": width,
            "keys": ceil(counts[source] * Fraction(width, HASHES) / shares[source]),
            "to": target,
        }
        for (source, target), width in sorted(widths.items())
    ]


def _rate_faults(keys: int, rate: int, grown_per_s: Fraction, wish: Wish) -> list[str]:
    """Refuse a copy that never ends, or ends after what it copies (H14)."""
    if grown_per_s >= rate:
        fault = (
            f"the ranges that move grow by {float(grown_per_s):.0f} keys/s and the copy takes "
            f"{rate} keys/s: it would never end; raise --rate above {ceil(grown_per_s)}"
        )
        return [fault]
    took_ms = _copy_ms(keys, rate)
    if wish.ttl_ms is None or took_ms <= wish.ttl_ms:
        return []
    fault = (
        f"the copy would take {took_ms // 1000} s, longer than the {wish.ttl_ms // 1000} s that an "
        f"entry lives; raise --rate to {ceil(Fraction(keys * 1000, wish.ttl_ms))} or more"
    )
    return [fault]


def _room_faults(pairs: list[dict[str, Any]], wish: Wish) -> list[str]:
    """Refuse a dedup shard that has no room for what it gets."""
    needed: dict[str, int] = {}
    for pair in pairs:
        needed[pair["to"]] = needed.get(pair["to"], 0) + pair["keys"] * wish.key_bytes
    room = wish.room_bytes or {}
    return [
        f"{name} gets {size} bytes and has room for {room[name]}"
        for name, size in sorted(needed.items())
        if name in room and size > room[name]
    ]


def _copy_ms(keys: int, rate: int) -> int:
    """M/c: with dual writes from the start the copy only has to move what is there."""
    return _ms(Fraction(keys, rate))


def _ms(seconds: Fraction) -> int:
    return ceil(seconds * 1000)


def _digest(plan: Mapping[str, Any]) -> str:
    return sha256(jcs({name: plan[name] for name in plan if name != "sha256"})).hexdigest()


def read_plan(data: bytes) -> Migration:
    """Read a plan file and begin the state of its migration; raises ConfigError."""
    try:
        plan = parse_value(data, max_bytes=PLAN_BYTES_MAX)
        if plan["version"] != 1 or _digest(plan) != plan["sha256"]:
            raise ConfigError("config_invalid", "plan: its sha256 is not that of its content")
        return Migration(
            id=plan["sha256"][:ID_DIGITS],
            step=PLANNED,
            base_ring_epoch=plan["base_ring_epoch"],
            old=read_shards(plan["old"]),
            new=read_shards(plan["new"]),
            keys_to_move=plan["keys_to_move"],
            pause_ms=plan["pause_ms"],
            window_ms=plan["window_ms"],
        )
    except (KeyError, TypeError) as error:
        raise ConfigError("config_invalid", f"plan: not a plan file: {error}") from None
    except FractalLBAError as error:
        text = error.args[0] if str(error.args[0]).startswith("plan") else f"plan: {error.args[0]}"
        raise ConfigError("config_invalid", text) from None


def plan_rate(data: bytes) -> int:
    """Give the rate of a plan file that was read before; 0 is no throttle."""
    return int(parse_value(data, max_bytes=PLAN_BYTES_MAX)["rate_per_s"])
