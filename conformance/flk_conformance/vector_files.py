"""Command `vectors`: check, hash, cover and compare vector files.

`build` writes every file anew (the oracle of a checkout does it); `fmt --check` looks at the one
form of files: sorted ids, one case a line; `lint` at what a schema can and cannot say; `hash`
checks and prints the suite hash; `cover` lists sentences of `spec/` without a case and files whose
cases name no mutant; `diff OLD NEW` says what changed, and whether the version says so too.
"""

from __future__ import annotations

import argparse
import json
import re
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Final

from . import places, vectors
from .messages import Table, violations
from .run import BROKEN, OK, UNEXPECTED, UsageError
from .sentences import all_sentences
from .write_table import rule_of

Members = dict[str, Any]

SCHEMA_ONLY: Final = frozenset({"$schema", "title", "description", "if", "then", "else"})
"""Parts of the schema of vector files that are for other readers, or judged below."""

SHORT_ESCAPE: Final = re.compile(r"\\([bfnrt\"\\])")
LONG_FORMS: Final = {
    short: f"\\u{ord(char):04x}" for short, char in zip("bfnrt", "\b\f\n\r\t", strict=True)
}
COVERED_PAGES: Final = ("canonical", "retry", "formats", "ring")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("what", choices=sorted(COMMANDS), metavar="|".join(COMMANDS))
    parser.add_argument("folders", nargs="*", metavar="DIR", help="for diff: OLD NEW")
    parser.add_argument("--check", action="store_true", help="for fmt: change nothing")
    parser.add_argument("--vectors", metavar="DIR", help="another folder with MANIFEST.json")


def run(options: argparse.Namespace) -> int:
    """Do what is asked for; 1 if it finds something."""
    return COMMANDS[options.what](options)


def say(lines: Iterable[str]) -> int:
    """Print findings; 1 if there are any."""
    count = 0
    for line in lines:
        sys.stdout.write(f"{line}\n")
        count += 1
    return UNEXPECTED if count else OK


def build(options: argparse.Namespace) -> int:
    """Let the oracle write every file."""
    root = places.golden_dir(options.vectors).parent
    if not (root / "golden" / "oracle" / "__main__.py").is_file():
        raise UsageError("vectors build needs the repository: the oracle is not in the package")
    command = [sys.executable, "-m", "golden.oracle", "build"]
    done = subprocess.run(command, cwd=root, check=False)
    return BROKEN if done.returncode else OK


# --- form ----------------------------------------------------------------------------------


def files_of(root: Path) -> Iterator[tuple[str, bytes]]:
    """Yield name and bytes of each vector file."""
    for path in sorted((root / "vectors").rglob("*.json")):
        yield path.relative_to(root / "vectors").as_posix(), path.read_bytes()


def fmt(options: argparse.Namespace) -> int:
    """Check the form of every file."""
    if not options.check:
        raise UsageError("vectors are written by `vectors build` alone; fmt needs --check")
    return say(
        f"vectors/{name}: not in the one form; run `vectors build`, never edit it by hand"
        for name, data in files_of(places.golden_dir(options.vectors))
        if formatted(json.loads(data)) != data
    )


def compact(value: Any) -> str:
    """Write JSON in printable ASCII without spaces; controls have the long form alone."""
    text = json.dumps(value, separators=(",", ":")).replace("\x7f", "\\u007f")
    return SHORT_ESCAPE.sub(lambda match: LONG_FORMS.get(match[1], match[0]), text)


def formatted(content: Members) -> bytes:
    """Write a file in the one form."""
    head = [
        f"{compact(k)}:{compact(v)}," for k, v in content.items() if k not in ("flags", "cases")
    ]
    flags = [f"{compact(k)}:{compact(content['flags'][k])}" for k in sorted(content["flags"])]
    cases = [compact(case) for case in sorted(content["cases"], key=lambda case: case["id"])]
    parts = [*head, '"flags":{', ",\n".join(flags), "},", '"cases":[', ",\n".join(cases)]
    return ("{\n" + "\n".join(parts) + "\n]}\n").encode("ascii")


# --- lint ----------------------------------------------------------------------------------


def lint(options: argparse.Namespace) -> int:
    """Judge every file and case."""
    root = places.golden_dir(options.vectors)
    table = schema_table()
    owner: dict[str, str] = {}
    retired = retired_ids(root)

    def found() -> Iterator[str]:
        for name, data in files_of(root):
            for problem in lint_file(json.loads(data), table):
                yield f"vectors/{name}: {problem}"
            for case in json.loads(data)["cases"]:
                id = case["id"]
                if id in owner:
                    yield f"vectors/{name}: {id}: also in {owner[id]}"
                if id in retired:
                    yield f"vectors/{name}: {id}: a retired id is used again"
                owner[id] = name

    return say(found())


def retired_ids(root: Path) -> frozenset[str]:
    """Give the ids that must never come back."""
    path = root / "ids.retired"
    return frozenset(path.read_text(encoding="utf-8").split()) if path.is_file() else frozenset()


def schema_table() -> Table:
    """Turn `spec/schemas/vectors.json` into rules of `messages`."""
    path = places.root_of("spec/schemas/vectors.json") / "spec" / "schemas" / "vectors.json"
    schema = json.loads(path.read_bytes())
    plain = {"file": stripped(schema, {"$defs"}), **stripped(schema["$defs"])}
    return {name: rule_of(node, name) for name, node in plain.items()}


def stripped(node: Any, more: Iterable[str] = ()) -> Any:
    """Leave out what `lint_case` judges by itself, and `propertyNames`, which `lint_file` does."""
    leave = SCHEMA_ONLY | {"propertyNames", "minItems", *more}
    if isinstance(node, list):
        return [stripped(each) for each in node]
    if not isinstance(node, dict):
        return node
    if "properties" in node:
        inner = {name: stripped(each) for name, each in node["properties"].items()}
        rest = {k: stripped(v) for k, v in node.items() if k not in leave | {"properties"}}
        return {**rest, "properties": inner}
    return {k: stripped(v) for k, v in node.items() if k not in leave}


def lint_file(content: Members, table: Table) -> Iterator[str]:
    """Judge one file."""
    yield from (f"{each.pointer}: {each.text}" for each in violations(table, "file", content))
    flags, cases = content["flags"], content["cases"]
    if content["op"] not in vectors.LEVELS:
        yield f"the operation {content['op']} has no level in PROTOCOL.md"
    used = {name for case in cases for name in case["flags"]}
    yield from (f"the flag {name} has no case" for name in sorted(set(flags) - used))
    sentences = all_sentences()
    for name, flag in flags.items():
        if (flag["kind"] == "policy") != ("axis" in flag):
            yield f"the flag {name}: kind policy and axis belong together"
        for citation in flag["spec"]:
            if sentences and citation not in sentences:
                yield f"the flag {name} cites {citation}, which spec/ does not state"
    if [case["id"] for case in cases] != sorted(case["id"] for case in cases):
        yield "ids are not sorted"
    for case in cases:
        yield from (f"{case['id']}: {problem}" for problem in lint_case(case, flags))


def lint_case(case: Members, flags: Members) -> Iterator[str]:
    """Judge one case."""
    unknown = [name for name in case["flags"] if name not in flags]
    if unknown or not case["flags"]:
        yield f"unknown or no flags: {unknown}"
    axes = [flags[name]["axis"] for name in case["flags"] if "axis" in flags.get(name, {})]
    if (case["result"] == "acceptable") != (len(axes) == 1):
        yield "exactly the acceptable cases have one flag with a policy axis"
    expect = case["expect"]
    codes = [] if case["result"] == "valid" else [expect]
    if case["result"] == "acceptable":
        codes = [each for each in expect.values() if isinstance(each, dict) and len(each) == 1]
    for each in codes:
        code = each.get("code")
        if case["result"] == "invalid" and not isinstance(code, str):
            yield "an invalid case expects a code"
        elif isinstance(code, str) and code not in places.error_codes():
            yield f"{code} is no code of spec/errors.json"


# --- hash, cover ---------------------------------------------------------------------------


def show_hash(options: argparse.Namespace) -> int:
    """Print version and suite hash; the files must be those of the manifest."""
    loaded = vectors.load(places.golden_dir(options.vectors))
    sys.stdout.write(f"{loaded.version} {loaded.suite_hash} {len(loaded.cases)} cases\n")
    return OK


def cover(options: argparse.Namespace) -> int:
    """List sentences without a case and cases without a mutant; 1 if a MUST has no case."""
    loaded = vectors.load(places.golden_dir(options.vectors))
    cited = {
        citation
        for suite in loaded.suites
        for flag in suite.flags.values()
        for citation in flag["spec"]
    }
    bare = [
        sentence
        for citation, sentence in all_sentences().items()
        if citation.partition(" ")[0] in COVERED_PAGES
        and not sentence.is_heading
        and not covered(citation, cited)
    ]
    must = [each for each in bare if each.is_must]
    for title, group in (("MUST", must), ("other", [each for each in bare if not each.is_must])):
        sys.stdout.write(f"{title} sentences without a case: {len(group)}\n")
        for each in group:
            sys.stdout.write(f"  {each.citation}: {each.text:.80}\n")
    sys.stdout.write("cases that name a mutant, of all in the file:\n")
    for suite in loaded.suites:
        cases = [case for case in loaded.cases if case.suite is suite]
        killing = sum(bool(case.kills) for case in cases)
        sys.stdout.write(f"  {suite.name}: {killing} of {len(cases)}\n")
    return UNEXPECTED if must else OK


def covered(citation: str, cited: set[str]) -> bool:
    """Say whether a sentence is cited, itself or by a part of it: 3.2 by 3.2(4)."""
    return any(each == citation or each.startswith(f"{citation}(") for each in cited)


# --- diff ----------------------------------------------------------------------------------


def diff(options: argparse.Namespace) -> int:
    """Compare two folders; 1 if NEW changes what must not change, or its version is too low."""
    if len(options.folders) != 2:
        raise UsageError("vectors diff: expected OLD and NEW")
    old, new = (vectors.load(places.golden_dir(folder)) for folder in options.folders)
    one, other = ({case.id: case for case in each.cases} for each in (old, new))
    both = [id for id in one if id in other]
    inputs = [id for id in both if (one[id].op, one[id].args) != (other[id].op, other[id].args)]
    expected = [id for id in both if judged(one[id]) != judged(other[id]) and id not in inputs]
    gone = [id for id in one if id not in other and id not in retired_ids(new.root)]
    added = [id for id in other if id not in one]
    removed = [id for id in one if id not in other]
    for title, ids in (
        ("added", added), ("removed", removed), ("other input", inputs), ("other result", expected),
    ):  # fmt: skip
        sys.stdout.writelines(f"{title}: {id}\n" for id in ids)
    step = 0 if expected or removed else 1 if added else 2
    problems = [f"{id}: a published case never changes its input" for id in inputs]
    problems += [f"{id}: removed and not in ids.retired" for id in gone]
    if (expected or removed or added) and not enough(old.version, new.version, step):
        names = ("major", "minor")
        problems.append(f"version {old.version} to {new.version}: a {names[step]} step is needed")
    return say(problems)


def judged(case: vectors.Case) -> tuple[str, Members]:
    """Give what a case says must come out."""
    return case.result, case.expect


def enough(old: str, new: str, step: int) -> bool:
    """Say whether a version goes up in this place (0 is the major one) or before it."""
    before, after = ([int(part) for part in version.split(".")] for version in (old, new))
    return after[: step + 1] > before[: step + 1]


COMMANDS: Final[dict[str, Callable[[argparse.Namespace], int]]] = {
    "build": build,
    "fmt": fmt,
    "lint": lint,
    "hash": show_hash,
    "cover": cover,
    "diff": diff,
}
