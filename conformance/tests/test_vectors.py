"""Vectors are those of their manifest, or nothing runs; and the files keep their form."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import pytest

from flk_conformance import places, vector_files, vectors
from flk_conformance.sentences import parse
from flk_conformance.vectors import LEVELS, SelectionError
from mutants.harness import tiny

GOLDEN = places.golden_dir()
PROTOCOL = (Path(__file__).parents[1] / "PROTOCOL.md").read_text(encoding="utf-8")


@pytest.fixture(scope="module")
def published() -> vectors.Vectors:
    return vectors.load(GOLDEN)


def called(*words: str) -> tuple[int, str]:
    return tiny.called(["vectors", *words])


# --- what is published -----------------------------------------------------------------------


def test_every_operation_has_the_level_that_the_protocol_says(published: vectors.Vectors) -> None:
    """tp.28."""
    rows = [line.split("|")[1:3] for line in PROTOCOL.split("\n") if line.startswith("| `")]
    said = {op.strip(" `"): level.strip() for ops, level in rows for op in ops.split(",")}
    assert said == dict(LEVELS)
    assert {suite.op for suite in published.suites} == set(LEVELS)
    assert {suite.level for suite in published.suites} >= {"core", "client", "outbox", "server"}


def test_typed_records_have_their_eight_members(published: vectors.Vectors) -> None:
    """tp.29, tp.30: without `sig_v`; `--entry` leaves the other cases of `canon.record` out."""
    typed = vectors.select(published.cases, entry="typed")
    mine = [case for case in typed if case.args.get("entry") == "typed"]
    assert mine
    for case in mine:
        assert set(case.args) == {"entry", "values"}
        assert len(case.args["values"]) == 8
    assert not [case for case in typed if case.args.get("entry") == "json"]
    assert len(typed) > len(mine)


def test_absent_parts_of_a_verification_are_tried(published: vectors.Vectors) -> None:
    """tp.31: of each optional member there are cases with it and without."""
    asked = [case.args for case in published.cases if case.op == "verify"]
    for name in ("min_version", "v1_default_kid"):
        assert {name in args for args in asked} == {True, False}
    keys = {frozenset(key) for args in asked for key in args["keyring"]}
    assert keys == {frozenset({"kid", "alg", "key", "tenant"})}


def test_calls_and_options_are_those_of_the_protocol(published: vectors.Vectors) -> None:
    """tp.32, tp.33, tp.34: nothing in a vector that a testee's author could not have read."""
    section = PROTOCOL.partition("## 6.")[2].partition("## 8.")[0]
    clients = [case for case in published.cases if case.suite.level == "client"]
    assert clients
    for case in clients:
        names = {
            *case.args,
            *case.args["options"],
            *(key for call in case.args["calls"] for key in call),
        }
        words = {call["call"] for call in case.args["calls"]}
        scripts = case.args["script"]["servers"]
        by_id = [step for script in scripts for step in script.get("by_id", {}).values()]
        steps = [step for script in scripts for step in script.get("steps", ())] + by_id
        for name in names | words | {key for step in steps for key in step}:
            assert f"`{name}" in section or f'"{name}"' in section, (case.id, name)


def test_no_value_under_test_is_a_number(published: vectors.Vectors) -> None:
    """tp.6."""
    for case in published.cases:
        assert not has_number(case.args), case.id
        assert not has_number(case.expect), case.id


def has_number(value: Any) -> bool:
    if isinstance(value, dict):
        return any(map(has_number, value.values()))
    if isinstance(value, list):
        return any(map(has_number, value))
    return not isinstance(value, str)


# --- hashes ----------------------------------------------------------------------------------


def test_the_suite_hash_is_that_of_the_manifest() -> None:
    manifest = json.loads((GOLDEN / "MANIFEST.json").read_bytes())
    assert vectors.suite_hash(manifest["version"], manifest["files"]) == manifest["suite_hash"]
    name, entry = next(iter(manifest["files"].items()))
    other = {**manifest["files"], name: {**entry, "cases": entry["cases"] + 1}}
    assert vectors.suite_hash(manifest["version"], other) != manifest["suite_hash"]


def spoil_case(root: Path) -> None:
    path = root / "vectors" / "tiny" / "tiny.json"
    path.write_bytes(path.read_bytes().replace(b'"c0"', b'"cX"'))


def spoil_hash(root: Path) -> None:
    path = root / "MANIFEST.json"
    manifest = json.loads(path.read_bytes())
    path.write_text(json.dumps({**manifest, "version": "1.0.1"}), encoding="utf-8")


def forge_hash(root: Path) -> None:
    """Change a case and its hash, and leave the suite hash."""
    spoil_case(root)
    path = root / "MANIFEST.json"
    manifest = json.loads(path.read_bytes())
    data = (root / "vectors" / "tiny" / "tiny.json").read_bytes()
    manifest["files"]["tiny/tiny.json"]["sha256"] = hashlib.sha256(data).hexdigest()
    path.write_text(json.dumps(manifest), encoding="utf-8")


def add_file(root: Path) -> None:
    (root / "vectors" / "tiny" / "more.json").write_text("{}", encoding="utf-8")


def lose_file(root: Path) -> None:
    (root / "vectors" / "tiny" / "tiny.json").unlink()


def break_manifest(root: Path) -> None:
    (root / "MANIFEST.json").write_text("{}", encoding="utf-8")


@pytest.mark.parametrize(
    "spoil", [spoil_case, spoil_hash, forge_hash, add_file, lose_file, break_manifest]
)
def test_other_vectors_than_those_of_the_manifest_end_with_4(tmp_path: Path, spoil: Any) -> None:
    root = tiny.vectors(tmp_path)
    spoil(root)
    code, text = tiny.called(["run", "--vectors", str(root), "--", *tiny.program(tmp_path)])
    assert (code, "MANIFEST.json" in text) == (4, True)
    assert called("hash", "--vectors", str(root))[0] == 4


# --- selecting -------------------------------------------------------------------------------


def test_cases_are_selected_by_suite_and_id(published: vectors.Vectors) -> None:
    cases = published.cases
    assert {case.suite.name for case in vectors.select(cases, suites=["retry"])} == {
        "retry/after", "retry/plan",
    }  # fmt: skip
    assert {case.op for case in vectors.select(cases, suites=["reject*/json", "number"])} == {
        "canon.record", "canon.number",
    }  # fmt: skip
    (one,) = vectors.select(cases, only=["number/tie-1-1024#3"])
    assert one.id == "number/tie-1-1024"
    for bad in ({"suites": ["nothing"]}, {"only": ["number/nothing"]}):
        with pytest.raises(SelectionError):
            vectors.select(cases, **bad)  # type: ignore[arg-type] # one of both
    with pytest.raises(SelectionError):
        vectors.select(cases, suites=["retry"], only=["number/tie-1-1024"])


def test_a_request_is_one_line_that_reads_back(published: vectors.Vectors) -> None:
    for case in published.cases[::97]:
        if not case.is_scripted:
            line = case.request(f"{case.id}#2")
            assert line.count(b"\n") == 1
            assert json.loads(line) == {
                "cmd": "run", "seq": f"{case.id}#2", "op": case.op, "args": case.args,
            }  # fmt: skip


# --- the command -----------------------------------------------------------------------------


def test_published_files_have_their_form_and_no_fault() -> None:
    for words in (("fmt", "--check"), ("lint",)):
        assert called(*words) == (0, "")
    code, text = called("hash")
    assert (code, json.loads((GOLDEN / "MANIFEST.json").read_bytes())["suite_hash"] in text) == (
        0,
        True,
    )


def test_every_must_has_a_case() -> None:
    code, text = called("cover")
    assert (code, "MUST sentences without a case: 0" in text) == (0, True)


def test_sentences_are_read_from_a_page() -> None:
    page = "## 3. Head\n\n### 3.2 Floats\n- **3.2(1)** It MUST be.\n3.3 That.\nno\n"
    found = {each.citation: (each.is_must, each.is_heading) for each in parse("canonical", page)}
    assert found == {
        "canonical 3": (False, True), "canonical 3.2": (False, True),
        "canonical 3.2(1)": (True, False), "canonical 3.3": (False, False),
    }  # fmt: skip
    assert [each.citation for each in parse("retry", "41. A row.\nor not\n")] == ["retry 41"]


def edited(tmp_path: Path, old: bytes, new: bytes) -> str:
    """Copy two published files, change one, and write the manifest that fits them."""
    root = tmp_path / "golden"
    files = {}
    for name in ("hmac/hmac.json", "id/id.json"):
        data = (GOLDEN / "vectors" / name).read_bytes()
        if name == "hmac/hmac.json":
            assert old in data
            data = data.replace(old, new, 1)
        path = root / "vectors" / name
        path.parent.mkdir(parents=True)
        path.write_bytes(data)
        count, sha256 = len(json.loads(data)["cases"]), hashlib.sha256(data).hexdigest()
        files[name] = {"cases": count, "sha256": sha256}
    hashed = vectors.suite_hash("1.0.0", files)
    manifest = {"version": "1.0.0", "files": files, "suite_hash": hashed}
    (root / "MANIFEST.json").write_text(json.dumps(manifest), encoding="utf-8")
    return str(root)


FAULTS = {
    "an id twice": (b'"id":"hmac/drawn-1"', b'"id":"id/base"', "also in"),
    "ids out of order": (b'"id":"hmac/drawn-0"', b'"id":"hmac/zzz"', "ids are not sorted"),
    "no such flag": (b'"flags":["Mac"]', b'"flags":["Mag"]', "unknown or no flags"),
    "no such code": (
        b'"code":"key_unusable"',
        b'"code":"key_useless"',
        "no code of spec/errors.json",
    ),
    "no such sentence": (b'"spec":["canonical ', b'"spec":["retry ', "does not state"),
    "a number": (b'"sig_v":"1"', b'"sig_v":1', "got 1"),
    "an id that is none": (b'"id":"hmac/drawn-0"', b'"id":"hmac/Drawn-0"', "expected a text like"),
    "another result": (b'"result":"valid"', b'"result":"right"', "expected one of valid"),
    "no policy axis": (b'"result":"valid"', b'"result":"acceptable"', "policy axis"),
    "another operation": (b'"op":"sign.hmac"', b'"op":"sign.hmax"', "no level in PROTOCOL.md"),
}


@pytest.mark.parametrize(("old", "new", "word"), FAULTS.values(), ids=FAULTS)
def test_lint_finds_faults(tmp_path: Path, old: bytes, new: bytes, word: str) -> None:
    code, text = called("lint", "--vectors", edited(tmp_path, old, new))
    assert code == 1
    assert word in text


def test_fmt_finds_another_form(tmp_path: Path) -> None:
    code, text = called(
        "fmt", "--check", "--vectors", edited(tmp_path, b'"id":"hmac', b'"id": "hmac')
    )
    assert (code, text.count("hmac/hmac.json")) == (1, 1)
    assert called("fmt")[0] == 2


def test_diff_asks_for_the_right_version(tmp_path: Path) -> None:
    old, new = tmp_path / "old", tmp_path / "new"
    first = tiny.usual()
    here = str(tiny.vectors(old, first))
    assert called("diff", here, str(tiny.vectors(new, first))) == (0, "")
    code, text = called("diff", here, str(tiny.vectors(new, [*first, tiny.case("more")])))
    assert (code, "a minor step" in text, "added: tiny/more" in text) == (1, True, True)
    code, text = called("diff", here, str(tiny.vectors(new, [*first[1:], tiny.refused("c0")])))
    assert (code, "never changes its input" in text) == (1, True)
    result = {**first[0], "expect": {"text": "other"}}
    code, text = called("diff", here, str(tiny.vectors(new, [result, *first[1:]])))
    assert (code, "a major step" in text) == (1, True)
    code, text = called("diff", here, str(tiny.vectors(new, first[1:])))
    assert (code, "not in ids.retired" in text) == (1, True)
    assert called("diff", here)[0] == 2
    assert vector_files.enough("1.0.0", "1.1.0", 1)
    assert vector_files.enough("1.0.0", "2.0.0", 1)
    assert not vector_files.enough("1.0.0", "1.0.1", 1)
    assert not vector_files.enough("1.0.0", "1.9.0", 0)


def test_a_retired_id_never_comes_back(tmp_path: Path) -> None:
    root = tiny.vectors(tmp_path)
    (root / "ids.retired").write_text("tiny/c0\n", encoding="utf-8")
    code, text = called("lint", "--vectors", str(root))
    assert (code, "tiny/c0: a retired id is used again" in text) == (1, True)
