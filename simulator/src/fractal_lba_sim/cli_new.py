"""`flk-sim new`: write a commented scenario to start from."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from .new import NAME, REGIONS_MAX, TOPOLOGIES, starting_file

_PATH = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=_PATH, required=False)
@click.option("--topology", type=click.Choice(TOPOLOGIES), default=TOPOLOGIES[0], show_default=True)
@click.option("--regions", type=click.IntRange(2, REGIONS_MAX), default=2, show_default=True)
@click.option("--out", type=_PATH, help="The same as FILE.")
def new(file: Path | None, topology: str, regions: int, out: Path | None) -> None:
    """Write a commented scenario to FILE, or to the terminal.

    It runs as it is. A file that is there already is left alone.
    """
    if file is not None and out is not None:
        raise click.UsageError("FILE is given twice")
    path = file or out
    name = NAME if path is None else path.stem
    text = starting_file(topology=topology, regions=regions, name=name)
    if path is None:
        click.echo(text, nl=False)
        return
    try:
        with path.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        _refuse(f"{path} is there already; choose another name")
    except OSError as error:
        _refuse(f"{path}: {error.strerror}")
    click.echo(f"{path} is written; play it with: flk-sim run {path}")


def _refuse(message: str) -> None:
    click.echo(f"flk-sim new: {message}", err=True)
    sys.exit(2)
