"""`flk-server reconcile`: what regions hold, whether it is the same, and what was overridden."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn

import click

if TYPE_CHECKING:
    from .core.first_write import Key, Stored
    from .store.sqlite import Index

_DIRECTORY = click.Path(path_type=Path, exists=True, file_okay=False)
_AS_JSON = click.option("--json", "as_json", is_flag=True, help="One JSON object per line.")
DIFFERENCES_MAX = 1_000
"""Differing ids that are named; the rest is counted."""


@click.group()
def reconcile() -> None:
    """Compare what regions hold, and show what was overridden.

    Healing itself needs no command: regions that reach each other merge all frames, and
    `flk-server replay --rebuild` makes the same state from the logs alone.
    """


@reconcile.command()
@click.argument("data", nargs=-1, required=True, type=_DIRECTORY)
@_AS_JSON
def digest(data: tuple[Path, ...], as_json: bool) -> None:
    """Print the digest of the state in each data directory; exit 1 if two differ.

    The digest covers every outcome that stands, whatever the order in which frames came. It is of
    what the index has applied: of a directory that a server holds, it is a moment's.
    """
    found = []
    for path in data:
        index = _index(path)
        from .core.state_digest import total_of

        total = total_of(index.snapshot())
        found.append(total)
        row = {
            "data": str(path),
            "records": total.records,
            "overridden": index.count_overridden(),
            "state_digest": total.digest,
        }
        index.close()
        if as_json:
            click.echo(json.dumps(row))
        else:
            text = "{records} records, {overridden} overridden, state {state_digest}"
            click.echo(f"{path}: {text.format(**row)}")
    if len(set(found)) > 1:
        click.echo("the states differ; `flk-server reconcile compare` names the ids", err=True)
        sys.exit(1)


@reconcile.command()
@click.argument("one", type=_DIRECTORY)
@click.argument("other", type=_DIRECTORY)
@_AS_JSON
def compare(one: Path, other: Path, as_json: bool) -> None:
    """Name every id that two data directories hold differently; exit 1 if there is one."""
    from .core.reconcile import Difference, severity

    left, right = _index(one), _index(other)
    records = missing = conflicting = named = 0
    for key, mine, theirs in _side_by_side(left.snapshot(), right.snapshot()):
        records += 1
        if mine == theirs:
            continue
        missing += mine is None or theirs is None
        conflicting += mine is not None and theirs is not None
        if named < DIFFERENCES_MAX:
            named += 1
            _show(key, mine, theirs, as_json=as_json)
    left.close()
    right.close()
    grave = severity(Difference(records, missing, conflicting))
    result = {
        "records": records, "missing": missing, "conflicting": conflicting, "severity": grave,
    }  # fmt: skip
    if as_json:
        click.echo(json.dumps(result))
    else:
        text = f"{records} ids: {missing} on one side only, {conflicting} held differently"
        click.echo(f"{text}; " + ("the same" if grave is None else f"severity {grave}"))
    if grave is not None:
        sys.exit(1)


@reconcile.command()
@click.argument("data", type=_DIRECTORY)
@_AS_JSON
def conflicts(data: Path, as_json: bool) -> None:
    """Print every acknowledged outcome that does not stand, with the one that does.

    `duplicate`: both clients sent the same content, and hold a true success. `displaced`: the
    content differed; the client of this one was told of a success that was overridden.
    """
    from .core.reconcile import Overridden, counts

    index = _index(data)
    found = []
    for key, stored in index.all_overridden():
        winner = index.lookup(key)
        if winner is None:
            _refuse(f"{data}: {key[1]} was overridden by an outcome that is missing")
        found.append(Overridden(key, stored, winner))
    index.close()
    for one in found:
        row = one.describe()
        if as_json:
            click.echo(json.dumps(row))
        else:
            text = "{kind}: {pcs_id} of {tenant}: {acknowledged} overridden by {winner}"
            click.echo(text.format(**row))
    if not as_json:
        total = counts(found)
        click.echo(f"{total['duplicate']} duplicate, {total['displaced']} displaced")


def _index(path: Path) -> Index:
    from .store.data_dir import DataDirError
    from .store.sqlite import LAYOUT, Index, faults_named, layout_of

    file = path / "index.sqlite"
    if not file.is_file():
        _refuse(f"{path}: not a data directory of flk-server")
    try:
        with faults_named(file):
            layout = layout_of(file)
        if layout != LAYOUT:  # to open it would be to remove it
            _refuse(f"{file}: of another layout; `flk-server replay` makes it anew from the logs")
        return Index(file)
    except DataDirError as error:
        _refuse(str(error))


def _side_by_side(
    left: Iterator[tuple[Key, Stored]], right: Iterator[tuple[Key, Stored]]
) -> Iterator[tuple[Key, Stored | None, Stored | None]]:
    """Join two states by their ids.

    Tenants may be numbered differently, so each side is taken as a whole.
    """
    mine, theirs = dict(left), dict(right)
    for key in sorted(mine.keys() | theirs.keys()):
        yield key, mine.get(key), theirs.get(key)


def _show(key: Key, mine: Stored | None, theirs: Stored | None, *, as_json: bool) -> None:
    from .core.first_write import position

    row: dict[str, Any] = {
        "tenant": key[0],
        "pcs_id": key[1],
        "one": None if mine is None else position(mine),
        "other": None if theirs is None else position(theirs),
    }
    if as_json:
        click.echo(json.dumps(row))
    else:
        click.echo(f"{key[1]} of {key[0]}: {row['one'] or 'absent'} / {row['other'] or 'absent'}")


def _refuse(message: str) -> NoReturn:
    click.echo(f"flk-server: {message}", err=True)
    sys.exit(1)
