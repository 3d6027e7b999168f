"""`flk-sim new`: write a commented scenario to start from."""

from __future__ import annotations

from pathlib import Path

import click

from .command import refuse
from .new import NAME, REGIONS_MAX, TOPOLOGIES, starting_file

_PATH = click.Path(path_type=Path, dir_okay=False)


@click.command()
@click.argument("file", type=_PATH, required=False)
@click.option("--topology", type=click.Choice(TOPOLOGIES), default=TOPOLOGIES[0], show_default=True)
@click.option("--regions", type=click.IntRange(2, REGIONS_MAX), default=2, show_default=True)
def new(file: Path | None, topology: str, regions: int) -> None:
    """Write a commented scenario to FILE, or to the terminal.

    It runs as it is. A file that is there already is left alone.
    """
    name = NAME if file is None else file.stem
    text = starting_file(topology=topology, regions=regions, name=name)
    if file is None:
        click.echo(text, nl=False)
        return
    try:
        with file.open("x", encoding="utf-8") as opened:
            opened.write(text)
    except FileExistsError:
        refuse(f"{file} is there already; choose another name")
    except OSError as error:
        refuse(f"{file}: {error.strerror}")
    click.echo(f"{file} is written; play it with: flk-sim run {file}")
