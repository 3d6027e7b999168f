"""The command `flk pcs build`."""

from __future__ import annotations

from typing import IO

import click

from .canonical import jcs
from .cli_output import LongWork, Output, json_option
from .csv_table import CsvTable
from .errors import ConfigError
from .signals import DEFAULT_SCALES, summarize

PASSES = {"read": "reading", "count": "counting boxes", "project": "projecting"}


@click.group()
def pcs() -> None:
    """Summarise data as a record."""


@pcs.command()
@click.argument("path", metavar="FILE.csv")
@click.option("--columns", help="Columns to take, a,b,c.  [default: all that hold numbers only]")
@click.option("--shard-id", required=True, help="Which part of your data this is.")
@click.option("--epoch", required=True, type=int, help="Which window of time this is, a number.")
@click.option(
    "--scales",
    default=",".join(map(str, DEFAULT_SCALES)),
    show_default=True,
    help="Boxes per unit at which boxes are counted.",
)
@click.option("--seed", type=int, default=0, show_default=True, help="Seed of the directions.")
@click.option("--skip-bad-rows", is_flag=True, help="Leave out and count rows that are no numbers.")
@click.option("--out", metavar="FILE", type=click.File("wb"), help="Write here, not to stdout.")
@json_option
def build(
    *,
    path: str,
    columns: str | None,
    shard_id: str,
    epoch: int,
    scales: str,
    seed: int,
    skip_bad_rows: bool,
    out: IO[bytes] | None,
    as_json: bool,
) -> None:
    """Summarise the numbers of a CSV file as an unsigned record, one line of JSON.

    The first line names the columns. Sign and send the very record that was printed: a summary
    that is computed again elsewhere may differ in the last digit and is refused as a conflict.
    With --json the record is the member "record", beside "columns", "points" and "rows_skipped".
    """
    table = CsvTable(
        path,
        columns=None if columns is None else [name.strip() for name in columns.split(",")],
        skip_bad_rows=skip_bad_rows,
    )
    output = Output(as_json=as_json)
    points = 0
    with LongWork(output) as work:

        def on_progress(name: str, done: int) -> None:
            nonlocal points
            points = max(points, done)
            work.update(PASSES[name], done, None if name == "read" else points)

        record = summarize(
            table,
            shard_id=shard_id,
            epoch=epoch,
            scales=_scales(scales),
            seed=seed,
            on_progress=on_progress,
        )
    columns_used = list(table.columns or ())
    output.note(f"{path}: {points} points of {len(columns_used)}: {', '.join(columns_used)}")
    if table.rows_skipped:
        output.note(f"{path}: {table.rows_skipped} rows left out, no finite numbers")
    line = record.to_dict()
    if as_json:
        facts = {"columns": columns_used, "points": points, "rows_skipped": table.rows_skipped}
        output.result({**facts, "record": line}, "")
    if out is not None or not as_json:
        click.echo(jcs(line), file=out)


def _scales(text: str) -> list[int]:
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        raise ConfigError(
            "config_invalid", f"--scales: expected numbers like 2,4,8, got {text!r}"
        ) from None
