"""Name what outcomes depend on besides scenario and seed: versions, and the code itself.

The invariant of this file: two processes that name the same versions play the same runs. A source
tree is edited without a new version, so the code is named by its content as well.
"""

from __future__ import annotations

import sys
from functools import cache
from hashlib import sha256
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path
from typing import Final

from fractal_lba_server import __version__ as server

from . import __version__ as simulator

CODE: Final = ("fractal_lba_sim", "fractal_lba_server", "fractal_lba")
"""Packages on which an outcome depends."""


DEPENDENCIES: Final = ("matplotlib", "numpy", "simpy")
"""What else decides the bytes of a run and its report."""


def package_versions() -> dict[str, str]:
    """Give the versions on which outcomes depend."""
    return {"fractal-lba-server": server, "fractal-lba-sim": simulator}


def all_versions() -> dict[str, str]:
    """Give the versions and the digest of the code, as a worker is asked for them."""
    return {**package_versions(), "code": code_digest()}


def versions_of_results() -> dict[str, str]:
    """Give everything that decides the bytes of results and their report."""
    found = {**all_versions(), "python": f"{sys.version_info.major}.{sys.version_info.minor}"}
    for package in DEPENDENCIES:
        try:
            found[package] = version(package)
        except PackageNotFoundError:
            found[package] = "unknown"
    return found


@cache
def code_digest() -> str:
    """Name the code of the packages: an edited source tree makes other outcomes."""
    found = sha256()
    for name in CODE:
        spec = find_spec(name)
        assert spec is not None
        assert spec.origin is not None
        folder = Path(spec.origin).parent
        for path in sorted(folder.rglob("*.py")):
            found.update(f"{name}/{path.relative_to(folder)}\n".encode())
            found.update(sha256(path.read_bytes()).digest())
    return found.hexdigest()[:16]
