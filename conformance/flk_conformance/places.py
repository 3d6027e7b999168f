"""Find the published contract: vectors, sentences and codes, in a repository or in the package."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

PACKAGE = Path(__file__).resolve().parent
CANDIDATES = (PACKAGE.parents[1], PACKAGE / "data")
"""A checkout holds `golden/` and `spec/` beside `conformance/`; a wheel holds both in `data/`."""


class MissingError(Exception):
    """Say that the contract cannot be found."""


def root_of(part: str) -> Path:
    """Find the folder that holds `golden/` or `spec/`."""
    for candidate in CANDIDATES:
        if (candidate / part).exists():
            return candidate
    raise MissingError(f"{part} is neither in the repository nor in the package")


def golden_dir(given: str | None = None) -> Path:
    """Find the folder with `MANIFEST.json` and `vectors/`; `given` may name either of them."""
    if given is None:
        return root_of("golden/MANIFEST.json") / "golden"
    path = Path(given)
    for candidate in (path, path.parent):
        if (candidate / "MANIFEST.json").is_file() and (candidate / "vectors").is_dir():
            return candidate
    raise MissingError(f"{given}: expected a folder with MANIFEST.json and vectors/")


@cache
def error_codes() -> frozenset[str]:
    """Give every code of `spec/errors.json`."""
    path = root_of("spec/errors.json") / "spec" / "errors.json"
    return frozenset(row["code"] for row in json.loads(path.read_bytes())["codes"])
