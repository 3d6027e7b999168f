"""Find the checkout: what an installed package does not hold is read from where the command runs.

The invariant of this file: a checkout is known by its vectors, and what is not there is named.
"""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Final

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
