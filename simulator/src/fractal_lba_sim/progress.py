"""Show how far long work is: a bar in a terminal, now and then a line elsewhere, on stderr.

The invariant of this file: what it shows is never part of a result.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import click

from .runner import Tell

LINE_EVERY_S: Final = 10.0
"""How often a log that is no terminal hears of the work."""


@contextmanager
def shown(title: str, *, quiet: bool = False) -> Iterator[Tell]:
    """Give the function to which the runner tells how far it is."""
    if quiet:
        yield lambda done, of, what: None
    elif sys.stderr.isatty():
        yield from _bar(title)
    else:
        yield from _lines(title)


def _bar(title: str) -> Iterator[Tell]:
    from rich.console import Console  # noqa: PLC0415 - slow to import, and a log needs none of it
    from rich.progress import (  # noqa: PLC0415 - as above
        BarColumn,
        MofNCompleteColumn,
        Progress,
        TextColumn,
        TimeRemainingColumn,
    )

    columns = (
        TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TextColumn("runs"),
        TimeRemainingColumn(),
    )  # fmt: skip
    with Progress(*columns, console=Console(stderr=True), transient=True) as progress:
        task = progress.add_task(title, total=None)
        yield lambda done, of, what: progress.update(
            task, completed=done, total=of, description=_named(title, what)
        )


def _lines(title: str) -> Iterator[Tell]:
    said_s = time.monotonic()

    def tell(done: int, of: int, what: str) -> None:
        nonlocal said_s
        if time.monotonic() - said_s >= LINE_EVERY_S:
            said_s = time.monotonic()
            click.echo(f"{_named(title, what)}: {done} of {of} runs", err=True)

    yield tell


def _named(title: str, what: str) -> str:
    return f"{title}, {what}" if what else title
