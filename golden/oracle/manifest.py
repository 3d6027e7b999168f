"""Build the vector files and `MANIFEST.json`, and check what is on the disk against them."""

from __future__ import annotations

import hashlib
import importlib
import re
from functools import cache
from pathlib import Path
from typing import Any

from golden.oracle.emit import ID, ID_MAX, VERSION, Suite, json_text, quote
from golden.oracle.fault import Fault
from golden.oracle.jcs import document
from golden.oracle.scanner import Number, parse_any

GOLDEN = Path(__file__).resolve().parent.parent
SUITES = (
    "number",
    "string",
    "record",
    "reject",
    "hmac",
    "verify",
    "sig2",
    "jcs",
    "id",
    "retry",
    "endpoint",
    "http",
    "outbox",
    "sending",
    "submit",
    "batch",
    "client",
    "posting",
    "ring",
)
ID_OF_LINE = re.compile(r'\{"id":"([^"]*)",')


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


@cache
def generate() -> dict[str, Suite]:
    """Give every suite by its path below `golden/vectors`."""
    found: dict[str, Suite] = {}
    owner: dict[str, str] = {}
    for name in SUITES:
        for suite in importlib.import_module(f"golden.oracle.suites.{name}").suites():
            if suite.path in found:
                raise AssertionError(f"{suite.path}: two suites")
            found[suite.path] = suite
            for case in suite.cases:
                if case in owner:
                    raise AssertionError(f"{case}: in {owner[case]} and {suite.path}")
                owner[case] = suite.path
    return dict(sorted(found.items()))


def texts(suites: dict[str, Suite]) -> dict[str, bytes]:
    """Give the bytes of every vector file."""
    sources = {s.source for s in suites.values()}
    hashes = {name: sha256((GOLDEN / "oracle" / name).read_bytes()) for name in sources}
    return {path: s.text(hashes[s.source]).encode("ascii") for path, s in suites.items()}


def third_party() -> dict[str, str]:
    """Hash other people's files, so that nobody edits them unseen."""
    root = GOLDEN / "third_party"
    files = sorted(p for p in root.rglob("*") if p.is_file())
    return {p.relative_to(root).as_posix(): sha256(p.read_bytes()) for p in files}


def manifest_text(suites: dict[str, Suite], files: dict[str, bytes]) -> bytes:
    """Write the manifest; `suite_hash` covers the RFC 8785 form of `version` and `files`."""
    table: dict[str, dict[str, Any]] = {
        p: {"cases": len(suites[p].cases), "sha256": sha256(files[p])} for p in files
    }
    covered: dict[str, Any] = {"version": VERSION, "files": table}
    total = sum(entry["cases"] for entry in table.values())
    lines = [f'"version":{quote(VERSION)},', f'"cases":{total},']
    lines.append(f'"suite_hash":{quote(suite_hash(covered))},')
    lines.append('"files":{\n' + ",\n".join(f"{quote(p)}:{json_text(e)}" for p, e in table.items()))
    others = ",\n".join(f"{quote(p)}:{quote(h)}" for p, h in third_party().items())
    lines.append('},\n"third_party":{\n' + others + "\n}")
    return ("{\n" + "\n".join(lines) + "}\n").encode("ascii")


def suite_hash(covered: dict[str, Any]) -> str:
    def nodes(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: nodes(v) for k, v in value.items()}
        return Number(str(value)) if type(value) is int else value

    return sha256(document(nodes(covered)))


def wanted() -> dict[Path, bytes]:
    suites = generate()
    files = texts(suites)
    out = {GOLDEN / "vectors" / path: data for path, data in files.items()}
    out[GOLDEN / "MANIFEST.json"] = manifest_text(suites, files)
    return out


def build() -> int:
    """Write every file, remove vector files that no suite gives, and count the cases."""
    files = wanted()
    for path in (GOLDEN / "vectors").rglob("*.json"):
        if path not in files:
            path.unlink()
    for path, data in files.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return sum(data.count(b'\n{"id":') for data in files.values())


def check() -> list[str]:
    """Name every way in which the files differ from what the oracle writes."""
    problems = check_files()
    files = wanted()
    for path, data in files.items():
        name = path.relative_to(GOLDEN).as_posix()
        if not path.exists():
            problems.append(f"{name}: missing; run `python -m golden.oracle build`")
        elif path.read_bytes() != data:
            problems.append(f"{name}: differs from what the oracle writes; never edit it by hand")
    return problems


def check_files() -> list[str]:
    """Check hashes, counts, line form and ids of the files as they are, without generating."""
    problems: list[str] = []
    path = GOLDEN / "MANIFEST.json"
    if not path.exists():
        return ["MANIFEST.json: missing; run `python -m golden.oracle build`"]
    manifest: Any = parse_any(path.read_bytes())
    table = manifest["files"]
    covered = {
        "version": manifest["version"],
        "files": {
            name: {"cases": int(e["cases"].token), "sha256": e["sha256"]}
            for name, e in table.items()
        },
    }
    if suite_hash(covered) != manifest["suite_hash"]:
        problems.append("MANIFEST.json: suite_hash is not the hash of version and files")
    on_disk = {
        p.relative_to(GOLDEN / "vectors").as_posix()
        for p in (GOLDEN / "vectors").rglob("*")
        if p.is_file()
    }
    problems += [f"vectors/{name}: not in MANIFEST.json" for name in sorted(on_disk - set(table))]
    problems += [f"vectors/{name}: missing" for name in sorted(set(table) - on_disk)]
    seen: dict[str, str] = {}
    for name in sorted(on_disk & set(table)):
        data = (GOLDEN / "vectors" / name).read_bytes()
        if sha256(data) != table[name]["sha256"]:
            problems.append(f"vectors/{name}: SHA-256 differs from MANIFEST.json")
        problems += check_cases(name, data, int(table[name]["cases"].token), seen)
    if third_party() != manifest["third_party"]:
        problems.append("third_party/: files differ from MANIFEST.json")
    return problems


def check_cases(name: str, data: bytes, count: int, seen: dict[str, str]) -> list[str]:
    """Check one case per line, ids sorted and unique over all files."""
    problems: list[str] = []
    lines = (
        data.decode("ascii", "replace").split('"cases":[\n', 1)[-1].split("\n]}\n")[0].split("\n")
    )
    ids = []
    for line in lines:
        match = ID_OF_LINE.match(line)
        try:
            parse_any(line.removesuffix(",").encode("ascii", "replace"))
        except Fault as fault:
            problems.append(f"vectors/{name}: {line[:60]}: not a case ({fault.code})")
            continue
        if match is None:
            problems.append(f"vectors/{name}: {line[:60]}: a line without an id")
            continue
        ids.append(match[1])
    if ids != sorted(ids):
        problems.append(f"vectors/{name}: ids are not sorted")
    if len(ids) != count:
        problems.append(f"vectors/{name}: {len(ids)} cases, MANIFEST.json says {count}")
    for case in ids:
        if not ID.fullmatch(case) or len(case) > ID_MAX:
            problems.append(f"vectors/{name}: {case}: not an id")
        if case in seen:
            problems.append(f"vectors/{name}: {case}: also in {seen[case]}")
        seen[case] = name
    return problems
