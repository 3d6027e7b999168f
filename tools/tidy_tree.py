"""Give every check one view of the repository: its files, their text, their syntax.

Owner of which files are judged: those that git tracks or would track, so that outputs which
`.gitignore` names are never looked at. Files under `golden/third_party/` belong to other people
and are not judged.
"""

from __future__ import annotations

import ast
import io
import subprocess
import tokenize
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

THIRD_PARTY = "golden/third_party/"
VECTORS = "golden/vectors/"
MUTANTS = "tools/tests/mutants/"
"""Files that break a rule on purpose; each must be found, by the tests of the checks."""

LOCKS = frozenset({"package-lock.json", "go.sum", "go.work.sum", "api.d.ts"})
"""Files that a package client or a generator writes."""

SDK = "sdk-python/src/fractal_lba/"
SERVER = "reference-server/src/fractal_lba_server/"
CORE = f"{SERVER}core/"
ORACLE = "golden/oracle/"
LIBRARIES = (SDK, SERVER)
FLOOR = (3, 11)
"""The oldest Python that every file must be written for."""


@dataclass(frozen=True, slots=True, order=True)
class Finding:
    """One place that breaks a rule; `soft` ones are printed and do not fail."""

    path: str
    line: int
    check: str
    what: str
    fix: str
    soft: bool = False

    def __str__(self) -> str:
        note = " (note)" if self.soft else ""
        return f"{self.path}:{self.line}: {self.check}{note}: {self.what}; {self.fix}"


class Source:
    """One file: bytes, text, lines and syntax, each made at most once."""

    def __init__(self, root: Path, path: str) -> None:
        self.path = path
        self.file = root / path
        self.fault: SyntaxError | None = None

    @cached_property
    def data(self) -> bytes:
        return self.file.read_bytes()

    @cached_property
    def text(self) -> str:
        """The text, or nothing where the file is not UTF-8."""
        try:
            return self.data.decode("utf-8")
        except UnicodeDecodeError:
            return ""

    @cached_property
    def lines(self) -> list[str]:
        return self.text.split("\n")

    @cached_property
    def syntax(self) -> ast.Module:
        """The syntax tree; empty where the file is not Python, which is a finding of its own."""
        try:
            return ast.parse(self.text, self.path, feature_version=FLOOR)
        except SyntaxError as error:
            self.fault = error
            return ast.Module([], [])

    @cached_property
    def comments(self) -> list[tuple[int, str]]:
        """Line and text of every comment of a Python file."""
        if not self.syntax.body:
            return []
        tokens = tokenize.generate_tokens(io.StringIO(self.text).readline)
        return [(t.start[0], t.string) for t in tokens if t.type == tokenize.COMMENT]

    @property
    def is_python(self) -> bool:
        return self.path.endswith((".py", ".pyi"))

    @property
    def is_test(self) -> bool:
        parts = self.path.split("/")
        return "tests" in parts or parts[-1].startswith("test_") or parts[-1] == "conftest.py"

    @property
    def is_library(self) -> bool:
        return self.path.startswith(LIBRARIES)

    def walk(self) -> Iterator[ast.AST]:
        return ast.walk(self.syntax)

    def found(self, line: int, check: str, what: str, fix: str, *, soft: bool = False) -> Finding:
        return Finding(self.path, line, check, what, fix, soft)


class Tree:
    """The judged files of a repository, by path."""

    def __init__(self, root: Path, paths: Sequence[str]) -> None:
        self.root = root
        self.every = {path: Source(root, path) for path in sorted(paths)}
        generated = (THIRD_PARTY, VECTORS, MUTANTS)
        self.own = [
            s
            for p, s in self.every.items()
            if not p.startswith(generated) and p.rpartition("/")[2] not in LOCKS
        ]
        self.python = [s for s in self.own if s.is_python]

    @classmethod
    def of(cls, root: Path) -> Tree:
        """List what git tracks or would track under `root`."""
        done = subprocess.run(
            ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
            cwd=root,
            capture_output=True,
            check=True,
        )
        names = sorted({name for name in done.stdout.decode().split("\0") if name})
        return cls(root, [name for name in names if (root / name).is_file()])

    def get(self, path: str) -> Source | None:
        return self.every.get(path)

    def under(self, *prefixes: str) -> list[Source]:
        return [s for s in self.own if s.path.startswith(prefixes)]

    @cached_property
    def folders(self) -> set[str]:
        """Every folder that holds a file, as a path without a final slash."""
        return {str(parent) for path in self.every for parent in Path(path).parents}


def module_name(path: str) -> str:
    """Name the module of a Python file: `fractal_lba_server.core.ingest`, `golden.oracle`."""
    for home in ("sdk-python/src/", "reference-server/src/"):
        path = path.removeprefix(home)
    return path.removesuffix(".py").removesuffix("/__init__").replace("/", ".")


def imports(source: Source) -> Iterator[tuple[int, str]]:
    """Yield line and absolute name of everything a file imports, at any depth."""
    package = module_name(source.path)
    if not source.path.endswith("__init__.py"):
        package = package.rpartition(".")[0]
    for node in source.walk():
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield node.lineno, alias.name
        elif isinstance(node, ast.ImportFrom):
            base = node.module or ""
            if node.level:
                parents = package.split(".")[: len(package.split(".")) - node.level + 1]
                base = ".".join([*parents, base] if base else parents)
            for alias in node.names:
                yield node.lineno, f"{base}.{alias.name}"
