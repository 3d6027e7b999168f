"""Run a server that measures its own steps: processor time per record and step, of each thread.

`python -m bench.stages OUT serve ...` wraps the functions that the steps are, and writes their
totals to OUT when the server stops. A step's time does not hold that of the steps inside it, and
the cost of the wrapping itself is measured and taken off.
"""

from __future__ import annotations

import json
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import fractal_lba_server.core.ingest as core
import fractal_lba_server.ingest as driver
from fractal_lba.canonical import Canonical
from fractal_lba_server.cli import main
from fractal_lba_server.core.record import RecordShape
from fractal_lba_server.net import app
from fractal_lba_server.net.protocol import Connection
from fractal_lba_server.store.sqlite import Index
from fractal_lba_server.store.wal import Wal

CLOCK = time.thread_time_ns
TRIALS = 100_000


class _Totals:
    def __init__(self) -> None:
        self.ns: dict[str, int] = {}
        self.calls: dict[str, int] = {}
        self.inside = threading.local()

    def wrap(self, name: str, function: Callable[..., Any]) -> Callable[..., Any]:
        """Count the time of `function` under `name`, less that of steps inside it."""
        totals, calls, inside = self.ns, self.calls, self.inside
        totals[name] = calls[name] = 0

        def measured(*args: Any, **kwargs: Any) -> Any:
            outer = getattr(inside, "ns", 0)
            inside.ns = 0
            start = CLOCK()
            try:
                return function(*args, **kwargs)
            finally:
                spent = CLOCK() - start
                totals[name] += spent - inside.ns
                calls[name] += 1
                inside.ns = outer + spent

        return measured


def _overhead_ns() -> tuple[float, float]:
    """Measure what wrapping adds: inside the step's own time, and outside it."""
    trial = _Totals()
    nothing = trial.wrap("nothing", lambda: None)
    start = CLOCK()
    for _ in range(TRIALS):
        nothing()
    whole = (CLOCK() - start) / TRIALS
    own = trial.ns["nothing"] / TRIALS
    return own, whole - own


STEPS: tuple[tuple[str, Any, str], ...] = (
    ("HTTP", Connection, "data_received"),
    ("HTTP", Connection, "_answer"),
    ("app", app.App, "handle"),
    ("app", app.App, "_send"),
    ("machine", core.Ingest, "on_event"),
    ("machine", driver.Driver, "_take_arrived"),
    ("parse", core, "parse"),
    ("schema", RecordShape, "check"),
    ("canonical", core, "canonicalize"),
    ("canonical", Canonical, "content"),
    ("canonical", core, "derive_pcs_id"),
    ("MAC", core, "check_signature"),
    ("verify", core, "verify"),
    ("verify", core, "outcome_bytes"),
    ("WAL", core, "write_facts"),
    ("WAL", core, "encode_frame"),
    ("WAL", driver.Driver, "_flush"),
    ("WAL", Wal, "_commit"),
    ("store", Index, "lookup"),
    ("store", driver.Driver, "_apply"),
    ("store", Index, "apply"),
)


def _install(totals: _Totals) -> None:
    for number, (step, owner, name) in enumerate(STEPS):
        function = owner.__dict__[name] if isinstance(owner, type) else getattr(owner, name)
        label = f"{step}/{number}"
        if isinstance(function, property):
            assert function.fget is not None
            setattr(owner, name, property(totals.wrap(label, function.fget)))
        else:
            setattr(owner, name, totals.wrap(label, function))


def run() -> None:
    """Run the server and write the totals when it ends."""
    out = Path(sys.argv.pop(1))
    totals = _Totals()
    own_ns, outer_ns = _overhead_ns()
    _install(totals)
    try:
        main()
    finally:
        steps = dict.fromkeys((step for step, _, _ in STEPS), 0.0)
        for label, ns in totals.ns.items():
            steps[label.partition("/")[0]] += ns - totals.calls[label] * own_ns
        wrapped = sum(totals.calls.values())
        # What wrapping costs outside a step falls to the step around it; most have one.
        document = {"steps_ns": steps, "wrapping_ns": wrapped * (own_ns + outer_ns),
                    "outer_ns": outer_ns, "calls": totals.calls}  # fmt: skip
        out.write_text(json.dumps(document))


if __name__ == "__main__":
    run()
