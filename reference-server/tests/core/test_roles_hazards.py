"""Hazards of roles, each with its literal design before the same judge as ours."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from role_world import JudgedError, Rules, World

from fractal_lba_server.core import lease, roles
from fractal_lba_server.core.first_write import Origin, Stored, merge
from fractal_lba_server.core.roles import Role

RANKS = {"eu1": 0, "us1": 1}.__getitem__


def accepted(region: str, content: str, hlc: int) -> Stored:
    return Stored(1, content, 200, b"", Origin(region, "open", 1), hlc)


# --- H37: one id taken by two regions


def judge_h37(settle: Callable[[list[Stored]], Stored]) -> list[str]:
    """Show two acceptances to each region in each order; name what the regions disagree on."""
    faults = []
    for first, second in itertools.product(range(3), range(3)):
        both = [accepted("eu1", "a", first), accepted("us1", "b", second)]
        kept = {settle(list(order)) for order in itertools.permutations(both)}
        if len(kept) > 1:
            faults.append(f"hlc {first} and {second}: the regions keep different records")
    return faults


def by_arrival(seen: list[Stored]) -> Stored:
    """Single writer by idempotent dedup: what is there stays."""
    return seen[0]


def by_first_write(seen: list[Stored]) -> Stored:
    kept = seen[0]
    for other in seen[1:]:
        kept = merge(kept, other, RANKS).winner
    return kept


def test_h37_two_regions_that_took_one_id_agree_on_which_stands() -> None:
    assert judge_h37(by_first_write) == []
    assert judge_h37(by_arrival) != []


# --- H94: a standby that takes writes, two primaries after a failback


class FlagPrimary(Role):
    """`PRIMARY=true` in the environment of both: nobody asks, nobody refuses."""

    def start(self) -> list[roles.Effect]:
        return [roles.Say(roles.FOR_EVER_NS, 1)]


def judge_h94(rules: Rules) -> list[str]:
    """Start both, fail over, fail back; name what the judge of acknowledgements says."""
    try:
        world = World(random.Random(94), rules)
        for step in range(400):
            if step == 100:
                world.crash("eu1")
                world.promote("us1")
            if step == 250:
                world.start("eu1")
            world.true_ms += 100
            for name in world.regions:
                world.tick(name)
                world.write(name)
                world.ship(name, "us1" if name == "eu1" else "eu1")
            for _ in range(len(world.messages)):
                world.deliver()
            world.judge()
    except JudgedError as error:
        return [str(error)]
    return [] if world.switches == ["eu1", "us1"] else [f"wrote: {world.switches}"]


def test_h94_a_standby_refuses_and_the_old_primary_is_fenced() -> None:
    assert judge_h94(Rules()) == []
    assert judge_h94(Rules(role=FlagPrimary)) != []


# --- H96: a standby without data


class EmptyHanded(Role):
    """Serves whatever it holds."""

    def _is_fenced(self) -> bool:
        return True

    def _lacking(self) -> roles.Fetch | None:
        return None


def judge_h96(rules: Rules) -> list[str]:
    """Replicate to the one standby, promote the other: what was acknowledged must be there."""
    try:
        world = World(random.Random(96), rules, count=3)
        for step in range(400):
            world.true_ms += 100
            for name in ("eu1", "us1", "ap1"):
                world.tick(name)
                world.write(name)
            world.ship("eu1", "us1")
            if step == 100:
                world.crash("eu1")
                world.promote("ap1")
            for _ in range(len(world.messages)):
                world.deliver()
    except JudgedError as error:
        return [str(error)]
    return [] if "ap1" in world.switches else ["it never served"]


def test_h96_a_standby_serves_only_with_what_was_replicated() -> None:
    assert judge_h96(Rules()) == []
    assert judge_h96(Rules(role=EmptyHanded)) != []


# --- H97: a drill that passes with a broken failover


def literal_drill(world: World) -> bool:
    """Write here, stop it, write there: two writes were answered, so it passed."""
    world.write("eu1")
    world.crash("eu1")
    world.regions["us1"].stream += 1
    return world.regions["us1"].stream > 0


def our_drill(world: World) -> bool:
    """The same, with a client that goes on, read-back, and a judge of acknowledgements."""
    try:
        for step in range(300):
            world.true_ms += 100
            for name in world.regions:
                world.tick(name)
                world.write(name)
            world.ship("eu1", "us1")
            if step == 50:
                world.crash("eu1")
                world.promote("us1")
            for _ in range(len(world.messages)):
                world.deliver()
            world.judge()
    except JudgedError:
        return False
    return world.switches == ["eu1", "us1"]


def test_h97_a_drill_fails_where_the_failover_is_broken() -> None:
    stuck = Rules(promote=lambda row, *_: lease.Decision(row, lease.Moved(1)))
    assert our_drill(World(random.Random(97), Rules()))
    assert not our_drill(World(random.Random(97), stuck))
    assert literal_drill(World(random.Random(97), stuck)), "the literal drill is content"
