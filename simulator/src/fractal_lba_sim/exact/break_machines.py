"""Break disks, clocks and processes, and mend them (the rest of breaker.py)."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from ..waiting import NS_PER_MS, NS_PER_S
from .breaker import Breaker, Fault

if TYPE_CHECKING:
    from .region import Region

POWER_NS: Final = 200_000
"""The power fails so soon after a write at most: before its sync has ended."""

SLOW_MS: Final = 100


def restart_rolling(breaker: Breaker, fault: Fault) -> None:
    """Restart the nodes of a region one after another."""
    region = breaker.region(fault)
    done = [0]
    breaker.counts_by(fault, lambda: done[0])
    for turn in range(breaker.world.nodes_of(region.code)):
        wait_ns = int(turn * fault["period_s"] * NS_PER_S)
        breaker.later(fault, wait_ns, partial(_restart, region, done))


def _restart(region: Region, done: list[int]) -> None:
    done[0] += region.node is not None
    region.kill()
    region.start()


# --- storage


def fail_power(breaker: Breaker, fault: Fault) -> None:
    """Let the power fail while something that was written is not synced."""
    region, torn = breaker.region(fault), fault["kind"] == "disk-torn"
    disk = region.disk
    name = "torn_bytes" if torn else "lost_bytes"
    breaker.counts_by(fault, lambda: disk.counts[name])

    def written() -> None:
        disk.on_write = None
        chance = breaker.world.streams.of("power", region.code)
        breaker.later(fault, int(chance.random() * POWER_NS), off)

    def off() -> None:
        region.kill(silent=True)
        disk.lose_power(torn=torn)

    disk.on_write = written


def return_power(breaker: Breaker, fault: Fault) -> None:
    """Let the machine start again."""
    region = breaker.region(fault)
    region.disk.on_write = None
    region.start()


def flip_bit(breaker: Breaker, fault: Fault) -> None:
    """Change one bit of a log or of a copy."""
    breaker.counted(fault, int(breaker.region(fault).disk.flip(("log/", "mirror/"))))


def fill_disk(breaker: Breaker, fault: Fault) -> None:
    """Let nothing more be written."""
    disk = breaker.region(fault).disk
    breaker.counts_by(fault, lambda: disk.counts["refused_writes"])
    disk.full = True


def empty_disk(breaker: Breaker, fault: Fault) -> None:
    """Give space back."""
    breaker.region(fault).disk.empty()


def slow_disk(breaker: Breaker, fault: Fault) -> None:
    """Have every sync take long."""
    disk = breaker.region(fault).disk
    breaker.counts_by(fault, lambda: disk.counts["slow_syncs"])
    disk.slow_ns = int(fault.get("delay_ms", SLOW_MS) * NS_PER_MS)


def quick_disk(breaker: Breaker, fault: Fault) -> None:
    """Have syncs take their time again."""
    breaker.region(fault).disk.slow_ns = 0


def fail_sync(breaker: Breaker, fault: Fault) -> None:
    """Have syncs fail."""
    disk = breaker.region(fault).disk
    breaker.counts_by(fault, lambda: disk.counts["failed_syncs"])
    disk.failing = True


def mend_sync(breaker: Breaker, fault: Fault) -> None:
    """Have syncs work; the process has ended and starts again."""
    region = breaker.region(fault)
    region.disk.failing = False
    region.kill()
    region.start()


def return_stale(breaker: Breaker, fault: Fault) -> None:
    """Have a region vanish, and its disk be as it was some time ago."""
    breaker.vanish(fault)
    region = breaker.region(fault)
    before = len(region.index.standing)
    restored = int(region.disk.go_back())
    behind = before - len(region.index.standing)
    breaker.world.disk_changed()
    breaker.counted(fault, restored if fault["kind"] == "disk-stale" else behind)


# --- clocks


def _step_ns(fault: Fault) -> int:
    step_ns = int(fault["step_ms"] * NS_PER_MS)
    return -abs(step_ns) if fault["kind"] == "clock-back" else step_ns


def step_clock(breaker: Breaker, fault: Fault) -> None:
    """Set a wall clock forward or back."""
    _count_readings(breaker, fault)
    breaker.region(fault).set_clock(_step_ns(fault))


def right_clock(breaker: Breaker, fault: Fault) -> None:
    """Set it right."""
    breaker.region(fault).set_clock(-_step_ns(fault))


def drift_clock(breaker: Breaker, fault: Fault) -> None:
    """Let a clock go faster or slower than time."""
    _count_readings(breaker, fault)
    breaker.region(fault).clock.drift(fault["drift_ppm"])


def steady_clock(breaker: Breaker, fault: Fault) -> None:
    """Let it go right from now on."""
    breaker.region(fault).clock.drift(0.0)


def _count_readings(breaker: Breaker, fault: Fault) -> None:
    clock: Any = breaker.region(fault).clock
    breaker.counts_by(fault, lambda: clock.readings_off)
