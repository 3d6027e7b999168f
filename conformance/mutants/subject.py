"""Load the Python testee into this process, so that a mutation can be applied to it."""

from __future__ import annotations

import importlib
import sys
from functools import cache
from pathlib import Path
from types import ModuleType
from typing import Any, Final

Members = dict[str, Any]

CONFORMANCE: Final = Path(__file__).resolve().parents[1]
TESTEE: Final = CONFORMANCE / "testees" / "python"


@cache
def testee() -> ModuleType:
    """Import the testee; it finds the SDK of the checkout."""
    sys.path.insert(0, str(TESTEE))
    main = importlib.import_module("main")
    importlib.import_module("client")  # the testee loads it late; a mutation must find it
    return main


def modules() -> tuple[ModuleType, ...]:
    """Give the modules of the testee, which name functions of the SDK too."""
    testee()
    found = [m for m in list(sys.modules.values()) if _is_of_testee(m)]
    return tuple(found)


def _is_of_testee(module: ModuleType) -> bool:
    path = getattr(module, "__file__", None)
    return path is not None and Path(path).parent == TESTEE


def answer(op: str, args: Members) -> Members:
    """Give what the testee answers, without the `seq`."""
    found: Members = testee().answer({"seq": "", "op": op, "args": args})
    return found
