"""Find the golden vectors of a checkout.

The invariant of this file: a vector that is not there is an error by name, never a case that
passed.
"""

from __future__ import annotations

import json
from functools import cache
from typing import Any

from .checkout import checkout
from .verdicts import DisagreementError


@cache
def vectors(suite: str, name: str) -> list[dict[str, Any]]:
    """Read the cases of a vector file; raises DisagreementError where there is none."""
    path = checkout() / "golden" / "vectors" / suite / f"{name}.json"
    if not path.is_file():
        message = f"golden/vectors/{suite}/{name}.json is not here: run in a checkout"
        raise DisagreementError(message)
    cases: list[dict[str, Any]] = json.loads(path.read_text())["cases"]
    return cases
