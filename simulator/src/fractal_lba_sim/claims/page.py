"""Write what became of every claim: the page `docs/claims.md`, JSON, the lines of a terminal.

The invariant of this file: counts come first and add up to the rows, and the same rows give the
same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .register import Topic
from .registry import Row
from .verdicts import CHECKS, NOT_RUN, VERDICTS

PAGE_COMMAND: Final = "flk-sim check --quick --out docs/claims.md"
"""Writes the committed page; a test compares it with a fresh one."""

_MEANING: Final = {
    "holds": "computed or simulated here, with a bound",
    "conditional": "true under a condition that is computed",
    "refuted": "false as written; the smallest change that makes it true is given",
    "not enough evidence": "what there is does not decide it",
    "not run here": "needs real processes: the command is given; never counted as held",
    "not built": "its mechanism is not in this repository, by name",
    "not checkable here": "cannot be known inside this project, and why",
}

_INTRO: Final = """\
# Claims

Every promise of the five sources, C001 to C158, and what became of it. Written by `{command}`; a \
test holds this page against a fresh run. Simulated figures show that rules and constants meet a \
bound under declared distributions, with the rules of the server's own core; they say nothing \
about hardware. Without `--quick` the same checks take more trials. `--live` runs the commands of \
the claims that need real processes.
"""


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Count rows by verdict, in the order of verdicts."""
    return {verdict: sum(row.finding.verdict == verdict for row in rows) for verdict in VERDICTS}


def page(topics: Sequence[Topic], rows: Sequence[Row]) -> str:
    """Write the page."""
    by_id = {row.claim.id: row for row in rows}
    parts = [_INTRO.format(command=PAGE_COMMAND), *_summary(rows), *_headlines(rows)]
    for topic in topics:
        parts += _topic(topic, [by_id[claim.id] for claim in topic.claims if claim.id in by_id])
    return "\n".join(parts).rstrip("\n") + "\n"


def _summary(rows: Sequence[Row]) -> Iterator[str]:
    yield "| verdict | claims | meaning |"
    yield "| --- | ---: | --- |"
    for verdict, count in counts(rows).items():
        yield f"| {verdict} | {count} | {_MEANING[verdict]} |"
    yield f"| all | {len(rows)} | |"
    yield ""
    checked = ", ".join(
        f"{sum(row.claim.check == check for row in rows)} {check}" for check in CHECKS
    )
    missing = sum(bool(row.claim.missing) for row in rows)
    failures = [row.claim.id for row in rows if row.is_failure]
    yield (
        f"By kind of check: {checked}. Of {missing} claims the mechanism, or a part of it, is not "
        f"built; where arithmetic can speak without it, it does. "
        f"{_unexpected(failures)}"
    )
    yield ""


def _unexpected(failures: Sequence[str]) -> str:
    if not failures:
        return "Every verdict is the one that the register expects."
    return f"**Other verdicts than the register expects: {', '.join(failures)}.**"


def _headlines(rows: Sequence[Row]) -> Iterator[str]:
    found = [row for row in rows if row.claim.headline]
    if not found:
        return
    yield "## What comes first"
    yield ""
    for row in found:
        claim, finding = row.claim, row.finding
        yield f"**{claim.headline}** ({claim.id}, {finding.verdict}). {_sentence(finding.said)}"
        if finding.bound:
            yield f"By the formula, or bounded: {_sentence(finding.bound)}"
        if finding.change:
            yield f"What makes it true: {_sentence(finding.change)}"
        yield f"`{claim.command}`"
        yield ""


def _topic(topic: Topic, rows: Sequence[Row]) -> Iterator[str]:
    if not rows:
        return
    yield f"## {topic.title}"
    yield ""
    yield "| claim | verdict | result | bound or interval | smallest change | checked | command |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        claim, finding = row.claim, row.finding
        words = f"**{claim.id}** {claim.words}<br>{', '.join(map(_short, claim.seed))}"
        said = finding.said
        if finding.verdict == NOT_RUN and claim.measured:
            said += f". Committed measurement, not repeated here: {claim.measured}"
        status = f"{claim.check}; {claim.status}" if claim.missing else claim.check
        cells = (words, _verdict(row), said, finding.bound, finding.change, status)
        yield f"| {' | '.join(_cell(cell) for cell in cells)} | `{claim.command}` |"
    yield ""


def _verdict(row: Row) -> str:
    if row.is_failure:
        return f"**{row.finding.verdict}** (expected: {row.claim.expected})"
    return row.finding.verdict


def _short(seed: str) -> str:
    """Name a source by its first number; the claim's file has the whole stem."""
    stem, _, section = seed.partition(" ")
    return f"{stem.partition('_')[0]} {section}".strip()


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")


def _sentence(text: str) -> str:
    return text[:1].upper() + text[1:] + ("" if text.endswith(".") else ".")


def as_json(rows: Sequence[Row]) -> dict[str, Any]:
    """Give the rows as a JSON object."""
    return {"counts": counts(rows), "claims": [_member(row) for row in rows]}


def _member(row: Row) -> Mapping[str, Any]:
    claim, finding = row.claim, row.finding
    return {
        "id": claim.id, "topic": claim.topic, "seed": list(claim.seed), "words": claim.words,
        "mechanism": claim.mechanism, "status": claim.status, "check": claim.check,
        "command": claim.command, "expected": claim.expected, "verdict": finding.verdict,
        "as_expected": not row.is_failure, "said": finding.said, "bound": finding.bound,
        "change": finding.change, "facts": dict(finding.facts),
    }  # fmt: skip


def lines(rows: Sequence[Row]) -> Iterator[str]:
    """Give what a terminal shows: a paragraph for each claim, then the counts."""
    for row in rows:
        claim, finding = row.claim, row.finding
        mark = " (not as expected)" if row.is_failure else ""
        yield f"{claim.id}  {finding.verdict}{mark}: {claim.words}"
        yield f"      {finding.said}"
        if finding.bound:
            yield f"      bound: {finding.bound}"
        if finding.change:
            yield f"      change: {finding.change}"
        if finding.verdict == NOT_RUN:
            yield f"      command: {claim.command}"
    found = ", ".join(f"{count} {verdict}" for verdict, count in counts(rows).items() if count)
    yield f"{len(rows)} claims: {found}"
