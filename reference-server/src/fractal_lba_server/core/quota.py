"""Say who may spend a token now, and how long the others wait.

The invariant of this file: what a bucket gives in any stretch of time is at most its burst plus
its rate times the time that passed, counted in integers, so that no sum is ever rounded. A clock
that steps back neither gives nor takes tokens.
"""

from __future__ import annotations

import ipaddress
from collections import OrderedDict
from functools import lru_cache

RATE_PARTS = 1_000_000
"""A rate counts in millionths of a token per second; finer differences are rounded off once."""

UNITS_PER_TOKEN = 1_000_000_000 * RATE_PARTS
"""A level counts in these: one nanosecond at a millionth of a token per second refills one."""

NEVER_NS = 365 * 86_400 * 1_000_000_000
"""The longest wait ever answered: one year, also when no wait is enough (cost above the burst,
or a rate of zero)."""

CLOCK_STEP_NS = 1_000_000_000
"""A reading older than the newest by less than this is an event that came late and refills
nothing; one older by more is a clock that was set back, and time is counted from there."""

IPV6_PREFIX_BITS = 64
"""One customer of a provider holds a whole /64, so all its addresses share one bucket."""

ADDRESSES_CACHED = 4_096
"""Peer addresses whose bucket's name is kept; to read an address costs more than a look-up."""


class Buckets:
    """Hold token buckets by name, at most `max_buckets` of them.

    A name that is not held has a full bucket. When a new name finds no room, the bucket that was
    used longest ago goes: choose `max_buckets` above the number of names that must not be forgiven.
    """

    __slots__ = ("_buckets", "_max_buckets")

    def __init__(self, *, max_buckets: int) -> None:
        if max_buckets < 1:
            raise ValueError(f"max_buckets: expected at least 1, got {max_buckets}")
        self._max_buckets = max_buckets
        self._buckets: OrderedDict[str, tuple[int, int]] = OrderedDict()

    def __len__(self) -> int:
        return len(self._buckets)

    def take(self, name: str, *, rate_per_s: float, burst: int, cost: int, now_ns: int) -> int:
        """Take `cost` tokens and return 0, or take none and return the nanoseconds to wait."""
        rate = rate_parts(rate_per_s)
        level, at_ns = self._level(name, rate, burst, now_ns)
        wait_ns = _wait_ns(level, rate, burst, cost)
        if wait_ns == 0:
            level -= cost * UNITS_PER_TOKEN
        buckets = self._buckets
        if name in buckets:
            buckets.move_to_end(name)
        elif len(buckets) >= self._max_buckets:
            buckets.popitem(last=False)
        buckets[name] = (level, at_ns)
        return wait_ns

    def peek(self, name: str, *, rate_per_s: float, burst: int, cost: int, now_ns: int) -> int:
        """Return what `take` would return, and change nothing."""
        rate = rate_parts(rate_per_s)
        level, _ = self._level(name, rate, burst, now_ns)
        return _wait_ns(level, rate, burst, cost)

    def _level(self, name: str, rate: int, burst: int, now_ns: int) -> tuple[int, int]:
        """Refill a bucket up to `now_ns`: its level in units and the time it is counted from."""
        full = burst * UNITS_PER_TOKEN
        held = self._buckets.get(name)
        if held is None:
            return full, now_ns
        level, at_ns = held
        elapsed_ns = now_ns - at_ns
        if elapsed_ns >= 0:
            level += elapsed_ns * rate
            at_ns = now_ns
        elif elapsed_ns <= -CLOCK_STEP_NS:
            at_ns = now_ns
        # A burst that a reload made smaller applies at once; a larger one has to be refilled.
        return min(level, full), at_ns


def rate_parts(rate_per_s: float) -> int:
    """Count a rate in millionths of a token per second; an int is taken exactly."""
    if type(rate_per_s) is int:
        return rate_per_s * RATE_PARTS
    return round(rate_per_s * RATE_PARTS)


def _wait_ns(level: int, rate: int, burst: int, cost: int) -> int:
    """Return 0 if the level holds the cost, else when it will, if nobody else takes any."""
    missing = cost * UNITS_PER_TOKEN - level
    if missing <= 0 <= cost:
        return 0
    if cost < 0:
        raise ValueError(f"cost: expected at least 0, got {cost}")
    if cost > burst or rate == 0:
        return NEVER_NS
    return min(-(-missing // rate), NEVER_NS)


@lru_cache(maxsize=ADDRESSES_CACHED)
def address_name(host: str) -> str:
    """Name the bucket of a peer address: an IPv4 address, or the /64 of an IPv6 one.

    An IPv4 address written as IPv6 (`::ffff:192.0.2.1`) is that IPv4 address. What is no address
    (a Unix socket's peer) is its own name.
    """
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    prefix = int(address) >> (128 - IPV6_PREFIX_BITS) << (128 - IPV6_PREFIX_BITS)
    return f"{ipaddress.IPv6Address(prefix)}/{IPV6_PREFIX_BITS}"
