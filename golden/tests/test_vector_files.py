"""The files on the disk are what the oracle writes, and say what they must."""

from __future__ import annotations

import ast
import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import jsonschema_rs
import pytest

from golden.oracle import __main__ as command
from golden.oracle import closed_codes, manifest
from golden.tests.conftest import GOLDEN, ROOT, cases, load, paths

AT_LEAST = {
    "number": 1000,
    "string": 200,
    "record": 150,
    "reject": 250,
    "hmac": 40,
    "ed25519": 60,
    "verify": 120,
    "sig2": 250,
    "jcs": 100,
    "id": 60,
    "retry": 300,
    "endpoint": 80,
    "http": 150,
    "errors": 60,
    "outbox": 80,
    "ring": 180,
    "reject-http": 200,
    "submit": 100,
}
ALLOWED_IMPORTS = {
    "__future__",
    "ast",
    "base64",
    "collections.abc",
    "dataclasses",
    "fractions",
    "functools",
    "hashlib",
    "hmac",
    "importlib",
    "pathlib",
    "re",
    "sys",
    "typing",
}


@pytest.fixture
def copy(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Give a copy of the vectors that a test may damage."""
    target = tmp_path / "golden"
    for name in ("oracle", "vectors", "third_party"):
        shutil.copytree(GOLDEN / name, target / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(GOLDEN / "MANIFEST.json", target)
    monkeypatch.setattr(manifest, "GOLDEN", target)
    return target


def test_files_are_what_the_oracle_writes() -> None:
    assert manifest.check() == []


@pytest.mark.parametrize("suite", sorted(AT_LEAST))
def test_suite_has_its_number_of_cases(suite: str) -> None:
    assert sum(len(cases(p)) for p in paths() if p.startswith(suite + "/")) >= AT_LEAST[suite]


@pytest.mark.parametrize("path", paths())
def test_file_has_the_published_form(path: str) -> None:
    schema = json.loads((ROOT / "spec/schemas/vectors.json").read_text())
    jsonschema_rs.Draft202012Validator(schema).validate(load(path))


def damage_value(path: Path) -> None:
    path.write_text(path.read_text().replace('"nano":"1"', '"nano":"2"', 1))


def damage_order(path: Path) -> None:
    lines = path.read_text().split("\n")
    at = next(i for i, line in enumerate(lines) if line.startswith('{"id"'))
    lines[at], lines[at + 1] = lines[at + 1], lines[at]
    path.write_text("\n".join(lines))


def damage_line(path: Path) -> None:
    path.write_text(path.read_text().replace(',"args":', ',\n"args":', 1))


def damage_space(path: Path) -> None:
    path.write_text(path.read_text() + "\n")


def damage_id(path: Path) -> None:
    path.write_text(path.read_text().replace('"number/zero"', '"number/one"', 1))


def damage_source(path: Path) -> None:
    path.write_text(path.read_text().replace('"sha256":"', '"sha256":"0', 1))


@pytest.mark.parametrize(
    "damage", [damage_value, damage_order, damage_line, damage_space, damage_id, damage_source]
)
def test_hand_edit_is_found(
    damage: Callable[[Path], None], copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = copy / "vectors/number/number.json"
    before = path.read_text()
    damage(path)
    assert path.read_text() != before
    assert command.main(["check"]) == 1
    assert "number/number.json" in capsys.readouterr().err


def test_added_removed_and_foreign_files_are_found(copy: Path) -> None:
    (copy / "vectors/number/mine.json").write_text("{}")
    assert any("not in MANIFEST" in p for p in manifest.check())
    (copy / "vectors/number/mine.json").unlink()
    (copy / "vectors/jcs/jcs.json").unlink()
    assert any("missing" in p for p in manifest.check())
    manifest.build()
    assert manifest.check() == []
    (copy / "third_party/rfc8785/input/values.json").write_text("{}")
    assert any("third_party" in p for p in manifest.check())


def test_edited_manifest_is_found(copy: Path) -> None:
    path = copy / "MANIFEST.json"
    path.write_text(path.read_text().replace('"version":"1', '"version":"2', 1))
    assert any("suite_hash" in p for p in manifest.check())
    path.unlink()
    assert any("missing" in p for p in manifest.check())


def test_command_builds_checks_and_explains_itself(
    copy: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert command.main(["build"]) == 0
    assert command.main(["check"]) == 0
    assert command.main([]) == 2
    assert "golden.oracle build" in capsys.readouterr().err


def test_oracle_imports_nothing_of_the_repository_and_holds_no_float() -> None:
    for path in (GOLDEN / "oracle").rglob("*.py"):
        tree = ast.parse(path.read_text())
        for node in ast.walk(tree):
            names = []
            if isinstance(node, ast.Import):
                names = [alias.name for alias in node.names]
            elif isinstance(node, ast.ImportFrom):
                names = [node.module or ""]
            for name in names:
                assert name in ALLOWED_IMPORTS or name.startswith("golden.oracle"), (
                    f"{path}: {name}"
                )
            if isinstance(node, ast.Constant):
                assert not isinstance(node.value, float), f"{path}:{node.lineno}"
            if isinstance(node, ast.Name):
                assert node.id not in ("float", "round"), f"{path}:{node.lineno}"
            # Division of integers would make a float; Fraction is built with two arguments instead.
            if isinstance(node, ast.BinOp) and isinstance(node.op, ast.Div):
                assert path.name == "manifest.py", f"{path}:{node.lineno}"


def test_codes_of_the_oracle_are_those_of_the_specification() -> None:
    table = {
        c["code"]: (c["class"], c["fault"], c["status"])
        for c in json.loads((ROOT / "spec/errors.json").read_text())["codes"]
    }
    assert closed_codes.CODES == table


def test_codes_are_sorted_and_their_retries_follow_the_status() -> None:
    codes = json.loads((ROOT / "spec/errors.json").read_text())["codes"]
    assert [c["code"] for c in codes] == sorted(c["code"] for c in codes)
    retried = {408, 425, 429, 500, 502, 503, 504}
    for c in codes:
        errors = c["code"] in ("connect_failed", "connection_lost", "attempt_timeout")
        assert c["retryable"] == (errors or c["status"] in retried)


def test_every_code_on_the_wire_has_a_case() -> None:
    seen = {c["expect"]["code"] for c in cases("errors/errors.json")}
    assert {code for code, row in closed_codes.CODES.items() if row[2] is not None} <= seen


def sentences() -> set[str]:
    """Collect the numbers of the sentences that the pages have."""
    found = set()
    for page in ("canonical", "formats", "retry", "ring"):
        text = (ROOT / f"spec/{page}.md").read_text()
        numbers = re.findall(
            r"^(?:#+ |- \*\*)?(\d+(?:\.\d+)?(?:\(\d+\))?)(?:\*\*|\.? )", text, re.MULTILINE
        )
        found |= {f"{page} {n}" for n in numbers}
    return found


def test_every_cited_sentence_exists() -> None:
    known = sentences()
    for path in paths():
        for name, flag in load(path)["flags"].items():
            for citation in flag["spec"]:
                assert citation in known, f"{path} {name}: {citation}"


def test_expected_codes_are_of_the_closed_list() -> None:
    for path in paths():
        for case in cases(path):
            if case["result"] == "invalid":
                assert case["expect"]["code"] in closed_codes.CODES, case["id"]
            flags = load(path)["flags"]
            assert set(case["flags"]) <= set(flags)
            if case["result"] == "acceptable":
                assert any(flags[f]["kind"] == "policy" for f in case["flags"])
