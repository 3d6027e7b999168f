"""Read the numbered sentences of `spec/` and of the protocol, so that verdicts can quote them."""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import Final, NamedTuple

from .places import PACKAGE, MissingError, root_of

PAGES: Final = ("canonical", "retry", "formats", "ring")
START: Final = re.compile(
    r"^(?:#+ |[-*] )?\**(?P<number>\d+(?:\.\d+)*(?:\(\d+\))?)(?:\.|\*\*|(?= ))\**\s*(?P<text>.*)$"
)
TP: Final = re.compile(r"^(tp\.\d+) (.*)$", re.MULTILINE)
LONGEST: Final = 600
"""Characters of a sentence that are quoted."""


class Sentence(NamedTuple):
    """One sentence: how it is cited, and what it says. Headings have no text of their own."""

    citation: str
    text: str
    is_heading: bool

    @property
    def is_must(self) -> bool:
        return "MUST" in self.text


def parse(page: str, text: str) -> Iterable[Sentence]:
    """Yield the sentences of a page."""
    for line in text.split("\n"):
        match = START.match(line)
        if match is not None:
            yield Sentence(f"{page} {match['number']}", match["text"], line.startswith("#"))


@cache
def all_sentences() -> dict[str, Sentence]:
    """Give every sentence by its citation; nothing if the pages cannot be found."""
    found: dict[str, Sentence] = {}
    try:
        folder = root_of("spec/canonical.md") / "spec"
    except MissingError:
        return found
    for page in PAGES:
        text = (folder / f"{page}.md").read_text(encoding="utf-8")
        found.update((each.citation, each) for each in parse(page, text))
    for path in (PACKAGE.parent / "PROTOCOL.md", PACKAGE / "data" / "PROTOCOL.md"):
        if path.is_file():
            found.update((each.citation, each) for each in protocol(path))
    return found


def protocol(path: Path) -> Iterable[Sentence]:
    """Yield the sentences of the protocol."""
    for citation, text in TP.findall(path.read_text(encoding="utf-8")):
        yield Sentence(citation, text, is_heading=False)


def quoted(citation: str) -> str:
    """Quote a sentence with its citation, or give the citation alone."""
    sentence = all_sentences().get(citation)
    if sentence is None or not sentence.text:
        return citation
    return f"{citation}: {sentence.text[:LONGEST]}"
