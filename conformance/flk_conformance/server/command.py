"""Command `server`: judge a server by its URL, with test tenants and their keys.

Nothing of this repository runs inside the server. A run uses the listed tenants alone, with ids
that no other run has, and deletes nothing.
"""

from __future__ import annotations

import argparse
import json
import secrets
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

from .. import report, terminal
from ..judge import FAIL, SKIP
from ..places import golden_dir
from ..results import Writer
from . import cases as _cases
from .control import Command, ControlError
from .features import WITHOUT_CASES, Features, FeaturesError, load_features
from .runner import Outcome, Plan, UnreachableError, chosen, fresh_id, probe, run
from .transpose import DefectError
from .wire import Client, Pace, target_of

OK, UNEXPECTED, USAGE, NOT_STARTED, BROKEN = range(5)
"""Exit codes: as expected, a failure, wrong use, no server, the harness failed."""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--base-url", required=True, metavar="URL")
    parser.add_argument("--features", required=True, type=Path, metavar="server.yaml")
    parser.add_argument("--strict", action="store_true", help="judge what a server SHOULD do too")
    parser.add_argument("--control", metavar="CMD", help="run as CMD start|stop|kill|drain|...")
    parser.add_argument("--rate", type=float, metavar="N", help="at most N requests per second")
    parser.add_argument("--seed", metavar="S", help="the choices of a run; its ids are always new")
    parser.add_argument("--out", type=Path, metavar="DIR", help="write results and reports there")
    parser.add_argument("--only", action="append", default=[], metavar="ID", help="may hold *")
    parser.add_argument("--list", action="store_true", help="print the cases and what they cite")


def execute(options: argparse.Namespace) -> int:
    """Judge a server and give the exit code."""
    selected = chosen(options.only, strict=options.strict)
    if not selected:
        return _say(f"no case is called {', '.join(options.only)}", USAGE)
    if options.list:
        for one in selected:
            sys.stdout.write(f"{one.id:44} {one.cites:20} {one.text}\n")
        return OK
    try:
        features = load_features(options.features)
        target = target_of(options.base_url)
    except (FeaturesError, ValueError) as error:
        return _say(str(error), USAGE)
    seed = options.seed or secrets.token_hex(4)
    rate = options.rate or features.limits.unauthenticated_per_s
    client = Client(target, Pace(rate))
    control = Command(options.control) if options.control else None
    plan = Plan(features, client, selected, seed, fresh_id(), control)
    try:
        if control is not None:
            control.do("start")
        probe(client)
    except (UnreachableError, ControlError) as error:
        return _say(f"no server answers at {options.base_url}: {error}", NOT_STARTED)
    return Exam(plan, options).run()


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"flk-conformance: {text}\n")
    return code


class Exam:
    """One run: what is shown, kept and concluded."""

    def __init__(self, plan: Plan, options: argparse.Namespace) -> None:
        self._plan = plan
        self._options = options
        self._absent: Counter[str] = Counter()
        path = None if options.out is None else options.out / "results.ndjson"
        self._path: Path | None = path
        self._writer = Writer(path, self._header())

    def _header(self) -> dict[str, Any]:
        manifest = json.loads((golden_dir() / "MANIFEST.json").read_bytes())
        return {
            "kind": "server",
            "subject": self._options.base_url,
            "vectors": manifest["version"],
            "suite_hash": manifest["suite_hash"],
            "policies": dict(self._plan.features.policies),
            "command": list(getattr(self._options, "argv", [])),
            "seed": self._plan.seed,
        }

    def run(self) -> int:
        """Run, and give the exit code."""
        began, code, error = time.monotonic(), BROKEN, "the harness failed"
        try:
            run(self._plan, self._told)
            code, error = (UNEXPECTED if self._writer.unexpected else OK), ""
        except (ControlError, DefectError) as failed:
            error = str(failed)
        finally:
            self._finish(code, time.monotonic() - began, error)
        return code

    def _told(self, found: Outcome) -> None:
        one = found.case
        members: dict[str, Any] = {
            "id": one.id,
            "status": found.status,
            "suite": f"{one.id.partition('/')[0]}/{one.cites}",
            "op": "http",
            "level": "should" if one.should else "must",
            "flags": [],
            "seconds": round(found.seconds, 4),
        }
        if found.status == FAIL:
            members |= {
                "unexpected": True,
                "comment": one.text,
                "message": found.message,
                "spec": [] if one.cites == "openapi" else [one.cites],
                "repeat": self._repeat(one.id),
            }
            sys.stdout.write(f"{terminal.failure(members)}\n\n")
        elif found.status == SKIP:
            members["message"] = found.message
            self._absent[found.message] += 1
        self._writer.result(members)

    def _repeat(self, name: str) -> str:
        options = self._options
        strict = " --strict" if options.strict else ""
        control = f" --control '{options.control}'" if options.control else ""
        return (
            f"flk-conformance server --base-url {options.base_url} --features {options.features}"
            f"{strict}{control} --seed {self._plan.seed} --only {name}"
        )

    def _finish(self, code: int, seconds: float, error: str) -> None:
        self._writer.close(code, seconds, error=error or None)
        if self._path is not None:
            report.write_all(self._path)
        for reason, count in sorted(self._absent.items()):
            sys.stdout.write(f"absent: {count} cases: {reason}\n")
        for name in _unknown(self._plan.features):
            sys.stdout.write(f"absent: {name} is claimed, and this version has no case for it\n")
        counts = self._writer.counts
        totals = ", ".join(f"{counts[status]} {status}" for status in sorted(counts))
        verdict = error or ("as expected" if code == OK else f"{counts[FAIL]} unexpected")
        sys.stdout.write(
            f"{self._options.base_url}: {totals} in {seconds:.2f} s, seed {self._plan.seed}: "
            f"{verdict}\n"
        )
        sys.stdout.flush()


def _unknown(features: Features) -> list[str]:
    return sorted(features.claimed & set(WITHOUT_CASES))


__all__ = ["_cases", "add_arguments", "execute"]
