"""Play many runs: what is known from an earlier day is not played again, what is new is kept.

The invariant of this file: the outcomes of a job come in the order of its seeds and are the same
whatever plays them and however often the command was interrupted. An interrupt ends the runs that
are under way and keeps every finished one.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

from fractal_lba_server.drill.scenario import ScenarioError

from .executors import Executor
from .journal import Journal, Key, key_of
from .playing import Chunk, Job, Refusal

CHUNK_RUNS_MAX: Final = 16
"""Runs of one chunk: an interrupt loses at most so many for each worker."""

CHUNKS_PER_JOB: Final = 8
"""Chunks for each worker at the least, so that the last ones end together."""

RUNS_MAX: Final = 1_000_000
"""Runs of one command."""

Outcome = dict[str, Any]
Tell = Callable[[int, int, str], None]
"""Told how many runs are finished, of how many, and what for."""


class Work(NamedTuple):
    """A job and its seeds."""

    job: Job
    seeds: Sequence[int]


def _silent(done: int, of: int, what: str) -> None:
    """Tell nobody."""


class Runner:
    """Plays work and remembers outcomes."""

    def __init__(
        self, executor: Executor, *, journal: Journal | None = None, tell: Tell = _silent
    ) -> None:
        self._executor = executor
        self._journal = journal
        self._tell = tell
        self._refused: dict[str, str] = {}
        self._lines: dict[Key, str] = dict(journal.known) if journal else {}
        self.resumed = 0
        """Outcomes that were asked for and known from an earlier command."""

    def play(self, work: Iterable[Work], what: str = "") -> None:
        """Play what is not known yet; `what` says what for.

        A KeyboardInterrupt passes, and finished runs are kept.
        """
        missing: list[Work] = []
        asked = 0
        for one in work:
            new = [seed for seed in dict.fromkeys(one.seeds) if not self._knows(one.job, seed)]
            missing.append(Work(one.job, new))
            asked += len(one.seeds)
        done = asked - sum(len(one.seeds) for one in missing)
        self.resumed += done
        self._tell(done, asked, what)
        for chunk, lines in self._executor.play(self._chunks(missing)):
            done += len(chunk.seeds)
            self._tell(done, asked, what)
            if isinstance(lines, Refusal):
                self._refused[chunk.job.digest] = lines.said
                continue
            made = [
                (key_of(chunk.job, seed), line)
                for seed, line in zip(chunk.seeds, lines, strict=True)
            ]
            self._lines.update(made)
            if self._journal is not None:
                self._journal.add(made)

    def outcomes(self, job: Job, seeds: Sequence[int]) -> list[Outcome]:
        """Give the finished runs of a job in the order of the seeds; after an interrupt, fewer.

        Raises ScenarioError if its engine does not play it.
        """
        if job.digest in self._refused:
            raise ScenarioError(self._refused[job.digest])
        keys = [key_of(job, seed) for seed in seeds]
        return [json.loads(self._lines[key]) for key in keys if key in self._lines]

    def _knows(self, job: Job, seed: int) -> bool:
        trace = job.trace_of(seed)
        return key_of(job, seed) in self._lines and (trace is None or trace.exists())

    def _chunks(self, missing: Sequence[Work]) -> list[Chunk]:
        runs = sum(len(one.seeds) for one in missing)
        jobs = self._executor.jobs
        size = 1 if jobs == 1 else max(1, min(CHUNK_RUNS_MAX, runs // (jobs * CHUNKS_PER_JOB)))
        return [
            Chunk(one.job, tuple(one.seeds[at : at + size]))
            for one in missing
            for at in range(0, len(one.seeds), size)
        ]
