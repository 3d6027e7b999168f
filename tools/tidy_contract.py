"""Judge what code and texts say about `spec/`, about configuration and about each other.

Owner of how a sentence of `spec/` is cited: `canonical 3.2(4)`, `spec/retry.md 27`.
"""

from __future__ import annotations

import ast
import json
import re
import tomllib
from collections.abc import Iterator
from typing import Any

from tools.tidy_tree import LIBRARIES, ORACLE, SERVER, Finding, Source, Tree

PAGES = (
    "canonical", "dedup", "drills", "formats", "reconcile", "retry", "ring", "roles", "shipping",
    "tiers",
)  # fmt: skip
"""The normative pages, whose sentences have numbers."""

CITED = re.compile(
    rf"\b({'|'.join(PAGES)})(?:\.md)?`?,?(?: sentences?)? (?=\d)"
    r"((?:\d+(?:\.\d+)*(?:\(\d+\))*(?:-(?:\d+|\(\d+\)))?(?:, | and )?)+)"
)
ONE = re.compile(r"(\d+(?:\.\d+)*)((?:\(\d+\))*)(?:-(\(\d+\)|\d+))?")
STATED = re.compile(r"^(?:#+ |[-*] )?\**(\d+(?:\.\d+)*(?:\(\d+\))?)(?:\.|\*\*|(?= ))", re.MULTILINE)
CODE = re.compile(r"[a-z][a-z0-9]*(?:_[a-z0-9]+)*")
BLOCK = re.compile(r"<!-- from (\S+) -->\n+```\w*\n(.*?)```", re.DOTALL)
ROW = re.compile(r"^\| *`([\w.-]+)/?` *\|", re.MULTILINE)
BARE = frozenset({"epoch", "shard", "term"})


def stated(text: str) -> set[str]:
    """Find the numbers of all sentences and sections that a page of `spec/` states."""
    return set(STATED.findall(text))


def cited(text: str) -> Iterator[tuple[str, str]]:
    """Find page and number of every sentence that a line cites; a range gives both its ends."""
    for page, numbers in CITED.findall(text):
        for base, inner, last in ONE.findall(numbers):
            groups = re.findall(r"\(\d+\)", inner) or [""]
            yield from ((page, base + group) for group in groups)
            if last:
                yield page, base + last if last.startswith("(") else last


def sentence_numbers(tree: Tree) -> Iterator[Finding]:
    """Find citations of sentences that `spec/` does not state."""
    pages = {name: tree.get(f"spec/{name}.md") for name in PAGES}
    known = {name: stated(page.text) if page else set() for name, page in pages.items()}
    for source in tree.own:
        if source.path.startswith("tools/"):
            continue
        for number, line in enumerate(source.lines, 1):
            for page, sentence in cited(line):
                if sentence not in known[page]:
                    what = f"spec/{page}.md has no {sentence}"
                    yield source.found(number, "sentence", what, "cite a sentence that is there")


def error_codes(tree: Tree) -> Iterator[Finding]:
    """Find codes that are raised or answered and are not in `spec/errors.json`."""
    page = tree.get("spec/errors.json")
    rows = json.loads(page.text)["codes"] if page else []
    known = {row["code"] for row in rows}
    makers = {row["class"] for row in rows} | {"FractalLBAError", "error_for", "Fault"}
    for source in tree.python:
        if source.is_test or not source.path.startswith((*LIBRARIES, ORACLE)):
            continue
        for node in source.walk():
            if isinstance(node, ast.Call):
                for code in codes_of(node, makers):
                    if code not in known:
                        fix = "use a code of spec/errors.json, or add it there first"
                        yield source.found(node.lineno, "code", f"{code!r} is no code", fix)


def codes_of(call: ast.Call, makers: set[str]) -> Iterator[str]:
    """Yield what a call passes as an error code."""
    func = call.func
    name = func.id if isinstance(func, ast.Name) else getattr(func, "attr", "")
    given = [k.value for k in call.keywords if k.arg == "code"]
    if name in makers:
        given += call.args[:1]
    for node in given:
        value = node.value if isinstance(node, ast.Constant) else None
        if isinstance(value, str) and CODE.fullmatch(value):
            yield value


def fresh_blocks(tree: Tree) -> Iterator[Finding]:
    """Find code blocks under `<!-- from FILE -->` that do not stand in that file."""
    for source in tree.own:
        if not source.path.endswith(".md"):
            continue
        for match in BLOCK.finditer(source.text):
            line = source.text[: match.start()].count("\n") + 1
            origin = tree.get(match[1])
            if origin is None:
                yield source.found(line, "stale", f"{match[1]} is not there", "name a file")
            elif not stands_in(match[2], origin):
                fix = f"copy the lines from {match[1]} again"
                yield source.found(line, "stale", f"the block differs from {match[1]}", fix)


def stands_in(block: str, origin: Source) -> bool:
    """Say whether the lines of a block follow each other in a file, at one depth of indent."""
    wanted = block.rstrip("\n").split("\n")
    for start in range(len(origin.lines) - len(wanted) + 1):
        depth = len(origin.lines[start]) - len(origin.lines[start].lstrip())
        found = [line[depth:] for line in origin.lines[start : start + len(wanted)]]
        if found == wanted:
            return True
    return False


def directory_table(tree: Tree) -> Iterator[Finding]:
    """Find folders at the root that the README's table lacks, and rows without a folder."""
    readme = tree.get("README.md")
    if readme is None:
        return
    listed = set(ROW.findall(readme.text))
    folders = {path.partition("/")[0] for path in tree.every if "/" in path}
    for name in sorted(folders - listed):
        yield readme.found(1, "stale", f"the table lacks {name}/", "add a row")
    for name in sorted(name for name in listed - folders if not tree.get(name)):
        yield readme.found(1, "stale", f"the table lists {name}/", "remove the row")


def wire_words(tree: Tree) -> Iterator[Finding]:
    """Find names in the server that are a bare epoch, shard or term."""
    for source in tree.under(SERVER):
        if not source.is_python:
            continue
        for node in source.walk():
            name = getattr(node, "id", None) or getattr(node, "arg", None)
            if isinstance(node, ast.Name | ast.arg) and name in BARE:
                fix = f"say which: pcs_{name}, region_{name}, ring_{name}, log_{name}"
                yield source.found(node.lineno, "bare", f"a bare {name}", fix)


def pins(tree: Tree) -> Iterator[Finding]:
    """Find disabled lints and upper bounds in a `pyproject.toml` that do not say why."""
    rule = re.compile(r"^\s*\"[A-Z]+[0-9]*\",?\s*$|^\s*\"[^\"]+\" = \[.*\]\s*$")
    bound = re.compile(r"\"[\w.\[\],-]+\s*(?:[^\"]*[<~]|==)[^\"]*\"")
    for source in tree.own:
        if not source.path.endswith("pyproject.toml"):
            continue
        tomllib.loads(source.text)
        above = ""
        for number, line in enumerate(source.lines, 1):
            explained = "#" in line or above.lstrip().startswith("#")
            if not explained and (rule.search(line) or bound.search(line)):
                what = f"{line.strip()} gives no reason"
                yield source.found(number, "reason", what, "add `# why` on the line")
            above = line


def json_files(tree: Tree) -> Iterator[Finding]:
    """Find JSON files of ours that cannot be read or name a member twice."""
    for source in tree.own:
        if not source.path.endswith(".json"):
            continue
        try:
            json.loads(source.text, object_pairs_hook=without_twins)
        except ValueError as error:
            yield source.found(1, "json", str(error), "mend it")


def without_twins(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Refuse an object that names a member twice."""
    if len({name for name, _ in pairs}) != len(pairs):
        raise ValueError(f"a member is there twice: {sorted(name for name, _ in pairs)}")
    return dict(pairs)


CHECKS = {
    "sentence": sentence_numbers,
    "code": error_codes,
    "stale": fresh_blocks,
    "table": directory_table,
    "bare": wire_words,
    "pins": pins,
    "json": json_files,
}
