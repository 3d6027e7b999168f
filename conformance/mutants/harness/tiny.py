"""Make small vectors and small testees, right and wrong ones, for looking at the harness itself.

The vectors have one operation whose answer is one of its arguments, so that a testee is six lines
and every fault in it is meant.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import json
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from flk_conformance import cli
from flk_conformance.vectors import suite_hash

Members = dict[str, Any]
FLAG = {"kind": "correctness", "text": "The argument comes back.", "spec": ["canonical 3.2(4)"]}
AXIS = {
    "kind": "policy", "axis": "verify.off_grid", "text": "A choice.", "spec": ["canonical 3.8(4)"],
}  # fmt: skip

PROGRAM = """
import json, os, signal, sys, time
HELLO = {"protocol": 1, "testee": {"name": "tiny", "version": "1", "language": "python",
         "runtime": "any", "os": "any"}, "ops": ["canon.string"], "levels": ["core"],
         "policies": {"verify.off_grid": "accept"}, "in_flight": 8}
asked = 0
def raw(data):
    while data:
        data = data[os.write(1, data):]
def say(message):
    raw((message if isinstance(message, str) else json.dumps(message)).encode() + b"\\n")
def hello(m): say(HELLO)
def good(m):
    a = m["args"]
    if m["op"] != "canon.string": return {"seq": m["seq"], "skip": {"reason": "unknown"}}
    if "code" in a: return {"seq": m["seq"], "err": {"code": a["code"], "message": "any"}}
    return {"seq": m["seq"], "ok": {"text": a["text"]}}
def run(m): say(good(m))
def bye(): sys.exit(0)
@@
for line in sys.stdin.buffer:
    m = json.loads(line)
    if m["cmd"] == "hello": hello(m)
    elif m["cmd"] == "run":
        asked += 1
        run(m)
    else: break
bye()
"""
"""A right testee, with a place where a wrong one puts its own `hello`, `run` or `bye`."""


def program(folder: Path, body: str = "") -> list[str]:
    """Write a testee and give its command."""
    path = folder / f"testee-{hashlib.sha256(body.encode()).hexdigest()[:12]}.py"
    path.write_text(PROGRAM.replace("@@", body), encoding="utf-8")
    return [sys.executable, "-I", "-S", str(path)]


def case(name: str, **more: Any) -> Members:
    """Give a case; by default a text that comes back."""
    found: Members = {
        "id": f"tiny/{name}", "flags": ["Back"], "args": {"text": name}, "result": "valid",
        "expect": {"text": name}, "since": "1.0.0",
    }  # fmt: skip
    return {**found, **more}


def refused(name: str, code: str = "string_length") -> Members:
    """Give a case that must be refused."""
    return case(name, args={"code": code}, result="invalid", expect={"code": code})


def usual() -> list[Members]:
    """Give the cases of most checks: six that come back and two that are refused."""
    return [*(case(f"c{number}") for number in range(6)), refused("r0"), refused("r1")]


def vectors(
    folder: Path, cases: Iterable[Mapping[str, Any]] | None = None, *, op: str = "canon.string"
) -> Path:
    """Write a folder of vectors with its manifest."""
    listed = sorted(usual() if cases is None else cases, key=lambda each: each["id"])
    used = {name for each in listed for name in each["flags"]}
    flags = {name: found for name, found in {"Axis": AXIS, "Back": FLAG}.items() if name in used}
    content = {
        "$schema": "../../../spec/schemas/vectors.json", "op": op, "version": "1.0.0",
        "source": {"name": "golden/oracle/tiny.py", "sha256": "0" * 64},
        "flags": flags, "cases": listed,
    }  # fmt: skip
    return written(folder / "golden", {"tiny/tiny.json": content})


def written(root: Path, files: Mapping[str, Members]) -> Path:
    """Write vector files and the manifest that fits them."""
    table: dict[str, Members] = {}
    for name, content in files.items():
        path = root / "vectors" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        data = json.dumps(content).encode()
        path.write_bytes(data)
        sha256 = hashlib.sha256(data).hexdigest()
        table[name] = {"cases": len(content["cases"]), "sha256": sha256}
    hashed = suite_hash("1.0.0", table)
    manifest = {"version": "1.0.0", "suite_hash": hashed, "files": table}
    (root / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    return root


def examined(
    folder: Path,
    body: str = "",
    *options: str,
    cases: Iterable[Mapping[str, Any]] | None = None,
) -> tuple[int, str]:
    """Run a testee against small vectors; give the exit code and what was printed."""
    root = vectors(folder, cases)
    words = ["run", "--vectors", str(root), "--timeout", "1", *options, "--"]
    return called([*words, *program(folder, body)])


def called(words: Sequence[str]) -> tuple[int, str]:
    """Call the command in this process; give the exit code and what was printed."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(out):
        code = cli.main(words)
    return code, out.getvalue()
