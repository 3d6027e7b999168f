"""Every check finds its mutants and leaves alone what is right.

A mutant file holds small trees: `=== breaks PATH` and `=== keeps PATH` each begin one, and
`=== with PATH` adds a file to it. So that the mutants break no rule where they lie, a `^` in them
is dropped and `<U+2713>` stands for a character. What text cannot say is tested below.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tools import tidy
from tools.tidy_code import PURE_SDK
from tools.tidy_contract import cited, stated
from tools.tidy_text import BLOB_BYTES
from tools.tidy_tree import SDK, Finding, Tree

MUTANTS = Path(__file__).parent / "mutants"
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Mutant:
    name: str
    check: str
    breaks: bool
    path: str
    files: dict[str, str] = field(default_factory=dict)


def mutants() -> list[Mutant]:
    found: list[Mutant] = []
    for file in sorted(MUTANTS.glob("*.txt")):
        text = file.read_text("utf-8").replace("^", "")
        text = re.sub(r"<U\+([0-9A-F]+)>", lambda match: chr(int(match[1], 16)), text)
        parts = re.split(r"^=== (breaks|keeps|with) (\S+)\n", text, flags=re.MULTILINE)
        for kind, path, text in zip(parts[1::3], parts[2::3], parts[3::3], strict=True):
            if kind != "with":
                name = f"{file.stem}-{kind}-{len(found)}"
                found.append(Mutant(name, file.stem, kind == "breaks", path))
            found[-1].files[path] = text
    return found


def tree(folder: Path, files: dict[str, str]) -> Tree:
    for path, text in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_text(text, encoding="utf-8")
    return Tree(folder, list(files))


def judge(folder: Path, files: dict[str, str], check: str) -> list[Finding]:
    return tidy.judge(tree(folder, files), [check])


@pytest.mark.parametrize("mutant", mutants(), ids=lambda mutant: mutant.name)
def test_mutant_is_found_and_what_is_right_is_not(mutant: Mutant, tmp_path: Path) -> None:
    found = judge(tmp_path, mutant.files, mutant.check)
    assert bool(found) == mutant.breaks, found
    for finding in found:
        assert finding.path == mutant.path
        assert 1 <= finding.line <= mutant.files[mutant.path].count("\n") + 1
        assert finding.fix


def test_every_check_has_a_file_of_mutants() -> None:
    assert {file.stem for file in MUTANTS.glob("*.txt")} == set(tidy.CHECKS)


def test_long_function_and_long_file_are_found_unless_they_say_why(tmp_path: Path) -> None:
    body = "    pass\n" * 70
    excuse = "    # tidy: long because it is one table\n"
    assert judge(tmp_path, {"tools/a.py": f"def f():\n{body}"}, "length")
    assert not judge(tmp_path, {"tools/a.py": f"def f():\n{body[9:]}"}, "length")
    assert not judge(tmp_path, {"tools/a.py": f"def f():\n{excuse}{body}"}, "length")
    long = "x = 1\n" * 501
    assert judge(tmp_path, {"tools/a.py": long}, "length")
    assert not judge(tmp_path, {"tools/a.py": long[6:]}, "length")
    assert not judge(tmp_path, {"tools/a.py": f"# tidy: long because\n{long}"}, "form")
    assert judge(tmp_path, {"tools/a.py": f"# tidy: long because\n{long}"}, "length")
    excused = f"{excuse.strip()}\n{long}"
    assert not judge(tmp_path, {"tools/a.py": excused}, "length")


def test_an_excuse_inside_a_function_does_not_excuse_the_file(tmp_path: Path) -> None:
    text = "def f():\n    # tidy: long because it is one table\n    pass\n" + "x = 1\n" * 500
    assert judge(tmp_path, {"tools/a.py": text}, "length")


def test_readme_root_documents_and_root_entries_are_counted(tmp_path: Path) -> None:
    assert judge(tmp_path, {"README.md": "x\n" * 151}, "readme")
    assert not judge(tmp_path, {"README.md": "x\n" * 150}, "readme")
    documents = {f"{letter}.md": "x\n" for letter in "abcdefg"}
    assert judge(tmp_path, documents, "readme")
    del documents["a" + ".md"]
    assert not judge(tmp_path, documents, "readme")
    assert judge(tmp_path, {f"{n}.txt": "x\n" for n in range(24)}, "readme")


def test_large_file_is_found_but_for_those_of_other_people(tmp_path: Path) -> None:
    assert judge(tmp_path, {"docs/a.txt": "x" * (BLOB_BYTES + 1)}, "blob")
    assert not judge(tmp_path, {"docs/a.txt": "x" * BLOB_BYTES}, "blob")
    assert not judge(tmp_path, {"golden/third_party/a.txt": "x" * (BLOB_BYTES + 1)}, "blob")


@pytest.mark.parametrize(
    ("text", "mode", "wrong"),
    [
        ("#!/bin/sh\n", 0o644, True),
        ("#!/bin/sh\n", 0o755, False),
        ("text\n", 0o755, True),
        ("text\n", 0o644, False),
    ],
)
def test_only_scripts_can_be_run(tmp_path: Path, text: str, mode: int, *, wrong: bool) -> None:
    found = tree(tmp_path, {"tools/a": text})
    (tmp_path / "tools/a").chmod(mode)
    assert bool(tidy.judge(found, ["mode"])) == wrong


def test_link_is_found(tmp_path: Path) -> None:
    (tmp_path / "b").write_text("text\n")
    (tmp_path / "a").symlink_to("b")
    assert tidy.judge(Tree(tmp_path, ["a"]), ["mode"])


@pytest.mark.parametrize("data", [b"a\r\n", b"no newline", b"\xff\xfe\n", b"a\0b\n"])
def test_bytes_that_are_no_text_are_found(tmp_path: Path, data: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(data)
    assert tidy.judge(Tree(tmp_path, ["a.txt"]), ["form"])


def test_files_that_git_ignores_are_not_judged(tmp_path: Path) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    for name in ("kept.txt", "made.txt"):
        (tmp_path / name).write_text("x\n")
    (tmp_path / ".gitignore").write_text("made.txt\n")
    assert list(Tree.of(tmp_path).every) == [".gitignore", "kept.txt"]


def test_note_does_not_fail_and_finding_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    subprocess.run(["git", "init", "-q", str(tmp_path)], check=True)
    monkeypatch.setattr(tidy, "ROOT", tmp_path)
    (tmp_path / "README.md").write_text("It takes 5 ms.\n")
    assert tidy.main([]) == 0
    assert "README.md:1: figure (note): the figure '5 ms'" in capsys.readouterr().out
    (tmp_path / "a.log").write_text("x\n")
    assert tidy.main([]) == 1
    assert "a.log:1: debris: an output or a leftover; remove it" in capsys.readouterr().out
    assert tidy.main(["words"]) == 0
    assert tidy.main(["no-such-check"]) == 2


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("spec/canonical.md 3.2(4)", [("canonical", "3.2(4)")]),
        ("canonical 3.2(3)-(4)", [("canonical", "3.2(3)"), ("canonical", "3.2(4)")]),
        ("canonical 3.2(3), 3.5", [("canonical", "3.2(3)"), ("canonical", "3.5")]),
        ("spec/retry.md, sentences 1-9", [("retry", "1"), ("retry", "9")]),
        ("retry 30 and 34", [("retry", "30"), ("retry", "34")]),
        ("retry.md", []),
        ("try 3 retries 2 times", []),
    ],
)
def test_citations_are_read(text: str, found: list[tuple[str, str]]) -> None:
    assert list(cited(text)) == found


@pytest.mark.parametrize(
    ("page", "numbers"),
    [
        ("canonical", {"1.1", "2.5", "3", "3.2", "3.2(4)", "3.10(5)", "4.1", "5.5", "6"}),
        ("retry", {"1", "9", "10", "27", "47"}),
    ],
)
def test_sentences_of_the_specification_are_found(page: str, numbers: set[str]) -> None:
    known = stated((ROOT / "spec" / f"{page}.md").read_text("utf-8"))
    assert numbers <= known
    assert not {"3.2(7)", "48", "9.9"} & known


def test_pure_modules_of_the_sdk_are_there() -> None:
    missing = [name for name in PURE_SDK if not (ROOT / SDK / f"{name}.py").is_file()]
    assert missing == []
