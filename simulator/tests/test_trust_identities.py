"""What must be exactly so in every run, whatever was drawn.

Little's law, the books, phases that add up, and bytes that are delivered, dropped or under way:
each is an equation in whole numbers, so it is asked of many seeds without a tolerance. Each has a
mutant: an account with one thing wrong, which must not add up.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random
from typing import Any

import pytest
from trust_queues import NETS, sender
from trust_worlds import WORLDS, judged, world

from fractal_lba_sim.exact.plants import planted
from fractal_lba_sim.exact.world import World as ExactWorld
from fractal_lba_sim.plan.engine import _prepare as prepare
from fractal_lba_sim.plan.setup import Setup
from fractal_lba_sim.plan.world import World as PlanWorld
from fractal_lba_sim.streams import Streams
from fractal_lba_sim.waiting import NS_PER_MS, Agenda, Lane, Places

SEEDS = {"plan": range(1, 41), "exact": range(1, 4)}
CLASSES = ("winner", "duplicate", "displaced", "lost")


# --- Little's law: the number in a queue, summed over time, is the time of all who were in it


@dataclass
class Little:
    """Both sides of the law over one busy time, in item-nanoseconds."""

    agenda: Agenda
    inside: int = 0
    area_ns: int = 0
    times_ns: int = 0
    left: int = 0
    _since_ns: int = 0

    def step(self, by: int) -> None:
        self.area_ns += self.inside * (self.agenda.now_ns - self._since_ns)
        self._since_ns = self.agenda.now_ns
        self.inside += by

    def leaves(self, came_ns: int) -> None:
        self.step(-1)
        self.times_ns += self.agenda.now_ns - came_ns
        self.left += 1


Enter = Callable[[Agenda, Random], Callable[[Callable[[], None]], None]]


def lane(agenda: Agenda, chance: Random) -> Callable[[Callable[[], None]], None]:
    queue = Lane(agenda)
    return lambda done: queue.use(int(chance.expovariate(1) * NS_PER_MS), done)


def places(agenda: Agenda, chance: Random) -> Callable[[Callable[[], None]], None]:
    desks = Places(agenda, 3)

    def enter(done: Callable[[], None]) -> None:
        def served() -> None:
            desks.leave()
            done()

        desks.enter(lambda: agenda.after(int(chance.expovariate(0.4) * NS_PER_MS), served))

    return enter


def link(name: str) -> Enter:
    def make(agenda: Agenda, chance: Random) -> Callable[[Callable[[], None]], None]:
        send = sender(name, agenda)
        return lambda done: send(int(chance.expovariate(1 / 900)), done)

    return make


QUEUES: dict[str, Enter] = {
    "lane": lane, "places": places, **{f"link of {name}": link(name) for name in NETS},
}  # fmt: skip


def little(queue: str, seed: int, *, forgets: bool = False) -> Little:
    agenda, chance = Agenda(), Random(f"{queue}/{seed}")
    law, enter = Little(agenda), QUEUES[queue](agenda, chance)

    def come(number: int) -> None:
        came_ns = agenda.now_ns
        law.step(1)
        enter(lambda: law.leaves(came_ns + (forgets and number == 7)))
        if number:
            agenda.after(int(chance.expovariate(0.9) * NS_PER_MS), come, number - 1)

    agenda.after(0, come, 200)
    agenda.at(10**13, agenda.stop)
    agenda.run()
    return law


@pytest.mark.parametrize("queue", QUEUES)
def test_littles_law_holds_on_every_queue(queue: str) -> None:
    for seed in range(20):
        law = little(queue, seed)
        assert (law.inside, law.left) == (0, 201)
        assert law.area_ns == law.times_ns


@pytest.mark.parametrize("queue", QUEUES)
def test_a_nanosecond_that_is_missing_breaks_littles_law(queue: str) -> None:
    law = little(queue, 1, forgets=True)
    assert law.area_ns != law.times_ns


# --- the books, and phases


def books_add_up(found: dict[str, Any]) -> bool:
    accounts = found["accounts"].values()
    return all(row["acked"] == sum(row[name] for name in CLASSES) for row in accounts)


def phases_add_up(found: dict[str, Any]) -> bool:
    return all(
        row["rto_s"] is None
        or round(sum(row["phases"].values()) * 1e9) == round(row["rto_s"] * 1e9)
        for row in found["incidents"]
    )


@pytest.mark.parametrize("engine", ["plan", "exact"])
@pytest.mark.parametrize("name", WORLDS)
def test_the_books_and_the_phases_add_up_in_every_run(name: str, engine: str) -> None:
    scenario, acked = world(name), 0
    for seed in SEEDS[engine]:
        found = judged(scenario, seed, name=engine)
        assert books_add_up(found), seed
        assert phases_add_up(found), seed
        acked += sum(row["acked"] for row in found["accounts"].values())
        wrong = {**found, "accounts": {"euw": {**found["accounts"]["euw"], "acked": 1}}}
        assert not books_add_up(wrong)
    assert acked > 100 * len(SEEDS[engine])


def test_a_phase_that_is_counted_twice_does_not_add_up() -> None:
    found = judged(world("promotion"), 1)
    found["incidents"][0]["phases"]["decide"] += 0.001
    assert not phases_add_up(found)


# --- bytes sent = delivered + dropped + under way


@pytest.mark.parametrize("name", WORLDS)
def test_every_byte_of_a_run_of_exact_is_accounted_for(name: str) -> None:
    for seed in SEEDS["exact"]:
        run = ExactWorld(world(name), seed=seed, parts=planted(()))
        arrived: dict[tuple[str, str], int] = {}
        for ends, one in run.net.links.items():
            spy(arrived, ends, one)
        run.play()
        for ends, one in run.net.links.items():
            assert one.bytes_sent == one.bytes_delivered + one.bytes_dropped + one.bytes_under_way
            assert one.bytes_delivered == arrived.get(ends, 0)
            assert one.bytes_under_way >= 0
        assert sum(one.bytes_sent for one in run.net.links.values()) > 0


def spy(arrived: dict[tuple[str, str], int], ends: tuple[str, str], one: Any) -> None:
    """Count apart what gets to the end of a link."""
    send = one.send

    def counted(size: int, arrive: Callable[[], object]) -> None:
        def there() -> None:
            arrived[ends] = arrived.get(ends, 0) + size
            arrive()

        send(size, there)

    one.send = counted


@pytest.mark.parametrize("name", WORLDS)
def test_every_byte_of_a_run_of_plan_is_accounted_for(name: str) -> None:
    for seed in SEEDS["plan"]:
        scenario = world(name)
        run = PlanWorld(Setup(scenario, Streams(seed)))
        prepare(run, scenario.faults(seed))
        run.agenda.run()
        for count in run.net.carried.values():
            assert count.sent == count.delivered + count.dropped + count.in_flight
            assert min(count.delivered, count.dropped, count.in_flight) >= 0
        assert sum(count.delivered for count in run.net.carried.values()) > 0
