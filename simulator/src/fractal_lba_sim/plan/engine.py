"""The plan engine: a scenario in, the trace of one run out.

The invariant of this file: it calls the server's core for every event that is not a record, and
what it gives depends on the scenario and the seed alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_server.judge.parts import END

from ..engine import Event
from ..streams import Streams
from .ending import write_end
from .faults import count_seen, refuse_unknown, schedule
from .setup import Setup
from .steps import schedule_steps
from .world import World


class Engine:
    """Plays scenarios with flows of records."""

    def play(self, scenario: Scenario, *, seed: int, plants: Sequence[str] = ()) -> Iterable[Event]:
        """Give the trace of a run. Raises ScenarioError for what it cannot play."""
        for name in (*scenario.plants, *plants):
            message = f"plan cannot plant {name}: exact and live may"
            raise ScenarioError(message)
        return play(scenario, Streams(seed), scenario.faults(seed))


def play(
    scenario: Scenario, streams: Streams, faults: list[dict[str, Any]]
) -> list[dict[str, Any]]:
    """Give the trace of a run with these streams and these faults, which are those of a seed."""
    world = World(Setup(scenario, streams))
    refuse_unknown(world, faults)
    _prepare(world, faults)
    world.agenda.run()
    return world.events.lines(scenario, streams.seed, world.agenda.now_ns)


def _prepare(world: World, faults: list[dict[str, Any]]) -> None:
    setup, agenda = world.setup, world.agenda
    world.foresee(setup.load_end_ns)
    world.foresee(setup.load_end_ns + setup.settle_ns)
    schedule(world, faults)
    schedule_steps(world)
    agenda.at(setup.load_end_ns + setup.settle_ns, _end, world)
    for site in world.sites.values():
        site.reshape()
    for route in world.routes:
        route.look()
    for stream in world.streams.values():
        stream.start()


def _end(world: World) -> None:
    for incident in world.incidents.all:
        if incident.healed_ns is None:
            count_seen(world, incident)
    world.comparing.late()
    world.comparing.compare(END, world.agenda.now_ns)
    world.census(END)
    for log in world.logs:
        log.cut(world.levels[log.name].replicated)
    write_end(world)
    world.agenda.stop()
