"""Judge the reference server of this checkout, through crashes and a lost store too.

    python -m flk_conformance.judge_reference [OPTIONS of `flk-conformance server`]

Writes a folder for it, starts it, and runs `flk-conformance server --strict --control ...`.
"""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from . import cli
from .checkout import end_in_order, url_of, written


def main(words: Sequence[str] | None = None) -> int:
    """Judge it, and give the exit code of the command."""
    more = list(sys.argv[1:] if words is None else words)
    with tempfile.TemporaryDirectory(prefix="flk-judged-") as folder:
        home = Path(folder)
        control = written(home)
        options = ["--base-url", url_of(home), "--features", str(home / "server.yaml")]
        try:
            return cli.main(["server", *options, "--strict", "--control", control.line, *more])
        finally:
            control.do("kill")


if __name__ == "__main__":
    end_in_order()
    sys.exit(main())
