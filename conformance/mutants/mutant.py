#!/usr/bin/env python3
"""Be a wrong testee: `mutant.py --as R01` speaks the testee protocol with one rule wrong."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

CONFORMANCE = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(CONFORMANCE))

from mutants import subject  # noqa: E402 - found by the line above

Members = dict[str, Any]

PROGRAMS = {"I01": "naive_go", "I02": "naive_python", "I03": "naive_ts"}
"""Whole naive implementations: programs of their own."""


def main(argv: list[str]) -> int:
    parser = argparse.ArgumentParser("mutant.py", description=__doc__)
    parser.add_argument("--as", dest="id", required=True, help="the id of a mutant, such as R01")
    id = parser.parse_args(argv).id
    if id in PROGRAMS:
        program = CONFORMANCE / "mutants" / PROGRAMS[id] / "run"
        os.execv(program, [str(program)])
    testee = subject.testee()
    from mutants import patching  # noqa: PLC0415 - only now is the SDK found

    if id not in patching.load():
        parser.error(f"no mutant is called {id}")
    patching.apply(id, subject.modules())
    vars(testee)["greeting"] = named(id, testee.greeting())
    return int(testee.main())


def named(id: str, greeting: Members) -> Callable[[], Members]:
    """Let a testee greet under the name of its mutant."""
    identity = {**greeting["testee"], "name": f"mutant-{id.lower()}"}
    return lambda: {**greeting, "testee": identity}


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
