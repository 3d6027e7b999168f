"""Load published vectors: check their hashes, select cases, and say what each one needs.

Owner of the levels of operations (`PROTOCOL.md` section 5) and of the suite hash.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Final

Members = dict[str, Any]

LEVELS: Final[Mapping[str, str]] = {
    "canon.number": "core",
    "canon.string": "core",
    "canon.record": "core",
    "record.parse": "core",
    "jcs.document": "core",
    "sign.hmac": "core",
    "sign.ed25519": "ed25519",
    "verify": "core",
    "id.derive": "core",
    "retry.plan": "core",
    "retry.after": "core",
    "endpoint.plan": "core",
    "http.request": "core",
    "http.response": "core",
    "errors.map": "core",
    "log.capture": "core",
    "client.submit": "client",
    "client.submit_many": "client",
    "client.get": "client",
    "client.cancel": "client",
    "client.failover": "client",
    "outbox.recover": "outbox",
    "outbox.step": "outbox",
    "checksum.crc32": "outbox",
    "ring.key": "ring",
    "ring.pick": "ring",
    "ring.pick_n": "ring",
    "ring.shares": "ring",
    "ring.ranges": "ring",
    "ring.movement": "ring",
    "checksum.crc32c": "server",
    "http.submit": "server",
    "http.batch": "server",
}
"""The level of each operation. An operation that is not listed is required of nobody."""

SERVER: Final = "server"
OTHER: Final = "other"

RESULTS: Final = frozenset({"valid", "invalid", "acceptable"})


class VectorsError(Exception):
    """Say that vectors are not those of their manifest."""


class SelectionError(Exception):
    """Say that a selection names nothing."""


@dataclass(frozen=True, slots=True)
class Suite:
    """One vector file: one operation, its flags, and the name `folder/file` of its suite."""

    name: str
    op: str
    level: str
    flags: Mapping[str, Members]


@dataclass(slots=True)
class Case:
    """One case of a suite.

    `tail` ends a request line: what follows the `seq`. A case with a script has none, because
    its servers have no addresses yet. `kills` names the mutants that the case is to catch.
    """

    id: str
    suite: Suite
    flags: Sequence[str]
    comment: str
    args: Members
    result: str
    expect: Members
    tail: bytes = field(repr=False)
    kills: Sequence[str] = ()

    @property
    def op(self) -> str:
        return self.suite.op

    @property
    def is_scripted(self) -> bool:
        return "script" in self.args

    def request(self, seq: str) -> bytes:
        """Give the line that asks for this case."""
        return b'{"cmd":"run","seq":"%b%b' % (seq.encode("ascii"), self.tail)


def tail_of(op: str, args: Members) -> bytes:
    """Encode what follows the `seq` in a request line."""
    text = json.dumps({"op": op, "args": args}, separators=(",", ":"))
    return b'",%b\n' % text[1:].encode("ascii")


@dataclass(slots=True)
class Vectors:
    """What a folder of vectors holds."""

    root: Path
    version: str
    suite_hash: str
    suites: list[Suite] = field(default_factory=list)
    cases: list[Case] = field(default_factory=list)


# --- hashes --------------------------------------------------------------------------------


def suite_hash(version: str, files: Mapping[str, Members]) -> str:
    """Hash the RFC 8785 form of `{version, files}`: names and texts are ASCII, counts integers."""
    table = {
        name: {"cases": files[name]["cases"], "sha256": files[name]["sha256"]}
        for name in sorted(files)
    }
    text = json.dumps({"files": table, "version": version}, separators=(",", ":"))
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def read_manifest(root: Path) -> Members:
    """Read `MANIFEST.json` and check its own hash."""
    try:
        manifest = json.loads((root / "MANIFEST.json").read_bytes())
        expected = suite_hash(manifest["version"], manifest["files"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise VectorsError(f"MANIFEST.json cannot be read: {error}") from error
    if manifest["suite_hash"] != expected:
        raise VectorsError("MANIFEST.json: suite_hash is not the hash of version and files")
    found: Members = manifest
    return found


def check_hash(name: str, data: bytes, entry: Mapping[str, Any]) -> None:
    """Refuse a file that is not the one of the manifest."""
    found = hashlib.sha256(data).hexdigest()
    if found != entry["sha256"]:
        raise VectorsError(
            f"vectors/{name}: SHA-256 is {found}, MANIFEST.json says {entry['sha256']}"
        )


# --- loading -------------------------------------------------------------------------------


def load(root: Path) -> Vectors:
    """Load every suite of a `golden` folder. Raises VectorsError if a file is another one."""
    manifest = read_manifest(root)
    files = manifest["files"]
    folder = root / "vectors"
    on_disk = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    for name in sorted(on_disk ^ set(files)):
        what = "not in" if name in on_disk else "missing, and in"
        raise VectorsError(f"vectors/{name}: {what} MANIFEST.json")
    vectors = Vectors(root, manifest["version"], manifest["suite_hash"])
    for name in sorted(files):
        data = (folder / name).read_bytes()
        check_hash(name, data, files[name])
        add_suite(vectors, name, data)
    return vectors


def add_suite(vectors: Vectors, name: str, data: bytes) -> None:
    """Take in one vector file."""
    content = json.loads(data)
    op = content["op"]
    suite = Suite(name.removesuffix(".json"), op, LEVELS.get(op, OTHER), content["flags"])
    vectors.suites.append(suite)
    for found in content["cases"]:
        vectors.cases.append(case_of(suite, found))


def case_of(suite: Suite, found: Members) -> Case:
    """Build a case from its line in a file."""
    args = found["args"]
    return Case(
        id=found["id"],
        suite=suite,
        flags=found["flags"],
        comment=found.get("comment", ""),
        args=args,
        result=found["result"],
        expect=found["expect"],
        tail=b"" if "script" in args else tail_of(suite.op, args),
        kills=found.get("kills", ()),
    )


# --- selecting -----------------------------------------------------------------------------


def select(
    cases: Iterable[Case],
    *,
    suites: Sequence[str] = (),
    only: Sequence[str] = (),
    entry: str | None = None,
) -> list[Case]:
    """Select cases by suite (globs of `folder` or `folder/file`), by id and by entry.

    Cases without an entry stay with every entry. Raises SelectionError for what names nothing.
    """
    found = list(cases)
    if suites:
        names = {case.suite.name for case in found}
        for glob in suites:
            if not any(in_suite(name, glob) for name in names):
                raise SelectionError(
                    f"--suite {glob}: no suite; there are {', '.join(sorted(names))}"
                )
        found = [case for case in found if any(in_suite(case.suite.name, g) for g in suites)]
    if only:
        wanted = {id.partition("#")[0] for id in only}
        unknown = sorted(wanted - {case.id for case in found})
        if unknown:
            raise SelectionError(f"--only {unknown[0]}: no such case in the selected suites")
        found = [case for case in found if case.id in wanted]
    if entry is not None:
        found = [case for case in found if case.args.get("entry", entry) == entry]
    return found


def in_suite(name: str, glob: str) -> bool:
    """Say whether a glob means this suite, by its whole name or by its folder."""
    return fnmatchcase(name, glob) or fnmatchcase(name.partition("/")[0], glob)
