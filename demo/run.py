"""The main job on real data, from a key to a page: `python demo/run.py --out demo/out`.

It needs both packages and `vega_datasets`; `nox -s demo` installs them. The directory of `--out`
gets `index.html`, `results.json`, and in `home/` the keys, logs and data of the run. Exit status
1 if a promise did not hold; the step is named.
"""

from __future__ import annotations

import argparse
import json
import platform
import shutil
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any, Final

ROOT: Final = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from demo import failover  # noqa: E402 - found by the line above
from demo.account import Account, ExpectationError  # noqa: E402 - the same
from demo.browser import check_page  # noqa: E402 - the same
from demo.page import render  # noqa: E402 - the same
from demo.region import CommandError, Region  # noqa: E402 - the same
from demo.story import Run, tell  # noqa: E402 - the same
from fractal_lba import FractalLBAError  # noqa: E402 - the same
from fractal_lba_server.drill.scenario import ScenarioError  # noqa: E402 - the same

WINDOWS: Final = 1_432
"""All windows of thirty days that the data has."""

KILLS: Final = 3
SIMULATIONS: Final = 200
"""Failovers in the faster of both simulations; the other plays a tenth of them."""

PACKAGES: Final = (
    "fractal-lba", "fractal-lba-server", "fractal-lba-sim", "numpy", "vega_datasets",
)  # fmt: skip


def main(arguments: list[str] | None = None) -> int:
    """Run the demo and give the exit status."""
    options = _parser().parse_args(arguments)
    started = time.monotonic()
    out: Path = options.out
    shutil.rmtree(out / "home", ignore_errors=True)
    out.mkdir(parents=True, exist_ok=True)
    account = Account()
    home = Region((out / "home").absolute())
    run = Run(account, home, options.windows, options.kills, options.seed, {})
    print("fractal-lba: signed summaries, each recorded once, none lost")
    try:
        tell(run)
        if options.simulations:
            runs = {"plan": options.simulations, "exact": -(-options.simulations // 10), "live": 1}
            failover.show(account, runs=runs, seed=options.seed)
    except ExpectationError as error:
        return _refuse(str(error))
    except (CommandError, FractalLBAError, ScenarioError, OSError) as error:
        return _refuse(f"{account.steps[-1].title}: {error}")
    account.figures["seconds"] = round(time.monotonic() - started, 1)
    account.figures["promises_kept"] = account.promises_kept
    account.figures["versions"] = _versions()
    account.figures["command"] = _command(options)
    page = out / "index.html"
    page.write_text(render(account), encoding="utf-8")
    (out / "results.json").write_text(json.dumps(account.figures, indent=1) + "\n")
    print(f"\nAll {account.promises_kept} promises held.")
    if options.browser_check:
        said = check_page(page)
        print(
            f"In a browser: {said or 'the page is drawn, reports no error and asks for nothing'}."
        )
        if said is not None:
            return _refuse("the page is not fit for a browser")
    print(f"Page: {_shown(page)}\nFigures: {_shown(out / 'results.json')}")
    print(f"Total: {time.monotonic() - started:.1f} s")
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(description="The main job of fractal-lba on real data.")
    add = parser.add_argument
    add("--out", type=Path, default=ROOT / "demo" / "out", help="where page and results go")
    add("--windows", type=int, default=WINDOWS, help="records of the load")
    add("--kills", type=int, default=KILLS, help="how often the server is killed")
    add("--seed", type=int, default=20120101, help="chooses the moments of the kills")
    add("--simulations", type=int, default=SIMULATIONS, help="simulated failovers; 0 for none")
    add("--browser-check", action="store_true", help="draw the page with headless Chromium")
    return parser


def _refuse(message: str) -> int:
    print(f"\ndemo failed: {message}", file=sys.stderr)
    return 1


def _command(options: argparse.Namespace) -> str:
    changed = [
        f" --{name} {value}"
        for name, value, usual in (
            ("windows", options.windows, WINDOWS),
            ("kills", options.kills, KILLS),
            ("simulations", options.simulations, SIMULATIONS),
        )
        if value != usual
    ]
    return f"python demo/run.py{''.join(changed)} --seed {options.seed}"


def _versions() -> dict[str, str]:
    found: dict[str, Any] = {}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "source tree"
    system = f"{platform.system()} {platform.machine()}"
    return {"Python": platform.python_version(), **found, "system": system}


def _shown(path: Path) -> str:
    """Shorten a path for a person who stands in the working directory."""
    absolute, here = path.resolve(), Path.cwd()
    return str(absolute.relative_to(here) if absolute.is_relative_to(here) else absolute)


if __name__ == "__main__":
    sys.exit(main())
