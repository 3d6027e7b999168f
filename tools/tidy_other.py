"""Judge Go and TypeScript: lengths, purity, bans and owned rules, by their text.

Owner of the lists that say which files of these two SDKs may reach the world. Compilers and
linters judge the rest; what stands here they do not know.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass

from tools.tidy_code import FILE_LINES, FUNCTION_LINES, LINE_COLUMNS
from tools.tidy_tree import Finding, Source, Tree

TEST_COLUMNS = 120
"""A test of one error a line reads better whole."""

GO = "sdk-go/"
TS = "sdk-ts/src/"
EXCUSE = re.compile(r"// tidy: long because \w+")

GO_SHELLS = (
    "client", "clock", "files", "journal", "lock", "logging", "options", "spool", "transport",
    "wire",
)  # fmt: skip
"""Files of sdk-go that may reach clock, chance, sockets, files or goroutines, by their stem's
first word: `files_unix.go` is one of `files`."""

TS_SHELLS = ("client", "clock", "options", "otel", "outboxNode", "transport")
"""Files of sdk-ts that may reach clock, chance, sockets or timers."""

GO_WORLD = re.compile(
    r"^\s*(?:\w+ )?\"(?:net|net/http|os|os/exec|syscall|io/fs|math/rand(?:/v2)?|log|crypto/rand)\"$"
    r"|\btime\.(?:Now|Sleep|After|AfterFunc|NewTimer|NewTicker|Since|Until)\b|^\s*go (?:func|\w)"
)
TS_WORLD = re.compile(
    r"\bDate\.now\b|\bnew Date\(\)|\bperformance\.now\b|\bMath\.random\b|\bsetTimeout\b"
    r"|\bsetInterval\b|\bfetch\(|\bgetRandomValues\b"
)
NODE_FILE = "outboxNode"
"""The one file of sdk-ts that may import `node:`."""


@dataclass(frozen=True, slots=True)
class Ban:
    """What a library must not say, and what it says instead."""

    pattern: re.Pattern[str]
    what: str
    fix: str


GO_BANS = (
    Ban(re.compile(r"\bpanic\("), "a panic", "return an error"),
    Ban(re.compile(r"\bfmt\.Print|\blog\.(?:Print|Fatal|Panic)|\bprintln\("), "a print",
        "log through the client's *slog.Logger"),
    Ban(re.compile(r"bytes\.Equal\([^)]*(?:sig|mac)", re.IGNORECASE), "a signature compared",
        "use subtle.ConstantTimeCompare"),
)  # fmt: skip
TS_BANS = (
    Ban(re.compile(r"\bconsole\."), "a print", "log through the client's logger"),
    Ban(re.compile(r"\bexport default\b"), "a default export", "name the export"),
    Ban(re.compile(r"(?<![.\w])eval\(|new Function\("), "code from text", "write the code"),
    Ban(re.compile(r"\bas any\b|: any\b"), "an any", "say the type, or unknown"),
)  # fmt: skip
OWNED = {
    "rounding to nine decimals": (
        re.compile(r"\* *1e9\b|\b1e9 *\*|\* *(?:1_?000_?000_?000)\b"),
        {"sdk-go/number.go", "sdk-ts/src/number.ts"},
    ),
    "the hash ring": (
        re.compile(r"\b(?:hashPoint|ringHash)\b"), {"sdk-go/ring/ring.go", "sdk-ts/src/ring.ts"},
    ),
}  # fmt: skip
"""Each rule, what it looks like, and its one file in each language."""


def is_go_library(source: Source) -> bool:
    path = source.path
    inside = path.startswith(GO) and path.endswith(".go") and not path.endswith("_test.go")
    return inside and not path.startswith((f"{GO}samples/", f"{GO}internal/"))


def is_ts_library(source: Source) -> bool:
    return source.path.startswith(TS) and source.path.endswith(".ts")


def is_other_code(source: Source) -> bool:
    return source.path.endswith((".go", ".ts", ".mjs", ".js"))


def is_other_test(source: Source) -> bool:
    return source.path.endswith("_test.go") or "/tests/" in source.path


def stem(source: Source) -> str:
    return source.path.rpartition("/")[2].partition(".")[0]


def other_lengths(tree: Tree) -> Iterator[Finding]:
    """Find Go and TypeScript files, functions and lines that are long without a reason."""
    fix = "shorten it, or write `// tidy: long because ...` in it"
    for source in tree.own:
        if not is_other_code(source):
            continue
        excused = [n for n, line in enumerate(source.lines, 1) if EXCUSE.search(line)]
        spans = list(functions(source))
        for name, first, last in spans:
            size = last - first + 1
            if size > FUNCTION_LINES and not any(first <= n <= last for n in excused):
                yield source.found(first, "other-length", f"{name} has {size} lines", fix)
        outside = [n for n in excused if not any(a <= n <= b for _, a, b in spans)]
        if outside:
            continue
        if len(source.lines) - 1 > FILE_LINES:
            what = f"the file has {len(source.lines) - 1} lines"
            yield source.found(1, "other-length", what, fix)
        for number, line in enumerate(source.lines, 1):
            columns = len(line.expandtabs(4))
            most = TEST_COLUMNS if is_other_test(source) else LINE_COLUMNS
            if columns > most and not is_row(source, line):
                yield source.found(number, "other-length", f"{columns} columns", fix)


def is_row(source: Source, line: str) -> bool:
    """Say whether a line is a row of a table, or holds a URL."""
    row = r"\s*[\[{(`'\"]|\s*\w+: " if is_other_test(source) else r"\s*\{\""
    return "://" in line or bool(re.match(row, line))


def functions(source: Source) -> Iterator[tuple[str, int, int]]:
    """Yield name, first and last line of functions that begin and end in the first column."""
    head = re.compile(
        r"(?:export )?(?:async )?func(?:tion)?\*? (?:\([^)]*\) )?(\w+)"
        r"|(?:export )?const (\w+) = (?:async )?(?:function|\([^)]*\).*=> \{$)"
    )
    name, first = "", 0
    for number, line in enumerate(source.lines, 1):
        if match := head.match(line):
            name, first = match[1] or match[2], number
        elif line.startswith("}") and name:
            yield name, first, number
            name = ""


def other_worlds(tree: Tree) -> Iterator[Finding]:
    """Find clocks, chance, sockets and files in the pure files of the Go and TypeScript SDK."""
    fix = "take it as an argument, or move it into a shell"
    for source in tree.own:
        shells: tuple[str, ...]
        if is_go_library(source) and source.path.count("/") == 1:
            pattern, shells = GO_WORLD, GO_SHELLS
        elif is_ts_library(source):
            pattern, shells = TS_WORLD, TS_SHELLS
        else:
            continue
        is_shell = re.split(r"_", stem(source))[0] in shells
        for number, line in enumerate(code(source), 1):
            if not is_shell and (match := pattern.search(line)):
                what = f"a pure file reaches the world: {match[0].strip()}"
                yield source.found(number, "other-pure", what, fix)
            if is_ts_library(source) and "node:" in line and stem(source) != NODE_FILE:
                what = "a module of one runtime"
                yield source.found(number, "other-pure", what, f"move it into {NODE_FILE}.ts")


def other_bans(tree: Tree) -> Iterator[Finding]:
    """Find what a Go or TypeScript library must not say, and second homes of owned rules."""
    for source in tree.own:
        bans = GO_BANS if is_go_library(source) else TS_BANS if is_ts_library(source) else ()
        if not bans:
            continue
        for number, line in enumerate(code(source), 1):
            for ban in bans:
                if ban.pattern.search(line):
                    yield source.found(number, "other-ban", ban.what, ban.fix)
            for rule, (pattern, owners) in OWNED.items():
                if pattern.search(line) and source.path not in owners:
                    owner = next(path for path in sorted(owners) if path[:6] == source.path[:6])
                    yield source.found(
                        number, "other-ban", f"{rule} is written again", f"import it from {owner}"
                    )


def code(source: Source) -> Iterator[str]:
    """Yield each line without its comment; lines inside block comments are empty."""
    inside = False
    for line in source.lines:
        if inside or line.lstrip().startswith(("/*", "*")):
            inside = "*/" not in line and (inside or "/*" in line)
            yield ""
        else:
            yield re.sub(r"(?:^|\s)//.*$", "", line)


CHECKS = {
    "other-length": other_lengths,
    "other-pure": other_worlds,
    "other-ban": other_bans,
}
