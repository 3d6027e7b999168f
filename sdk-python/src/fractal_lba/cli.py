"""Start `flk`. This module loads nothing, so that a missing extra is one readable sentence."""

from __future__ import annotations

import sys


def main() -> int:
    """Run `flk` on the arguments of the process and return its exit code."""
    try:
        from .cli_root import run  # noqa: PLC0415 - click is an optional extra
    except ModuleNotFoundError as error:
        if error.name not in ("click", "rich"):
            raise
        sys.stderr.write(
            f"flk: {error.name} is not installed; try: pip install 'fractal-lba[cli]'\n"
        )
        return 2
    return run(sys.argv[1:])


if __name__ == "__main__":
    sys.exit(main())
