"""Show that every wrong server is caught by the cases that are named for it.

Each server of `mutants/servers.toml` is started in a folder of its own; the cases named under
`killed_by` must fail on it, every one. On the clean server the same cases, or with `--whole` all
of them, must pass: a case that fails there proves nothing.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import tomllib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from .checkout import end_in_order, part, url_of, written
from .judge import FAIL
from .server import cases as _cases
from .server.features import load_features
from .server.runner import Outcome, Plan, chosen, fresh_id, run
from .server.trial import CASES
from .server.wire import Client, Pace, target_of

CLEAN = "clean"
KILLERS_MIN = 2
"""A wrong server that one case alone notices is noticed by chance."""


@dataclass(frozen=True, slots=True)
class WrongServer:
    """One line of the list."""

    id: str
    text: str
    killed_by: tuple[str, ...]


def load_list(path: Path | None = None) -> tuple[WrongServer, ...]:
    """Read the list; raises ValueError for a line that proves nothing."""
    path = path or part("mutants/servers.toml")
    rows = tomllib.loads(path.read_text(encoding="utf-8"))["server"]
    found = tuple(WrongServer(row["id"], row["text"], tuple(row["killed_by"])) for row in rows)
    for one in found:
        unknown = [name for name in one.killed_by if name not in CASES]
        if unknown or len(one.killed_by) < KILLERS_MIN:
            raise ValueError(f"{one.id}: unknown or too few cases: {unknown or one.killed_by}")
    return found


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--only", action="append", default=[], metavar="X01")
    parser.add_argument(
        "--whole", action="store_true", help="put every case to every server, and count"
    )


def execute(options: argparse.Namespace) -> int:
    """Run the list; 0 if every wrong server is caught and the clean one is not."""
    listed = load_list()
    wanted = [one for one in listed if not options.only or one.id in options.only]
    names = sorted({name for one in wanted for name in one.killed_by})
    clean = WrongServer(CLEAN, "nothing is wrong", ())
    wrong = 0
    failed = _failing(clean, _selected(names, whole=options.whole))
    if failed:
        wrong += 1
        _say(f"clean: {len(failed)} cases fail on the clean server: {', '.join(sorted(failed))}")
    for one in wanted:
        failed = _failing(one, _selected(one.killed_by, whole=options.whole))
        survived = [name for name in one.killed_by if name not in failed]
        verdict = f"SURVIVES {', '.join(survived)}" if survived else "caught"
        _say(f"{one.id}: {verdict} by {len(failed)} cases ({one.text})")
        wrong += bool(survived)
    _say(f"{len(wanted)} wrong servers, {wrong} of them or the clean one not as expected")
    return 1 if wrong else 0


def _say(text: str) -> None:
    sys.stdout.write(text + "\n")
    sys.stdout.flush()


def _selected(names: Iterable[str], *, whole: bool) -> Sequence[str]:
    return () if whole else tuple(names)


def _failing(one: WrongServer, names: Sequence[str]) -> set[str]:
    """Start a server, put cases to it, and give the ids of those that fail."""
    failed: set[str] = set()

    def told(found: Outcome) -> None:
        if found.status == FAIL:
            failed.add(found.case.id)

    with tempfile.TemporaryDirectory(prefix="flk-wrong-") as folder:
        home = Path(folder)
        control = written(home, mutant=None if one.id == CLEAN else one.id)
        client = Client(target_of(url_of(home)), Pace(None))
        features = load_features(home / "server.yaml")
        cases = chosen(names, strict=False)
        try:
            control.do("start")
            run(Plan(features, client, cases, one.id, fresh_id(), control), told)
        finally:
            control.do("kill")
    return failed


def main() -> int:
    """Read the command line."""
    end_in_order()
    parser = argparse.ArgumentParser("flk_conformance.mutate_servers", description=__doc__)
    add_arguments(parser)
    return execute(parser.parse_args())


__all__ = ["_cases", "add_arguments", "execute", "load_list", "main"]

if __name__ == "__main__":
    sys.exit(main())
