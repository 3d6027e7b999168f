"""Put SDKs and a server together, through the recording proxy, and require them to agree.

    python -m flk_conformance.interop --out DIR --testee CMD [--testee CMD ...] [--sample CMD ...]

Each cell of interop_cells.py is put to every testee; what comes out must be what the cell expects
and the same for all. Samples are run as they are. Then the cases of `flk-conformance server` go
through the proxy too, so that every operation is seen with every documented status; and the whole
record is held to what must hold of a run. The server is the reference server, started here.
"""

from __future__ import annotations

import argparse
import json
import os
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from . import report
from .checkout import end_in_order, url_of, written
from .interop_cells import CELLS, Cell, World, masked, subset
from .judge import FAIL, PASS
from .places import golden_dir, root_of
from .proxy.assertions import Assessment, Expected, assess, grouped, table
from .proxy.contract import RAW, Contract
from .proxy.faults import read_faults
from .proxy.service import Proxy, Settings
from .results import Writer
from .server import cases as _cases
from .server.cases.methods import ROUTES
from .server.control import Command
from .server.features import load_features
from .server.records import Records
from .server.runner import Outcome, Plan, chosen, fresh_id, run
from .server.wire import Client, Connection, Pace, WireError, request_bytes, target_of
from .testee import EndedError, LineError, StartError, Testee

OK, UNEXPECTED, USAGE, NOT_STARTED = range(4)
ANSWER_S: Final = 60.0
"""How long a testee may take over one cell (tp.24)."""

SAMPLE_S: Final = 120.0
"""How long a sample may take."""

CONNECTIONS: Final = 8
"""How many connections the small server takes, which is there to refuse one more."""


@dataclass(slots=True)
class Subject:
    """One testee and what came of it."""

    testee: Testee
    name: str
    facts: dict[str, Any]
    answers: dict[str, Any] = field(default_factory=dict)
    problems: dict[str, list[str]] = field(default_factory=dict)

    def ask(self, cell: Cell, args: dict[str, Any]) -> Any:
        """Ask for one cell; give the answer, or None where none came."""
        request = {"cmd": "run", "seq": f"interop/{cell.name}", "op": cell.op, "args": args}
        self.testee.write(json.dumps(request, separators=(",", ":")).encode() + b"\n")
        deadline = time.monotonic() + ANSWER_S
        try:
            while time.monotonic() < deadline:
                for line in self.testee.lines(deadline - time.monotonic()):
                    return json.loads(line)
        except (EndedError, LineError, ValueError) as problem:
            return {"ended": str(problem)}
        return {"ended": f"no answer within {ANSWER_S:.0f} s"}


class Bench:
    """The server, its proxies and their records."""

    def __init__(self, folder: Path, spec: Path) -> None:
        self._folder = folder
        self._spec = spec
        self.records: list[Path] = []
        self._homes: list[Command] = []

    def server(self, name: str, *options: str) -> tuple[Path, Command]:
        """Start a reference server in a folder of its own."""
        home = self._folder / name
        control = written(home, *options)
        self._homes.append(control)
        control.do("start")
        return home, control

    @contextmanager
    def proxy(self, home: Path, name: str, **more: Any) -> Iterator[Proxy]:
        """Put a proxy before a server for a while; its record is kept."""
        secrets = tuple(sorted([*home.glob("*.key"), *home.glob("*.token")]))
        path = self._folder / f"{name}.ndjson"
        self.records.append(path)
        with Proxy(Settings(url_of(home), self._spec, path, secrets=secrets, **more)) as proxy:
            yield proxy

    def assess(self, *, coverage: bool) -> Assessment:
        """Judge all records together."""
        return assess(self.records, self._spec, Expected(coverage=coverage))

    def close(self) -> None:
        """End the servers."""
        for control in self._homes:
            control.do("stop")


# --- the matrix ----------------------------------------------------------------------------------


def cells_of(
    bench: Bench, home: Path, world: World, subjects: Sequence[Subject], cells: Sequence[Cell]
) -> None:
    """Put every cell to every testee."""
    run_id = fresh_id()
    with bench.proxy(home, "cells", clock="virtual") as proxy:
        for cell in cells:
            for subject in subjects:
                faults = read_faults([dict(rule) for rule in cell.faults])
                proxy.script(faults if cell.faults else None)
                _put(cell, subject, world, proxy, run_id)


def _put(cell: Cell, subject: Subject, world: World, proxy: Proxy, run_id: str) -> None:
    owner = "all" if cell.shared else subject.name
    proxy.case = f"{cell.name}/{subject.name}"
    args = cell.arguments(world, Records(f"{run_id}|{cell.name}|{owner}"), proxy.url)
    cell.before(world)
    try:
        answer = subject.ask(cell, args)
    finally:
        cell.after(world)
    found = answer.get("ok") if isinstance(answer, dict) else None
    problems = subset(cell.expect, found) if found is not None else [_no_answer(answer)]
    subject.answers[cell.name] = masked(found, cell.mask)
    subject.problems[cell.name] = problems


def _no_answer(answer: Any) -> str:
    """Say why there is nothing to compare; a skip is a failure here too."""
    if isinstance(answer, dict) and isinstance(answer.get("skip"), dict):
        return f"skipped: {answer['skip'].get('reason')}"
    return f"no answer: {json.dumps(answer)[:600]}"


def compare(subjects: Sequence[Subject]) -> None:
    """Require one answer of all testees, cell by cell."""
    first, *others = subjects
    for other in others:
        for name, answer in other.answers.items():
            wanted = first.answers[name]
            if answer is not None and wanted is not None and answer != wanted:
                text = f"{other.name} says {json.dumps(answer)}, {first.name} {json.dumps(wanted)}"
                other.problems[name].append(text)


# --- samples, and what no SDK would send ---------------------------------------------------------


def samples_of(bench: Bench, home: Path, world: World, commands: Sequence[str]) -> list[str]:
    """Run the samples; give what went wrong."""
    wrong = []
    with bench.proxy(home, "samples") as proxy:
        for number, line in enumerate(commands, 1):
            proxy.case = f"sample {number}"
            settings = {
                "FLK_ENDPOINT": proxy.url,
                "FLK_TENANT": world.tenant.id,
                "PCS_KID": world.key.kid,
                "PCS_HMAC_KEY": world.key.secret.hex(),
                "FLK_TOKEN": world.tenant.token or "",
            }
            done = subprocess.run(
                shlex.split(line), env={**os.environ, **settings}, capture_output=True, text=True,
                timeout=SAMPLE_S, check=False,
            )  # fmt: skip
            if done.returncode != 0:
                wrong.append(f"{line}: exit status {done.returncode}: {done.stderr[-600:]}")
    return wrong


def suite_of(bench: Bench, home: Path, control: Command) -> list[str]:
    """Send the cases of the server suite through a proxy; give those that failed."""
    failed: list[str] = []

    def told(found: Outcome) -> None:
        if found.status == FAIL:
            failed.append(f"{found.case.id}: {found.message}")

    with bench.proxy(home, "suite") as proxy:
        proxy.case = f"{RAW}suite"
        client = Client(target_of(proxy.url), Pace(None))
        features = load_features(home / "server.yaml")
        cases = chosen((), strict=False)
        run(Plan(features, client, cases, "interop", fresh_id(), control), told)
    return failed


def crowded(bench: Bench) -> None:
    """See every operation refused by a server that has as many connections as it takes."""
    home, _ = bench.server("small", "--connections", str(CONNECTIONS))
    direct = target_of(url_of(home))
    held = [Connection(direct) for _ in range(CONNECTIONS)]
    try:
        for wire in held:
            wire.send(request_bytes(direct, "GET", "/healthz"))
            wire.reply("GET")
        with bench.proxy(home, "small") as proxy:
            proxy.case = f"{RAW}crowd"
            target = target_of(proxy.url)
            for path, (method, _) in ROUTES.items():
                with Connection(target) as late:
                    body = b"{}" if method == "POST" else None
                    try:
                        late.send(request_bytes(target, method, path, (), body))
                    except WireError:
                        continue
                    late.rest()
    finally:
        for wire in held:
            wire.close()


# --- the command ---------------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--out", required=True, type=Path, metavar="DIR")
    parser.add_argument("--testee", action="append", default=[], metavar="CMD")
    parser.add_argument("--sample", action="append", default=[], metavar="CMD")
    parser.add_argument("--only", action="append", default=[], metavar="CELL")
    parser.add_argument("--no-suite", action="store_true", help="leave out the server's cases")
    parser.add_argument("--spec", type=Path, metavar="openapi.yaml")


def execute(options: argparse.Namespace) -> int:
    """Run the matrix; 0 if all agree and nothing forbidden was exchanged."""
    spec = options.spec or root_of("spec/openapi.yaml") / "spec" / "openapi.yaml"
    options.out.mkdir(parents=True, exist_ok=True)
    try:
        subjects = [_started(command) for command in options.testee]
    except StartError as error:
        sys.stderr.write(f"flk-conformance: {error}\n")
        return NOT_STARTED
    bench = Bench(options.out, spec)
    began = time.monotonic()
    try:
        wrong = _run(bench, subjects, options)
    finally:
        bench.close()
        for subject in subjects:
            subject.testee.bye()
            subject.testee.kill()
    found = bench.assess(coverage=not options.no_suite)
    wrong += grouped(found.violations)
    for subject in subjects:
        wrong += _written(subject, options.out, time.monotonic() - began)
    for text in wrong:
        sys.stdout.write(f"{text}\n")
    sys.stdout.write(f"{table(found, Contract(spec))}\n{found.summary()}\n")
    sys.stdout.write(
        f"{len(subjects)} SDKs x {len(CELLS)} cells, {len(options.sample)} samples: "
        f"{'as expected' if not wrong else f'{len(wrong)} unexpected'}\n"
    )
    return UNEXPECTED if wrong else OK


def _run(bench: Bench, subjects: Sequence[Subject], options: argparse.Namespace) -> list[str]:
    home, control = bench.server("home")
    direct = Client(target_of(url_of(home)), Pace(None))
    world = World(load_features(home / "server.yaml"), direct, control.do)
    wrong: list[str] = []
    if subjects:
        cells = [one for one in CELLS if not options.only or one.name in options.only]
        cells_of(bench, home, world, subjects, cells)
        compare(subjects)
    if options.sample:
        wrong += samples_of(bench, home, world, options.sample)
    direct.forget()
    if not options.no_suite:
        wrong += suite_of(bench, home, control)
        crowded(bench)
    return wrong


def _started(command: str) -> Subject:
    testee = Testee(shlex.split(command))
    manifest = json.loads((golden_dir() / "MANIFEST.json").read_bytes())
    greeting = testee.start(manifest["version"])
    return Subject(testee, greeting.name, dict(greeting.identity))


def _written(subject: Subject, out: Path, seconds: float) -> list[str]:
    """Write the results of one testee; give what went wrong."""
    header = {
        "kind": "interop", "subject": f"{subject.name} x reference-server",
        "testee": subject.facts,
    }  # fmt: skip
    path = out / subject.name / "results.ndjson"
    writer = Writer(path, header)
    wrong = []
    for name, problems in subject.problems.items():
        members: dict[str, Any] = {
            "id": f"interop/{name}", "status": FAIL if problems else PASS, "suite": "interop",
            "op": "client", "level": "client", "flags": [],
        }  # fmt: skip
        if problems:
            members |= {"unexpected": True, "message": "; ".join(problems)}
            wrong.append(f"{subject.name}: {name}: {'; '.join(problems)}")
        writer.result(members)
    writer.close(UNEXPECTED if wrong else OK, seconds)
    report.write_all(path)
    return wrong


def main() -> int:
    """Read the command line."""
    end_in_order()
    parser = argparse.ArgumentParser("flk_conformance.interop", description=__doc__)
    add_arguments(parser)
    return execute(parser.parse_args())


__all__ = ["_cases", "add_arguments", "execute", "main"]

if __name__ == "__main__":
    sys.exit(main())
