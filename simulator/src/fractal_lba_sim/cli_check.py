"""`flk-sim check`: every claim of the register and its verdict."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from .claims.checking import Row, Run, run_checks
from .claims.checkout import checkout
from .claims.page import as_json, page, paragraph, total
from .claims.register import Claim, Topic, claims_of, load_topics
from .command import FAIL, HOLD, refuse, said_plainly

_CHOICE: Final = re.compile(r"C?0*(\d{1,3})(?:-C?0*(\d{1,3}))?", re.IGNORECASE)


@click.command("check")
@click.argument("claims", nargs=-1)
@click.option(
    "--quick", is_flag=True, help="Fewer trials, and too few runs of drills to say that one holds."
)
@click.option("--live", is_flag=True, help="Also run the commands that start real processes.")
@click.option(
    "--out",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE",
    help="Write the page here, as docs/claims.md.",
)
@click.option("--json", "wants_json", is_flag=True, help="Print one JSON object.")
def check(
    claims: tuple[str, ...], *, quick: bool, live: bool, out: Path | None, wants_json: bool
) -> None:
    """Check every claim of the register, or CLAIMS, and say what became of it.

    CLAIMS are ids, ranges or topics: C034, C001-C023, shards. Exit status 1 if a verdict is
    another one than the register expects; what is not run here is neither.
    """
    with said_plainly():
        topics = load_topics()
        run, rows = Run(quick=quick, live=live, root=checkout()), []
        for row in run_checks(_chosen(claims, topics), run):
            rows.append(row)
            if not wants_json:
                click.echo("\n".join(paragraph(row)))
        if out is not None:
            out.write_text(page(topics, rows, run), encoding="utf-8")
    click.echo(
        json.dumps(as_json(rows), indent=2, ensure_ascii=False) if wants_json else total(rows)
    )
    sys.exit(_status(rows))


def _status(rows: Sequence[Row]) -> int:
    return FAIL if any(row.is_failure for row in rows) else HOLD


def _chosen(words: Sequence[str], topics: Sequence[Topic]) -> list[Claim]:
    """Give the claims that are asked for, in order, each once."""
    every = claims_of(list(topics))
    if not words:
        return list(every.values())
    found: set[str] = set()
    for word in words:
        named = [claim.id for topic in topics if topic.name == word for claim in topic.claims]
        found |= set(named) or _numbered(word, every, topics)
    return [claim for id, claim in every.items() if id in found]


def _numbered(word: str, every: dict[str, Claim], topics: Sequence[Topic]) -> set[str]:
    match = _CHOICE.fullmatch(word)
    if match is not None:
        first, last = int(match[1]), int(match[2] or match[1])
        found = {f"C{number:03d}" for number in range(first, last + 1)} & every.keys()
        if found:
            return found
    known = ", ".join(topic.name for topic in topics)
    return refuse(f"no claim or topic is called {word!r}; there are C001 to C158, and {known}")
