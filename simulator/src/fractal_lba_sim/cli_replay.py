"""`flk-sim replay`: the same trace again, told as a timeline."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Final

import click

from fractal_lba_server.drill.scenario import DocumentError, ScenarioError

from .command import refuse
from .explore.schedule import Schedule
from .explore.search import Player
from .explore.search import replay as play_again
from .explore.timeline import keys_in, timeline
from .explore.token import Run, TokenError, is_token, parse_token
from .explore.worlds import WORLDS, world
from .scenarios import find_scenario

HEADER_CHARS_MAX: Final = 1 << 20
"""Longest first line of a trace: it holds the scenario."""


@click.command()
@click.argument("source", metavar="FILE|TOKEN")
@click.option(
    "--seed",
    type=click.IntRange(0),
    default=1,
    show_default=True,
    help="Of a scenario; a token and a trace have their own.",
)
@click.option(
    "--engine",
    "engine_name",
    type=click.Choice(WORLDS),
    default="exact",
    show_default=True,
    help="Of a scenario; a token and a trace have their own.",
)
@click.option("--plant", multiple=True, metavar="NAME", help="Put a wrong protocol in, by name.")
@click.option("--key", multiple=True, help="Show every exchange about this id.")
def replay(
    source: str, *, seed: int, engine_name: str, plant: tuple[str, ...],
    key: tuple[str, ...],
) -> None:  # fmt: skip
    """Play a token, the run of a trace, or a scenario again, and tell it as a timeline.

    The exit status is 1 if the trace is another one than that of the token.
    """
    try:
        run = read_run(source, seed=seed, engine_name=engine_name, plants=plant)
        player = Player(engine=world(run.engine), name=run.engine, plants=run.plants)
        played, said = play_again(player, run)
    except (TokenError, ScenarioError, DocumentError) as error:
        refuse(str(error))
    keys = key or keys_in(" ".join(played.failed.values()), played.events)
    for line in timeline(played.events, keys=keys):
        click.echo(line)
    click.echo("")
    for name, words in played.failed.items():
        click.echo(f"{name} fails: {words}")
    if not played.failed:
        click.echo(f"nothing fails; {played.held} verdicts hold")
    click.echo(said)
    if run.trace and not played.digest.startswith(run.trace):
        raise SystemExit(1)


def read_run(source: str, *, seed: int, engine_name: str, plants: tuple[str, ...]) -> Run:
    """Read what is to be played. Raises TokenError, ScenarioError or DocumentError."""
    if is_token(source):
        return parse_token(source)
    path = Path(source)
    if path.is_file() and path.suffix not in (".yaml", ".yml"):
        with path.open(encoding="utf-8") as file:
            first = file.readline(HEADER_CHARS_MAX)
        if is_token(first):
            return parse_token(first)
        return _of_trace(path, first, plants)
    scenario = find_scenario(source)
    return Run(
        scenario=Schedule.of(scenario.document).document, seed=seed, engine=engine_name,
        plants=plants or scenario.plants,
    )  # fmt: skip


def _of_trace(path: Path, first: str, plants: tuple[str, ...]) -> Run:
    try:
        header = json.loads(first)
        return Run(
            scenario=header["scenario"],
            seed=header["seed"],
            engine=header["engine"],
            plants=plants,
        )
    except (ValueError, KeyError, TypeError):
        raise TokenError(f"{path}: neither a token nor a trace") from None
