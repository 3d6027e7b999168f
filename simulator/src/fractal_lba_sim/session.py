"""Play the work of a command: with its journal, where it asks for, with progress shown.

The invariant of this file: an interrupt or a cluster that is lost ends the work early and loses
no finished run; what is then left out is marked, and is no error of the results.
"""

from __future__ import annotations

import signal
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple, NoReturn

import click

from fractal_lba_server.drill.scenario import Scenario

from .executors import ExecutorError, executor
from .journal import Journal
from .playing import Job
from .progress import shown
from .runner import Runner


class Ended(NamedTuple):
    """How the work of a command ended."""

    runner: Runner
    complete: bool
    broken: str
    """Why runs could not be played any more; empty after an interrupt."""


def played(
    scenario: Scenario, job: Job, given: Mapping[str, Any], *, jobs: int,
    work: Callable[[Runner], None],
) -> Ended:  # fmt: skip
    """Do `work` with a runner as the options of a command ask for; see `command.options_play`."""
    complete, broken = False, ""
    with ExitStack() as stack:
        tell = stack.enter_context(shown(scenario.name, quiet=given["quiet"]))
        journal = None
        if given["out"] is not None:
            journal = stack.enter_context(Journal(given["out"], scenario))
            if journal.outdated:
                click.echo(f"{given['out']}: runs of other versions are played again", err=True)
        where = executor(
            given["where"], jobs=jobs, scheduler=given["scheduler"], preload=(job.module,)
        )
        runner = Runner(where, journal=journal, tell=tell)
        try:
            with _termination_is_interrupt(), where:
                work(runner)
                complete = True
        except KeyboardInterrupt:
            # Not an error: what is finished is kept, and marked as a part.
            pass
        except ExecutorError as error:
            broken = str(error)
    return Ended(runner, complete, broken)


@contextmanager
def _termination_is_interrupt() -> Iterator[None]:
    """Take SIGTERM for Ctrl-C: a batch system that ends a command gets its partial results."""

    def interrupt(*_: object) -> NoReturn:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
