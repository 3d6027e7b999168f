"""Find the checkout: what an installed package does not hold is read from where the command runs.

The invariant of this file: a checkout is known by its vectors, and a vector or a page that is not
there is an error by name, never a case that passed.
"""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any, Final

from .verdicts import DisagreementError

MARK: Final = Path("golden", "MANIFEST.json")


@cache
def checkout() -> Path:
    """Give the root of the source tree, or of the nearest checkout above the working directory.

    Without one it is the working directory; whoever reads a file there says what is missing.
    """
    here = Path.cwd()
    for root in (*Path(__file__).resolve().parents, here, *here.parents):
        if (root / MARK).is_file():
            return root
    return here


def text_of(path: str) -> str:
    """Read a file of the checkout; raises DisagreementError where there is none."""
    try:
        return (checkout() / path).read_text(encoding="utf-8")
    except FileNotFoundError:
        message = f"{path} is not here: run in a checkout"
        raise DisagreementError(message) from None


@cache
def vectors(suite: str, name: str) -> list[dict[str, Any]]:
    """Read the cases of a file of golden vectors; raises DisagreementError where there is none."""
    cases: list[dict[str, Any]] = json.loads(text_of(f"golden/vectors/{suite}/{name}.json"))[
        "cases"
    ]
    return cases
