"""Run cases against one server and collect what came of them.

Ordinary cases run one after the other. Those that wait for a server's patience to end run beside
them from the start. Those that hurt the server come last, one by one.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from fnmatch import fnmatchcase

from ..judge import FAIL, PASS, SKIP
from .control import ControlError
from .features import Features
from .judge import Failed
from .trial import CASES, Absent, Case, Control, Trial
from .wire import Client, WireError

SLOW_THREADS = 32
"""Cases that wait at the same time."""


class UnreachableError(Exception):
    """No server answers under the URL."""


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of one case."""

    case: Case
    status: str
    message: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Plan:
    """What a run is: its server, its cases, its seed."""

    features: Features
    client: Client
    cases: tuple[Case, ...]
    seed: str
    run_id: str
    control: Control | None

    def trial(self, one: Case) -> Trial:
        """Make what a case works with; its choices follow from the seed, its ids are new."""
        name = f"{self.seed}|{self.run_id}|{one.id}"
        return Trial(self.features, self.client, name, self.control)


def fresh_id() -> str:
    """Name a run, so that its ids meet those of no other."""
    return os.urandom(8).hex()


def chosen(patterns: Iterable[str], *, strict: bool) -> tuple[Case, ...]:
    """Select cases by id; a pattern may hold `*`, and names all below it."""
    wanted = tuple(patterns)
    return tuple(
        one
        for one in CASES.values()
        if (strict or not one.should or one.id in wanted)
        and (not wanted or any(_matches(one.id, pattern) for pattern in wanted))
    )


def _matches(name: str, pattern: str) -> bool:
    return name == pattern or name.startswith(pattern + "/") or fnmatchcase(name, pattern)


def probe(client: Client) -> None:
    """Ask whether anybody is there; raises UnreachableError."""
    try:
        client.ask("GET", "/healthz")
    except WireError as error:
        raise UnreachableError(str(error)) from error


def run(plan: Plan, told: Callable[[Outcome], None]) -> None:
    """Run every case; `told` hears each result as it comes, from one thread at a time."""
    try:
        _run(plan, told)
    finally:
        plan.client.forget()


def _run(plan: Plan, told: Callable[[Outcome], None]) -> None:
    slow = [one for one in plan.cases if one.slow]
    plain = [one for one in plan.cases if not one.slow and not one.control]
    last = [one for one in plan.cases if one.control]
    with ThreadPoolExecutor(SLOW_THREADS, thread_name_prefix="slow") as pool:
        waiting: list[Future[Outcome]] = [pool.submit(judged, plan, one) for one in slow]
        for one in plain:
            told(judged(plan, one))
        for found in waiting:
            told(found.result())
    for one in last:
        told(judged(plan, one))


def judged(plan: Plan, one: Case) -> Outcome:
    """Run one case. What the harness itself does wrong is raised."""
    missing = sorted(one.needs - plan.features.claimed)
    started = time.monotonic()
    status, message = PASS, ""
    if missing:
        return Outcome(one, SKIP, f"{missing[0]} is not claimed", 0.0)
    trial = plan.trial(one)
    try:
        one.run(trial)
    except Absent as reason:
        status, message = SKIP, str(reason)
    except (Failed, WireError, ControlError) as fault:  # a server that does not come up again
        status, message = FAIL, str(fault)
    return Outcome(one, status, message, time.monotonic() - started)
