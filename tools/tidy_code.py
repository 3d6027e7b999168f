"""Judge Python: purity, layers, owned rules, comparisons, handlers, skips, lengths.

Owner of the lists that say which modules are pure and which file owns which rule.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass

from tools.tidy_tree import CORE, LIBRARIES, ORACLE, SDK, SERVER, Finding, Source, Tree, imports

FUNCTION_LINES = 70
FILE_LINES = 500
LINE_COLUMNS = 100
TABLES = ("golden/oracle/suites/",)
"""Where each line is a case of a vector file."""

PURE_SDK = (
    "batch", "boxes", "call", "canonical", "endpoints", "errors", "estimate", "held", "http",
    "ids", "keys", "merkle", "outbox", "outcome", "record", "region_status", "retry", "ring",
    "secret", "sign",
)  # fmt: skip
"""Modules of the SDK that reach no clock, chance, socket or file."""

WORLD = frozenset({
    "asyncio", "concurrent", "fcntl", "getpass", "glob", "http.client", "http.server", "io",
    "logging", "mmap", "multiprocessing", "os", "pathlib", "queue", "random", "sched", "secrets",
    "select", "selectors", "shutil", "signal", "socket", "socketserver", "sqlite3", "ssl",
    "subprocess", "tempfile", "threading", "time", "urllib.request", "uuid",
})  # fmt: skip
"""Modules that reach a clock, chance, another thread or the world outside the process."""

WORLD_ALLOWED = {
    (f"{SDK}sign.py", "os"): "from_env reads two variables when the caller asks for it",
}
WORLD_CALLS = {"open", "input", "print", "exit"}
CLOCK_CALLS = {"now", "utcnow", "today"}

LAYERS = (
    ("golden/", ("fractal_lba", "fractal_lba_server", "tools", "demo")),
    (SDK, ("fractal_lba_server", "golden", "tools", "demo")),
    (CORE, ("golden", "tools", "demo")),
    (SERVER, ("golden", "tools", "demo")),
)
"""What each part must not import; dependencies point one way."""

ORACLE_BANNED = frozenset({"json", "decimal", "struct", "math", "orjson", "rfc8785", "numpy"})
"""What would let the oracle parse or print numbers by the means that it judges."""


@dataclass(frozen=True, slots=True)
class OwnedRule:
    """One rule, the file that owns it, and what a second definition looks like."""

    rule: str
    owner: str
    names: frozenset[str]
    shape: str = r"(?!)"


OWNED = (
    OwnedRule(
        "rounding to nine decimals", f"{SDK}canonical.py",
        frozenset({"nano", "round9", "round_9", "number_text"}), r"\* *1e9\b|\b1e9 *\*",
    ),
    OwnedRule(
        "RFC 8785", f"{SDK}canonical.py",
        frozenset({"jcs", "canonicalize", "canonical_json"}), r"sort_keys *= *True|OPT_SORT_KEYS",
    ),
    OwnedRule("strict JSON", f"{SDK}canonical.py", frozenset(), r"\bobject_pairs_hook\b"),
    OwnedRule(
        "leaf hash", f"{SDK}merkle.py",
        frozenset({"leaf_hash", "node_hash", "hash_leaf", "hash_node"}),
        r"sha256\(b[\"']\\x0[01]",
    ),
    OwnedRule("Theil-Sen", f"{SDK}estimate.py", frozenset({"theil_sen", "median_slope"})),
    OwnedRule("identity", f"{SDK}ids.py", frozenset({"derive_pcs_id", "content_digest"})),
    OwnedRule("Retry-After", f"{SDK}retry.py", frozenset({"parse_retry_after"})),
    OwnedRule("hash ring", f"{SDK}ring.py", frozenset({"ring_hash", "hash_point"})),
)  # fmt: skip

OWNED_APART = ("golden/", "tools/", "conformance/")
"""What judges an implementation shares no rule with it; wrong ones break rules on purpose."""

SIGNATURE_WORDS = frozenset({"sig", "signature", "mac", "hmac", "tag", "seal"})
SIGNATURE_ALLOWED = {
    (f"{SDK}keys.py", "signature_text(raw) != sig_text"): "both come from the message: is it"
    " canonical base64?",
}
BROAD = frozenset({"Exception", "BaseException"})
BROAD_ALLOWED = {
    f"{SDK}hooks.py": "a hook of the caller may raise anything and must not fail the call",
}
LONG = re.compile(r"# tidy: long because \w+")
REASON = re.compile(r"^(?:noqa: [A-Z0-9, ]+|type: ignore\[[a-z0-9, -]+\]|pragma: no cover)"
                    r" *(?:-|#) *\w+")  # fmt: skip
MARKER = re.compile(r"# *((?:noqa|type: ignore|pragma: no cover).*)")


def floor_syntax(tree: Tree) -> Iterator[Finding]:
    """Find Python that the oldest supported Python cannot read."""
    for source in tree.python:
        if not source.syntax.body and source.fault:
            what = f"not the syntax of Python 3.11: {source.fault.msg}"
            yield source.found(source.fault.lineno or 1, "syntax", what, "write it for 3.11")


def code_lengths(tree: Tree) -> Iterator[Finding]:
    """Find functions over 70 lines, files over 500 and lines over 100 columns without a reason."""
    fix = "shorten it, or write `# tidy: long because ...` in it"
    for source in tree.own:
        if not (source.is_python or source.path in {".ci/run", "pyproject.toml"}):
            continue
        excused = [n for n, line in enumerate(source.lines, 1) if LONG.search(line)]
        spans = list(functions(source)) if source.is_python else []
        inside = {n for n in excused for _, first, last in spans if first <= n <= last}
        for name, first, last in spans:
            size = last - first + 1
            if size > FUNCTION_LINES and not any(first <= n <= last for n in excused):
                yield source.found(first, "length", f"{name} has {size} lines", fix)
        if set(excused) - inside:
            continue
        if len(source.lines) - 1 > FILE_LINES:
            yield source.found(1, "length", f"the file has {len(source.lines) - 1} lines", fix)
        yield from columns(source)


def columns(source: Source) -> Iterator[Finding]:
    """Find lines over 100 columns, but for URLs, the rows of a table in a test, and vectors."""
    row = (
        re.compile(r"\s*(?:\(|b?r?f?\"|pytest\.param\()") if source.is_test else re.compile("(?!)")
    )
    for number, line in enumerate(source.lines, 1):
        exempt = source.path.startswith(TABLES) or "://" in line or row.match(line)
        if len(line) > LINE_COLUMNS and not exempt:
            fix = "break it, or write `# tidy: long because ...` at the top of the file"
            yield source.found(number, "length", f"{len(line)} columns", fix)


def functions(source: Source) -> Iterator[tuple[str, int, int]]:
    """Yield name, first and last line of every function."""
    for node in source.walk():
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield node.name, node.lineno, node.end_lineno or node.lineno


def pure(tree: Tree) -> Iterator[Finding]:
    """Find a clock, chance, thread, socket or file in `core/` and in the pure SDK modules."""
    modules = {f"{SDK}{name}.py" for name in PURE_SDK}
    fix = "take it as an argument, or move it to an adapter"
    for source in tree.python:
        if not (source.path.startswith(CORE) or source.path in modules):
            continue
        for line, name in imports(source):
            if (source.path, name.partition(".")[0]) in WORLD_ALLOWED:
                continue
            for world in WORLD:
                if name == world or name.startswith(f"{world}."):
                    yield source.found(line, "pure", f"a pure module imports {world}", fix)
        for node in source.walk():
            if isinstance(node, ast.AsyncFunctionDef | ast.Await | ast.AsyncFor | ast.AsyncWith):
                yield source.found(node.lineno, "pure", "a pure module awaits", fix)
            elif isinstance(node, ast.Call) and (outside := world_call(node)):
                yield source.found(node.lineno, "pure", f"a pure module calls {outside}()", fix)


def world_call(node: ast.Call) -> str | None:
    """Name the built-in or clock method that a call reaches, if any."""
    if called(node) in WORLD_CALLS:
        return called(node)
    if isinstance(node.func, ast.Attribute) and node.func.attr in CLOCK_CALLS and not node.args:
        return node.func.attr
    return None


def called(node: ast.Call) -> str:
    """Give the plain name that a call calls, or nothing."""
    return node.func.id if isinstance(node.func, ast.Name) else ""


def layers(tree: Tree) -> Iterator[Finding]:
    """Find imports against the one way: golden, SDK, core, server; core knows no adapter."""
    for source in tree.python:
        part = next((part for part in LAYERS if source.path.startswith(part[0])), None)
        if part is None or source.is_test:
            continue
        in_core = source.path.startswith(CORE)
        for line, name in imports(source):
            top = name.partition(".")[0]
            outside = top == "fractal_lba_server" and not name.startswith("fractal_lba_server.core")
            if top in part[1] or (in_core and outside):
                fix = "depend on the layer below, or pass the value in"
                yield source.found(line, "layers", f"{part[0]} must not import {name}", fix)


def oracle(tree: Tree) -> Iterator[Finding]:
    """Find floats in the oracle, which computes with integers and rationals alone."""
    for source in tree.under(ORACLE):
        if not source.is_python:
            continue
        for line, name in imports(source):
            if name.partition(".")[0] in ORACLE_BANNED:
                what = f"the oracle imports {name.partition('.')[0]}"
                yield source.found(line, "oracle", what, "use integers, Fraction and scanner.py")
        for node in source.walk():
            if isinstance(node, ast.Call) and called(node) in {"float", "round"}:
                what = f"the oracle calls {called(node)}()"
                yield source.found(node.lineno, "oracle", what, "use integers and Fraction")
            elif isinstance(node, ast.Constant) and isinstance(node.value, float):
                what = f"the oracle holds the float {node.value!r}"
                yield source.found(node.lineno, "oracle", what, "use integers and Fraction")


def owned_rules(tree: Tree) -> Iterator[Finding]:
    """Find a second definition of an owned rule; tests and the oracle judge it apart."""
    for source in tree.python:
        if source.is_test or source.path.startswith(OWNED_APART):
            continue
        for rule in OWNED:
            if source.path == rule.owner:
                continue
            fix = f"import it from {rule.owner}"
            for name, line, _ in functions(source):
                if name.strip("_") in rule.names:
                    yield source.found(line, "owned", f"{name} defines {rule.rule} again", fix)
            for number, text in enumerate(source.lines, 1):
                if re.search(rule.shape, text.partition("#")[0]):
                    yield source.found(number, "owned", f"{rule.rule} is written again", fix)


def signature_compared(tree: Tree) -> Iterator[Finding]:
    """Find signatures and MACs that are not compared in constant time."""
    fix = "use hmac.compare_digest"
    for source in tree.python:
        if source.is_test or not source.path.startswith((*LIBRARIES, ORACLE)):
            continue
        for node in source.walk():
            if not isinstance(node, ast.Compare):
                continue
            sides = [node.left, *node.comparators]
            equal = any(isinstance(op, ast.Eq | ast.NotEq) for op in node.ops)
            constant = any(isinstance(side, ast.Constant) for side in sides)
            if (source.path, ast.unparse(node)) in SIGNATURE_ALLOWED:
                continue
            if equal and not constant and any(names_signature(side) for side in sides):
                what = "a signature is compared with == or !="
                yield source.found(node.lineno, "signature", what, fix)


def names_signature(node: ast.expr) -> bool:
    """Say whether an operand is called a signature."""
    name = ""
    if isinstance(node, ast.Name):
        name = node.id
    elif isinstance(node, ast.Attribute):
        name = node.attr
    elif isinstance(node, ast.Subscript) and isinstance(node.slice, ast.Constant):
        name = str(node.slice.value)
    elif isinstance(node, ast.Call):
        return names_signature(node.func) and "compare" not in ast.dump(node.func)
    words = set(name.lower().split("_"))
    return bool(words & SIGNATURE_WORDS) and not words & {"v", "version", "len", "bytes", "alg"}


def broad_except(tree: Tree) -> Iterator[Finding]:
    """Find handlers of everything that neither raise it again nor stand in a `main`."""
    for source in tree.python:
        if source.path in BROAD_ALLOWED:
            continue
        mains = [span for span in functions(source) if span[0] == "main"]
        for node in source.walk():
            if not isinstance(node, ast.ExceptHandler) or not is_broad(node.type):
                continue
            in_main = any(first <= node.lineno <= last for _, first, last in mains)
            last = node.body[-1]
            if not in_main and not (isinstance(last, ast.Raise) and last.exc is None):
                what = "a handler takes every exception"
                fix = "name the exceptions, or raise again at its end"
                yield source.found(node.lineno, "broad", what, fix)


def is_broad(kind: ast.expr | None) -> bool:
    """Say whether a handler's type takes everything; a tuple does if one of its members does."""
    members = kind.elts if isinstance(kind, ast.Tuple) else [kind]
    return any(m is None or (isinstance(m, ast.Name) and m.id in BROAD) for m in members)


def library_prints(tree: Tree) -> Iterator[Finding]:
    """Find libraries that print; commands write through click."""
    for source in tree.python:
        if not source.is_library:
            continue
        for node in source.walk():
            if isinstance(node, ast.Call) and called(node) == "print":
                fix = "return it, log it, or use click.echo in a command"
                yield source.found(node.lineno, "print", "a library prints", fix)


def reasons(tree: Tree) -> Iterator[Finding]:
    """Find disabled lints and skipped tests that do not say why."""
    for source in tree.python:
        for line, comment in source.comments:
            marker = MARKER.search(comment)
            if marker and not REASON.match(marker[1]):
                fix = "name the rule and add ` - why` (after a type: ignore ` # why`)"
                yield source.found(line, "reason", f"`{comment}` gives no reason", fix)
        for node in source.walk():
            if isinstance(node, ast.Call | ast.Attribute) and (name := bare_skip(node)):
                fix = "give reason=..., so that the skip can be counted and judged"
                yield source.found(node.lineno, "reason", f"{name} gives no reason", fix)


def bare_skip(node: ast.Call | ast.Attribute) -> str | None:
    """Name a skip or expected failure of pytest that states no reason."""
    func = node.func if isinstance(node, ast.Call) else node
    if not isinstance(func, ast.Attribute):
        return None
    owner, name = ast.unparse(func.value), func.attr
    if owner not in {"pytest", "pytest.mark"} or name not in SKIPS:
        return None
    if isinstance(node, ast.Attribute):
        return None if owner == "pytest" or name == "skipif" else f"{owner}.{name}"
    given = [k.value for k in node.keywords if k.arg == "reason"]
    if name in {"skip", "xfail", "fail"} and not given:
        given = node.args[:1]
    silent = [v for v in given if isinstance(v, ast.Constant) and not v.value]
    return f"{owner}.{name}" if not given or silent else None


SKIPS = frozenset({"skip", "skipif", "xfail", "importorskip"})


def dead_code(tree: Tree) -> Iterator[Finding]:
    """Find modules that nothing imports and public names that nothing uses."""
    words: dict[str, int] = {}
    for source in tree.own:
        for word in re.findall(r"[A-Za-z_][A-Za-z0-9_]*", source.text):
            words[word] = words.get(word, 0) + 1
    for source in tree.python:
        name = source.path.rpartition("/")[2].removesuffix(".py")
        if not source.is_library or name.startswith("__"):
            continue
        if words.get(name, 0) == 0:
            fix = "remove it, or use it"
            yield source.found(1, "dead", f"nothing imports {name}", fix)
        for node in source.syntax.body:
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                continue
            registered = isinstance(node, ast.FunctionDef) and node.decorator_list
            if not registered and node.name[0] != "_" and words[node.name] == 1:
                fix = "remove it, or use it"
                yield source.found(node.lineno, "dead", f"nothing uses {node.name}", fix)


CHECKS = {
    "syntax": floor_syntax,
    "length": code_lengths,
    "pure": pure,
    "layers": layers,
    "oracle": oracle,
    "owned": owned_rules,
    "signature": signature_compared,
    "broad": broad_except,
    "print": library_prints,
    "reason": reasons,
    "dead": dead_code,
}
