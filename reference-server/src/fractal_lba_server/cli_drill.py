"""`flk-server drill`: break real regions on this machine, and judge what became of the records.

Exit status: 0 every promise holds (with --control: every named promise fails, as it must), 1
otherwise, 2 wrong usage.
"""

from __future__ import annotations

import json
import shlex
import sys
import tempfile
from pathlib import Path
from typing import Any, NoReturn

import click

_FILE = click.Path(path_type=Path, dir_okay=False, exists=True)
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object per run.")


class _Scenarios(click.Group):
    """Takes every name that is no command for a scenario."""

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command; `run` is the one that takes scenarios."""
        if args and args[0] not in self.commands:
            return "run", self.commands["run"], args
        return super().resolve_command(ctx, args)


@click.group(cls=_Scenarios, invoke_without_command=False)
def drill() -> None:
    """Break real regions and judge what became of the records.

    `drill NAME` or `drill FILE` runs a scenario; `drill list` names those of the package.
    """


@drill.command("list")
@_AS_JSON
def list_scenarios(as_json: bool) -> None:
    """Name the scenarios of the package."""
    from .drill.scenario import load_scenario, shipped

    for name in shipped():
        scenario = load_scenario(name)
        if as_json:
            click.echo(json.dumps({"name": name, "title": scenario.document["title"]}))
        else:
            click.echo(f"{name:<20} {scenario.document['title']}")


@drill.command()
@click.argument("trace", type=_FILE)
@_AS_JSON
def check(trace: Path, as_json: bool) -> None:
    """Judge a TRACE that a run has written, without running anything."""
    from .judge.files import TraceError, check_file

    try:
        report = check_file(trace)
    except (TraceError, OSError, KeyError) as error:
        _refuse(f"{trace}: {error}")
    _say(report, as_json=as_json)
    sys.exit(_status(report))


@drill.command(hidden=True)
@click.argument("scenario")
@click.option("--out", type=click.Path(path_type=Path, file_okay=False), help="Keep traces here.")
@_AS_JSON
@click.option("--control", is_flag=True, help="Run the negative control, which must fail.")
@click.option(
    "--runs", type=click.IntRange(1, 1000), default=1, help="Run so often, each seed + 1."
)
@click.option("--short", is_flag=True, help="The short form of the scenario.")
@click.option("--seed", type=click.IntRange(0), default=1, help="Chooses every random moment.")
def run(
    scenario: str, out: Path | None, as_json: bool, control: bool, runs: int, short: bool, seed: int
) -> None:
    """Run a SCENARIO: a name of `drill list`, or a file."""
    from .core.faults import DocumentError
    from .drill.engine import run as play
    from .drill.processes import ProcessError
    from .drill.scenario import ScenarioError, load_scenario
    from .judge.files import check_file

    try:
        loaded = load_scenario(scenario, short=short, control=control)
    except (ScenarioError, DocumentError, OSError) as error:
        click.echo(f"flk-server drill: {error}", err=True)
        sys.exit(2)
    worst = 0
    for turn in range(runs):
        with tempfile.TemporaryDirectory(prefix="flk-drill-") as scratch:
            folder = Path(scratch) if out is None else out / f"{loaded.name}-{seed + turn}"
            command = _command(scenario, seed + turn, control=control, short=short)
            try:
                path = play(loaded, folder, seed=seed + turn, command=command)
            except (ScenarioError, ProcessError, OSError) as error:
                _refuse(str(error))
            report = check_file(path)
        _say(report, as_json=as_json)
        if out is not None and not as_json:
            click.echo(f"trace: {path}")
        worst = max(worst, _status(report))
    sys.exit(worst)


def _command(scenario: str, seed: int, **flags: bool) -> str:
    words = ["flk-server", "drill", scenario, "--seed", str(seed)]
    words += [f"--{name}" for name, given in flags.items() if given]
    return shlex.join(words)


def _status(report: Any) -> int:
    """Give 0 if the run did what it must: hold, or as a control fail by name."""
    from .judge.check import FAILS, HOLDS

    if not report.trace.header["control"]:
        return 0 if report.passed else 1
    if any(report.state_of(name) != HOLDS for name in ("complete", "effects")):
        return 1
    named = report.trace.scenario["control"]["must_fail"]
    return 0 if all(report.state_of(name) == FAILS for name in named) else 1


def _say(report: Any, *, as_json: bool) -> None:
    from .judge.report import document, lines

    if as_json:
        click.echo(json.dumps(document(report)))
        return
    for line in lines(report):
        click.echo(line)
    if report.trace.header["control"]:
        named = ", ".join(report.trace.scenario["control"]["must_fail"])
        failed = (
            "failed, as it must" if _status(report) == 0 else "DID NOT FAIL: the drill is blind"
        )
        click.echo(f"negative control ({named}): {failed}")


def _refuse(message: str) -> NoReturn:
    click.echo(f"flk-server drill: {message}", err=True)
    sys.exit(1)
