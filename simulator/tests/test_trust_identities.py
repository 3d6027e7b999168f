"""What must be exactly so in every run, whatever was drawn.

Little's law, the books, phases that add up, and bytes that are delivered, dropped or under way:
each is an equation in whole numbers, so it is asked of many seeds without a tolerance. Each has a
mutant: an account with one thing wrong, which must not add up.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass, field
from functools import partial
from random import Random
from typing import Any

import pytest
from trust_queues import NETS, Send, sender
from trust_worlds import WORLDS, judged, world

from fractal_lba_server.drill.scenario import Scenario
from fractal_lba_sim.exact.network import Link
from fractal_lba_sim.exact.plants import planted
from fractal_lba_sim.exact.world import World as ExactWorld
from fractal_lba_sim.plan.engine import _prepare as prepare
from fractal_lba_sim.plan.net import Message, Net
from fractal_lba_sim.plan.setup import Setup
from fractal_lba_sim.plan.world import World as PlanWorld
from fractal_lba_sim.streams import Streams
from fractal_lba_sim.waiting import NS_PER_MS, NS_PER_S, Agenda, Lane, Moment, Places

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


# --- bytes sent = delivered + dropped + under way, at every moment

LOOK_NS = NS_PER_S // 4
Ends = tuple[str, str]

MORE_FAULTS = [
    {
        "id": "lossy", "kind": "loss", "from": "euw", "to": "use", "at_s": 1, "for_s": 8,
        "share": 0.2,
    },
    {
        "id": "reset", "kind": "reset", "from": "euw", "to": "use", "at_s": 6,
        "repeat": {"count": 2, "every_s": 1},
    },
]  # fmt: skip
"""What drops bytes on links that stay up, beside what each world suffers."""


@dataclass
class Carried:
    """What a test has seen of the bytes of each link; what an engine says is held against it."""

    sent: Counter[Ends] = field(default_factory=Counter)
    arrived: Counter[Ends] = field(default_factory=Counter)
    dropped: int = 0
    most_under_way: int = 0

    def counted(self, ends: Ends, size: int, arrive: Callable[[], object]) -> Callable[[], None]:
        """Take note of a message, and of its arrival when that comes."""
        self.sent[ends] += size

        def there() -> None:
            self.arrived[ends] += size
            arrive()

        return there

    def agrees(self, ends: Ends, under_way: int, said: Sequence[int]) -> bool:
        """Compare with what an engine says: sent, delivered, dropped and under way."""
        self.dropped += said[2]
        self.most_under_way = max(self.most_under_way, under_way)
        dropped = self.sent[ends] - self.arrived[ends] - under_way
        return list(said) == [self.sent[ends], self.arrived[ends], dropped, under_way]


def looking(agenda: Agenda, agree: Callable[[], bool]) -> list[bool]:
    """Have a run looked at again and again; gives what was found, once it is over."""
    found: list[bool] = []

    def look() -> None:
        found.append(agree())
        agenda.after(LOOK_NS, look)

    agenda.after(LOOK_NS, look)
    return found


def watched_exact(name: str, seed: int) -> tuple[Carried, list[bool]]:
    run, seen = ExactWorld(hurt(name), seed=seed, parts=planted(())), Carried()
    links = run.net.links
    for ends, one in links.items():
        one.send = spied(seen, ends, one.send)  # type: ignore[method-assign] # the test listens

    def agree() -> bool:
        return all(
            seen.agrees(
                ends,
                sum(m.args[0] for *_, m in run.agenda._calls if m.call == one._arrived)
                + sum(held[0] for held in (*one._held, *one._stopped)),
                (one.bytes_sent, one.bytes_delivered, one.bytes_dropped, one.bytes_under_way),
            )
            for ends, one in links.items()
        )

    found = looking(run.agenda, agree)
    run.play()
    return seen, [*found, agree()]


def spied(seen: Carried, ends: Ends, send: Send) -> Send:
    def spy(size: int, arrive: Any, *args: Any) -> None:
        send(size, seen.counted(ends, size, partial(arrive, *args)))

    return spy


def watched_plan(name: str, seed: int) -> tuple[Carried, list[bool]]:
    scenario, seen = hurt(name), Carried()
    run = PlanWorld(Setup(scenario, Streams(seed)))
    net, send = run.net, run.net.send

    def counted(begin: str, end: str, size: int, arrive: Any, **more: int) -> None:
        send(begin, end, size, seen.counted((begin, end), size, arrive), **more)

    net.send = counted  # type: ignore[method-assign] # the test listens
    prepare(run, scenario.faults(seed))

    def agree() -> bool:
        queued = [word for *_, m in run.agenda._calls for word in words_of(m)]
        under_way = [one for one in (*queued, *net._held) if isinstance(one, Message)]
        return all(
            seen.agrees(
                pair, sum(one.size for one in under_way if one.pair == pair), astuple(count)
            )
            for pair, count in net.carried.items()
        )

    found = looking(run.agenda, agree)
    run.agenda.run()
    return seen, [*found, agree()]


def words_of(moment: Moment) -> Sequence[Any]:
    """Give the arguments of a call that will be made, also those that it was bound to."""
    return () if moment.call is None else (*moment.args, *getattr(moment.call, "args", ()))


def hurt(name: str) -> Scenario:
    return world(name, {"faults": [*WORLDS[name]["faults"], *MORE_FAULTS]})


WATCHED = {"exact": watched_exact, "plan": watched_plan}


@pytest.mark.parametrize("engine", WATCHED)
@pytest.mark.parametrize("name", WORLDS)
def test_every_byte_of_a_run_is_accounted_for_at_every_moment(name: str, engine: str) -> None:
    seen = Carried()
    for seed in SEEDS[engine]:
        seen, found = WATCHED[engine](name, seed)
        assert len(found) > 40
        assert all(found), f"seed {seed}, look {found.index(False)}"
    assert sum(seen.arrived.values()) > 0
    assert seen.most_under_way > 0


@pytest.mark.parametrize(("engine", "name"), [("exact", "cut"), ("plan", "burnt")])
def test_bytes_are_dropped_in_a_world_that_drops_them(engine: str, name: str) -> None:
    assert WATCHED[engine](name, 1)[0].dropped > 0


def forgets_what_was_reset(self: Link) -> None:
    self._connections += 1
    self._stopped.clear()
    self._held.clear()


def sends_again_what_was_held(self: Link, cause: str) -> None:
    self._cuts.pop(cause, None)
    held, self._held = self._held, []
    for size, arrive, args in held:
        Link.send(self, size, arrive, *args)


def forgets_what_was_held(self: Net) -> None:
    self._held = []


def delivers_twice(self: Net, message: Message) -> None:
    RIGHT_ARRIVES(self, message)
    message.arrive()


RIGHT_ARRIVES = Net._arrives
WRONG_BYTES: dict[str, tuple[str, str, Any, str, Callable[..., None]]] = {
    "a reset forgets": ("exact", "cut", Link, "reset", forgets_what_was_reset),
    "a heal sends again": ("exact", "cut", Link, "mend", sends_again_what_was_held),
    "a heal forgets": ("plan", "cut", Net, "mended", forgets_what_was_held),
    "a message comes twice": ("plan", "cut", Net, "_arrives", delivers_twice),
}
"""Engine, world, and which of its functions is wrong."""


@pytest.mark.parametrize("wrong", WRONG_BYTES)
def test_a_byte_that_is_missing_or_too_many_is_seen(
    wrong: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, name, owner, function, mutant = WRONG_BYTES[wrong]
    monkeypatch.setattr(owner, function, mutant)
    assert not all(WATCHED[engine](name, 1)[1])
