"""The table of faults: how each kind begins and ends."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final, NamedTuple

from . import break_machines as machines
from . import break_services as services
from .breaker import Breaker, Fault

Act = Callable[[Breaker, Fault], None]


class Kind(NamedTuple):
    """How a kind of fault begins and ends."""

    inject: Act
    heal: Act


KINDS: Final[dict[str, Kind]] = {
    # network
    "partition": Kind(Breaker.cut, Breaker.mend_links),
    "one-way-cut": Kind(Breaker.cut_one_way, Breaker.mend_links),
    "flapping": Kind(Breaker.flap, Breaker.mend_links),
    "loss": Kind(Breaker.worsen, Breaker.calm),
    "delay": Kind(Breaker.worsen, Breaker.calm),
    "reorder": Kind(Breaker.worsen, Breaker.calm),
    "duplicate": Kind(Breaker.worsen, Breaker.calm),
    "bandwidth": Kind(Breaker.worsen, Breaker.calm),
    "reset": Kind(Breaker.reset, Breaker.nothing),
    "refuse": Kind(Breaker.refuse, Breaker.take),
    # process
    "process-kill": Kind(Breaker.kill, Breaker.restart),
    "process-pause": Kind(Breaker.pause, Breaker.resume),
    "process-restart": Kind(Breaker.kill, Breaker.restart),
    "rolling-restart": Kind(machines.restart_rolling, Breaker.nothing),
    # storage
    "unsynced-lost": Kind(machines.fail_power, machines.return_power),
    "disk-torn": Kind(machines.fail_power, machines.return_power),
    "bit-flip": Kind(machines.flip_bit, Breaker.nothing),
    "disk-full": Kind(machines.fill_disk, machines.empty_disk),
    "disk-slow": Kind(machines.slow_disk, machines.quick_disk),
    "disk-lost": Kind(Breaker.lose_disk, Breaker.reappear),
    "disk-stale": Kind(machines.return_stale, Breaker.reappear),
    "sync-error": Kind(machines.fail_sync, machines.mend_sync),
    # clock
    "clock-offset": Kind(machines.step_clock, machines.right_clock),
    "clock-drift": Kind(machines.drift_clock, machines.steady_clock),
    "clock-step": Kind(machines.step_clock, machines.right_clock),
    "clock-back": Kind(machines.step_clock, machines.right_clock),
    # region
    "region-down": Kind(Breaker.vanish, Breaker.reappear),
    "region-gray": Kind(services.turn_gray, services.turn_well),
    "probe-path-down": Kind(services.cut_probes, services.mend_probes),
    "stale-return": Kind(machines.return_stale, Breaker.reappear),
    # keys
    "key-rotated": Kind(services.rotate_key, Breaker.nothing),
    "key-wrong": Kind(services.use_wrong_key, services.use_right_key),
    "key-revoked": Kind(services.revoke_key, services.restore_key),
    # tiers and objects
    "hot-flush": Kind(services.flush_hot, Breaker.nothing),
    "cold-down": Kind(services.take_cold, services.give_cold),
    "upload-reply-lost": Kind(services.lose_replies, services.give_replies),
    "shard-down": Kind(services.kill_shard, services.start_shard),
    "shard-flush": Kind(services.flush_shards, Breaker.nothing),
    # people
    "double-promote": Kind(services.promote_too, Breaker.nothing),
    "cancel-cutover": Kind(services.break_cutover_off, services.resume_cutover),
    "wrong-region-drained": Kind(services.drain_wrong, services.undrain),
    "nobody-answers": Kind(services.mislead, services.guide),
    "expert-absent": Kind(services.mislead, services.guide),
    "stale-runbook": Kind(services.mislead, services.guide),
}
"""What this engine plays. It has no listing of objects that a decision depends on, so that
`listing-stale` is left to plan."""
