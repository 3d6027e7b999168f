"""Run a wrong server: `wrong_server.py --as X01 --home DIR [--port N]`.

The folder is one of `control/home.py`; where it does not exist it is written, for the port.
`--as clean` changes nothing.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

CONTROL = Path(__file__).resolve().parents[2] / "control"
sys.path[:0] = [str(CONTROL), str(Path(__file__).resolve().parent)]

from home import write_home  # noqa: E402 - found by the line above
from served import serve  # noqa: E402 - found by the line above
from wrong_rules import RULES  # noqa: E402 - found by the line above


def main() -> None:
    """Read the options and serve."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--as", dest="mutant", required=True, choices=["clean", *RULES])
    parser.add_argument("--home", required=True, type=Path)
    parser.add_argument("--port", type=int, default=0)
    options = parser.parse_args()
    home: Path = options.home.resolve()
    if not (home / "flk.yaml").exists():
        write_home(home, options.port)
    if options.mutant != "clean":
        RULES[options.mutant]()
    serve(home)


if __name__ == "__main__":
    main()
