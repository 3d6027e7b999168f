"""Write what became of every claim: the page `docs/claims.md`, JSON, the lines of a terminal.

The invariant of this file: counts come first and add up to the rows, and the same rows give the
same bytes.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final

from .checking import Row, Run
from .register import Topic
from .sources import SOURCES
from .verdicts import CHECKS, NOT_RUN, VERDICTS

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

Every promise of five older documents, C001 to C158, and what became of it. Written by \
`{command}`; a test holds this page against a fresh run.

{sources}

How to read a row:

* The verdict is about the words of the claim as they stand. What is true under a condition, or of \
something else than the words say, is *conditional*; the *smallest change* makes it true.
* *vector*: the code that is used is asked with values whose answers are known; *simulated*: it is \
played under declared distributions; *analytic*: computed; *document*: what a source says of \
itself, added up; *live*: real processes (`flk-sim check --live` runs the command); *not-here*: \
nothing checks it, and the row says why.
* Simulated figures show that rules and constants meet a bound, with the rules of the server's own \
core; they say nothing about hardware. What a drill decides holds only if it held in 59 runs and \
its control failed.
* The command gives the row again, in a checkout with `pip install ./sdk-python \
./reference-server ./simulator`. `--quick` takes fewer trials and plays each drill once, which is \
never enough to say that one holds.
"""


def command_of(run: Run) -> str:
    """Give the command that writes the page of a run."""
    return f"{_with_options('flk-sim check', run)} --out docs/claims.md"


def _with_options(command: str, run: Run) -> str:
    if run.quick and command.startswith("flk-sim check"):
        return command.replace("flk-sim check", "flk-sim check --quick")
    return command


def counts(rows: Sequence[Row]) -> dict[str, int]:
    """Count rows by verdict, in the order of verdicts."""
    return {verdict: sum(row.finding.verdict == verdict for row in rows) for verdict in VERDICTS}


def page(topics: Sequence[Topic], rows: Sequence[Row], run: Run) -> str:
    """Write the page of a run."""
    by_id = {row.claim.id: row for row in rows}
    sources = "\n".join(f"* {_short(stem)}: {what} (`{stem}`)" for stem, what in SOURCES.items())
    parts = [_INTRO.format(command=command_of(run), sources=sources), *_summary(rows)]
    parts += _headlines(rows, run)
    for topic in topics:
        found = [by_id[claim.id] for claim in topic.claims if claim.id in by_id]
        parts += _topic(topic, found, run)
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


def _headlines(rows: Sequence[Row], run: Run) -> Iterator[str]:
    found = [row for row in rows if row.claim.headline]
    if not found:
        return
    yield "## What comes first"
    yield ""
    yield "The sentence in bold is what was found; the verdict is that of the claim's words."
    yield ""
    for row in found:
        claim, finding = row.claim, row.finding
        yield f"**{claim.headline}** ({claim.id}, {finding.verdict}). {_sentence(finding.said)}"
        yield ""
        if finding.bound:
            yield f"* By the formula, or bounded: {_sentence(finding.bound)}"
        if finding.change:
            yield f"* What makes the claim true: {_sentence(finding.change)}"
        yield f"* `{_with_options(claim.command, run)}`"
        yield ""


def _topic(topic: Topic, rows: Sequence[Row], run: Run) -> Iterator[str]:
    if not rows:
        return
    yield f"## {topic.title}"
    yield ""
    yield (
        "| claim | verdict | result | bound or interval | smallest change | mechanism, check "
        "| command |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    for row in rows:
        claim, finding = row.claim, row.finding
        words = f"**{claim.id}** {claim.words}<br>{', '.join(map(_short, claim.seed))}"
        said = finding.said
        if claim.measured:
            said += f". Committed measurement, not repeated here: {claim.measured}"
        status = f"*{claim.check}; {claim.status}*" if claim.missing else f"*{claim.check}*"
        about = f"{claim.mechanism.rstrip('.')}<br>{status}"
        cells = (words, _verdict(row), said, finding.bound, finding.change, about)
        command = _with_options(claim.command, run)
        yield f"| {' | '.join(_cell(cell) for cell in cells)} | `{command}` |"
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


def paragraph(row: Row) -> Iterator[str]:
    """Give the lines of one claim for a terminal."""
    claim, finding = row.claim, row.finding
    mark = " (not as expected)" if row.is_failure else ""
    yield f"{claim.id}  {finding.verdict}{mark}: {claim.words}"
    yield f"      {finding.said}"
    if finding.bound:
        yield f"      bound: {finding.bound}"
    if finding.change:
        yield f"      change: {finding.change}"
    if claim.measured:
        yield f"      measured before: {claim.measured}"
    if finding.verdict == NOT_RUN:
        yield f"      command: {claim.command}"


def total(rows: Sequence[Row]) -> str:
    """Count the verdicts in a line."""
    found = ", ".join(f"{count} {verdict}" for verdict, count in counts(rows).items() if count)
    return f"{len(rows)} claims: {found}"
