"""Break what stands beside regions: half-dead ones, keys, tiers, dedup shards, people."""

from __future__ import annotations

from typing import Any, Final

from fractal_lba_server.core import lease, roles
from fractal_lba_server.core.ingest_events import Draining, Resumed
from fractal_lba_server.drill.scenario import ScenarioError

from ..catalogue import counter_of
from ..waiting import NS_PER_S
from .breaker import Breaker, Fault
from .client import Client
from .directory import key_record, with_keys

ROLL_OUT_S: Final = 4.0
"""How long it takes until every client uses a new key, twice over, if the fault has no length."""

# --- regions


def turn_gray(breaker: Breaker, fault: Fault) -> None:
    """Let probes pass and requests fail."""
    region = breaker.region(fault)
    breaker.counts_by(fault, lambda: region.gray_failures)
    region.gray_share, region.looks_ready = fault.get("share", 1.0), True


def turn_well(breaker: Breaker, fault: Fault) -> None:
    """Let requests pass."""
    region = breaker.region(fault)
    region.gray_share, region.looks_ready = 0.0, False


def cut_probes(breaker: Breaker, fault: Fault) -> None:
    """Let requests pass, and no probe."""
    region = breaker.region(fault)
    breaker.counts_by(fault, lambda: region.probes_lost)
    region.probe_path_down = True


def mend_probes(breaker: Breaker, fault: Fault) -> None:
    """Let probes pass."""
    breaker.region(fault).probe_path_down = False


# --- keys


def _tenant(breaker: Breaker, fault: Fault) -> str:
    return str(fault.get("tenant", breaker.world.tenants[0]["id"]))


def _give_keys(breaker: Breaker, fault: Fault, *statuses: str) -> None:
    """Give regions the keys of a tenant, the first generation first."""
    tenant = _tenant(breaker, fault)
    keys = [key_record(tenant, number, status) for number, status in enumerate(statuses, 1)]
    for region in breaker.world.regions.values():
        if fault.get("region", region.code) == region.code:
            region.change_directory(with_keys(region.directory, tenant, keys))


def _clients(breaker: Breaker, fault: Fault) -> list[Client]:
    """Give the clients that a fault of a key hits: of its tenant, near its region."""
    tenant, code = _tenant(breaker, fault), fault.get("region")
    return [
        one
        for one in breaker.world.load.clients
        if one.tenant == tenant and code in (None, one.regions[0])
    ]


def rotate_key(breaker: Breaker, fault: Fault) -> None:
    """Give a key a successor; clients come to use it one by one."""
    world, counts = breaker.world, breaker.world.key_counts
    breaker.counts_by(fault, lambda: counts["old_key_used"])
    _give_keys(breaker, fault, "verify_only", "active")
    for client in _clients(breaker, fault):
        late = world.streams.of("key-rotation", client.name).random()
        late_ns = int(late * fault.get("for_s", ROLL_OUT_S) / 2 * NS_PER_S)
        world.rotated.append(client.name)
        world.agenda.after(late_ns, world.generations.__setitem__, client.name, (2, False))


def use_wrong_key(breaker: Breaker, fault: Fault) -> None:
    """Have clients sign with a key that is not their own."""
    counts = breaker.world.key_counts
    breaker.counts_by(fault, lambda: counts["signatures_refused"])
    for client in _clients(breaker, fault):
        generation, _ = breaker.world.key_in_use(client.name)
        breaker.world.generations[client.name] = (generation, True)


def use_right_key(breaker: Breaker, fault: Fault) -> None:
    """Have them sign with their own again, also what waits in their outboxes."""
    for client in _clients(breaker, fault):
        generation, _ = breaker.world.key_in_use(client.name)
        breaker.world.generations[client.name] = (generation, False)
        client.resign()


def revoke_key(breaker: Breaker, fault: Fault) -> None:
    """Revoke a key while records that it signed wait."""
    counts = breaker.world.key_counts
    breaker.counts_by(fault, lambda: counts["signatures_refused"])
    _give_keys(breaker, fault, "revoked")


def restore_key(breaker: Breaker, fault: Fault) -> None:
    """Take the revocation back, and let what waits be tried."""
    _give_keys(breaker, fault, "active")
    for client in _clients(breaker, fault):
        client.try_again()


# --- tiers and dedup shards


def _tiers(breaker: Breaker, fault: Fault) -> Any:
    tiers = breaker.region(fault).tiers
    if tiers is None:
        raise ScenarioError(f"{fault['id']}: {fault['kind']} needs settings.tiers")
    return tiers


def _router(breaker: Breaker, fault: Fault) -> Any:
    router = breaker.region(fault).router
    if router is None:
        raise ScenarioError(f"{fault['id']}: {fault['kind']} needs topology.shards")
    return router


def flush_hot(breaker: Breaker, fault: Fault) -> None:
    """Empty the hot tier."""
    breaker.counted(fault, _tiers(breaker, fault).hot.flush())


def take_cold(breaker: Breaker, fault: Fault) -> None:
    """Have the cold store deny every request."""
    cold = _tiers(breaker, fault).cold
    breaker.counts_by(fault, lambda: cold.counts["reads_failed"])
    cold.down = True


def give_cold(breaker: Breaker, fault: Fault) -> None:
    """Have it answer again."""
    _tiers(breaker, fault).cold.down = False


def lose_replies(breaker: Breaker, fault: Fault) -> None:
    """Store objects, and never let the uploader hear of it."""
    cold = _tiers(breaker, fault).cold
    breaker.counts_by(fault, lambda: cold.counts["replies_lost"])
    cold.loses_replies = fault.get("share", 1.0)


def give_replies(breaker: Breaker, fault: Fault) -> None:
    """Let the uploader hear again."""
    _tiers(breaker, fault).cold.loses_replies = 0.0


def kill_shard(breaker: Breaker, fault: Fault) -> None:
    """Have a dedup shard not answer."""
    store = _router(breaker, fault).stores[fault["shard"]]
    breaker.counts_by(fault, lambda: store.counts["claims_refused"])
    store.down = True


def start_shard(breaker: Breaker, fault: Fault) -> None:
    """Have it answer, with what it holds."""
    _router(breaker, fault).stores[fault["shard"]].down = False


def flush_shards(breaker: Breaker, fault: Fault) -> None:
    """Have dedup shards lose their keys and not know it."""
    stores = _router(breaker, fault).stores
    names = [fault["shard"]] if "shard" in fault else list(stores)
    breaker.counted(fault, sum(stores[name].flush() for name in names))


# --- people


def promote_too(breaker: Breaker, fault: Fault) -> None:
    """Have an operator promote a region while another one writes."""
    world, region, done = breaker.world, breaker.region(fault), 0
    for name, placement in sorted(world.placements.items()):
        if not placement.needs_lease or region.code not in placement.regions:
            continue
        if world.arbiter is not None:
            epoch = world.arbiter.epoch(name)
            answer = world.arbiter.promote(name, region.code, epoch)
            done += isinstance(answer, lease.Promoted)
        elif region.node is not None and region.node.keeper is not None:
            keeper = region.node.keeper
            epoch = keeper.roles[name].kept.region_epoch
            done += keeper.operate(name, roles.Promote(epoch, old_is_stopped=True)) is None
    breaker.counted(fault, done)


def drain_wrong(breaker: Breaker, fault: Fault) -> None:
    """Have an operator take the traffic from a healthy region."""
    region = breaker.region(fault)
    breaker.counted(fault, int(region.node is not None))
    if region.node is not None:
        region.node.feed(Draining())


def undrain(breaker: Breaker, fault: Fault) -> None:
    """Have him find out."""
    region = breaker.region(fault)
    if region.node is not None:
        region.node.feed(Resumed())


def break_cutover_off(breaker: Breaker, fault: Fault) -> None:
    """Have the next cutover broken off in its middle."""
    migrating = _router(breaker, fault).migrating
    breaker.counts_by(fault, lambda: migrating.broken_off)
    migrating.break_off = True


def resume_cutover(breaker: Breaker, fault: Fault) -> None:
    """Have another coordinator take over."""
    migrating = _router(breaker, fault).migrating
    migrating.break_off = False
    migrating.resume()


def mislead(breaker: Breaker, fault: Fault) -> None:
    """Have nobody answer, or not the one who knows, or a runbook that is wrong."""
    operator = breaker.world.operator
    if operator is None:
        raise ScenarioError(f"{fault['id']}: {fault['kind']} needs settings.people")
    name = counter_of(fault["kind"])
    breaker.counts_by(fault, lambda: operator.counts[name])
    _set_people(breaker, fault, is_bad=True)


def guide(breaker: Breaker, fault: Fault) -> None:
    """Have people be there and right again."""
    _set_people(breaker, fault, is_bad=False)


def _set_people(breaker: Breaker, fault: Fault, *, is_bad: bool) -> None:
    operator = breaker.world.operator
    assert operator is not None
    if fault["kind"] == "nobody-answers":
        operator.absent = is_bad
    elif fault["kind"] == "expert-absent":
        operator.expert_absent = is_bad
    else:
        operator.runbook_is_stale = is_bad
