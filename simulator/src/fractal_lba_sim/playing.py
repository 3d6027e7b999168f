"""Play one run and judge it: scenario, engine and seed in, one outcome out.

The invariant of this file: an outcome is a line of JSON that depends on the job, the seed and
the versions alone. It is written as text where it is made, so an outcome that came from another
process, another machine or a file of an earlier day is the same as a fresh one.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from fractal_lba_server.core.faults import DocumentError
from fractal_lba_server.drill.scenario import Scenario, ScenarioError
from fractal_lba_server.judge.check import check
from fractal_lba_server.judge.summary import outcome

from .engine import ENGINES, Event


@dataclass(frozen=True, slots=True)
class Job:
    """What is run: one scenario in one engine."""

    scenario: Scenario
    engine: str
    module: str
    """Where the engine is; a worker imports it and needs no table."""

    digest: str
    """Of the scenario; made once, asked for with every run."""

    plants: tuple[str, ...] = ()
    """Wrong protocols besides those of the scenario's control, which engines plant themselves."""

    traces: Path | None = None
    """Folder in which the trace of every run is kept."""

    def trace_of(self, seed: int) -> Path | None:
        """Name the file of a trace that is kept."""
        return None if self.traces is None else self.traces / f"trace-{seed}.jsonl"


@dataclass(frozen=True, slots=True)
class Chunk:
    """Runs that one worker plays one after the other."""

    job: Job
    seeds: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an engine does not play a scenario."""

    said: str


def job_of(scenario: Scenario, engine: str, *, traces: Path | None = None) -> Job:
    """Make the job of a scenario."""
    return Job(scenario, engine, ENGINES[engine], scenario.digest, traces=traces)


def play(job: Job, seed: int) -> str:
    """Play and judge one run; give the outcome as a line of JSON."""
    engine = import_module(job.module).Engine()
    events: Iterable[Event] = engine.play(job.scenario, seed=seed, plants=job.plants)
    path = job.trace_of(seed)
    if path is not None:
        events = _kept(events, path)
    made: dict[str, Any] = outcome(check(events))
    return json.dumps(made, separators=(",", ":"), allow_nan=False)


def play_chunk(chunk: Chunk) -> list[str] | Refusal:
    """Play the runs of a chunk in the order of its seeds.

    A refusal is a value: of many scenarios one may ask for what its engine cannot play.
    """
    try:
        return [play(chunk.job, seed) for seed in chunk.seeds]
    except (ScenarioError, DocumentError) as error:
        return Refusal(str(error))


def _kept(events: Iterable[Event], path: Path) -> Iterator[Event]:
    """Pass a trace on and write it; the file has its name only once it is whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_suffix(".part")
    with part.open("w", encoding="utf-8") as file:
        for event in events:
            file.write(json.dumps(event, separators=(",", ":")) + "\n")
            yield event
    part.replace(path)
