"""The register holds every claim once, and refuses what does not fit together."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import yaml

from fractal_lba_server.core.faults import DocumentError
from fractal_lba_sim.claims.checking import all_checks
from fractal_lba_sim.claims.register import CLAIMS, Claim, claims_of, load_topics, spec_folder
from fractal_lba_sim.claims.verdicts import COMPUTED

ROOT = Path(__file__).parents[2]
EVERY = claims_of(load_topics())


def test_every_claim_is_there_once() -> None:
    assert tuple(EVERY) == CLAIMS
    assert len(CLAIMS) == 158


def test_every_computed_claim_has_one_function_and_no_other_has_any() -> None:
    computed = {id for id, claim in EVERY.items() if claim.check in COMPUTED}
    assert computed == set(all_checks())


def test_every_claim_names_the_parts_that_the_issue_asks_for() -> None:
    for claim in EVERY.values():
        assert claim.seed, claim.id
        assert claim.words, claim.id
        assert claim.mechanism, claim.id
        assert claim.command, claim.id


@pytest.mark.parametrize(
    "claim", [c for c in EVERY.values() if c.check == "live"], ids=lambda c: c.id
)
def test_a_live_command_names_what_is_in_the_repository(claim: Claim) -> None:
    words = shlex.split(claim.command)
    for word in words:
        if word.endswith(".py") or word.startswith("reference-server/"):
            assert (ROOT / word).exists(), word
    if words[:3] == ["flk-server", "drill", "run"]:
        folder = ROOT / "reference-server/src/fractal_lba_server/drill/scenarios"
        assert (folder / f"{words[3]}.yaml").is_file(), words[3]
    if words[0] == "nox":
        assert words[2] in (ROOT / "noxfile.py").read_text().replace('name="', "def ")
    if words[:2] == ["python", "-m"] and words[2] != "pytest":
        assert (ROOT / (words[2].replace(".", "/") + ".py")).is_file(), words[2]


@pytest.mark.parametrize("claim", EVERY.values(), ids=lambda claim: claim.id)
def test_every_file_that_a_claim_names_is_there(claim: Claim) -> None:
    """What looks like a path in the text of a mechanism is a file of this repository."""
    server = ROOT / "reference-server/src/fractal_lba_server"
    text = f"{claim.mechanism} {claim.why} {claim.measured}"
    for path in re.findall(r"(?<![\w/.-])(?:[\w-]+/)*[\w-]+\.(?:py|md|json|cfg)\b", text):
        homes = [ROOT / path, server / path, server / "core" / path, ROOT / "sdk-python/src" / path]
        assert any(home.exists() for home in homes), path


@pytest.mark.parametrize(
    "claim", [c for c in EVERY.values() if c.measured], ids=lambda claim: claim.id
)
def test_a_committed_measurement_stands_where_the_claim_says(claim: Claim) -> None:
    document, _, said = claim.measured.partition(": ")
    text = (ROOT / document.partition(",")[0]).read_text(encoding="utf-8")
    numbers = re.findall(r"\d[\d,.]*\d|\d", said)
    assert numbers
    assert [number for number in numbers if number not in text] == []


# --- what is refused ------------------------------------------------------------------------


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    for path in spec_folder("claims").glob("*.yaml"):
        (tmp_path / path.name).write_bytes(path.read_bytes())
    return tmp_path


def _change(folder: Path, claim: str, **over: Any) -> None:
    for path in folder.glob("*.yaml"):
        value = yaml.safe_load(path.read_text())
        for row in value["claims"]:
            if row["id"] == claim:
                row.update({name: new for name, new in over.items() if new is not None})
                for name in [name for name, new in over.items() if new is None]:
                    row.pop(name)
        path.write_text(yaml.safe_dump(value, allow_unicode=True))


@pytest.mark.parametrize(
    ("id", "over", "said"),
    [
        ("C034", {"id": "C035", "command": "flk-sim check C035"}, "C035 is there twice"),
        ("C034", {"id": "C035", "command": "flk-sim check C035"}, "C034 is not there"),
        ("C034", {"id": "C159"}, "/claims/"),
        ("C034", {"verdict": "holds"}, "verdict"),
        ("C034", {"check": "believed"}, "/check"),
        ("C034", {"expected": "certain"}, "/expected"),
        ("C034", {"seed": ["somewhere"]}, "/seed"),
        ("C034", {"words": None}, "words"),
        ("C034", {"command": "flk-sim check C035"}, "write: flk-sim check C034"),
        ("C034", {"metric": None}, "add metric"),
        ("C044", {"command": "flk-sim check C044"}, "a live check runs something else"),
        ("C008", {"why": None}, "add why"),
        ("C008", {"expected": "holds"}, "does not fit the check"),
        ("C034", {"expected": "not built"}, "does not fit the check"),
        ("C012", {"missing": None}, "add missing"),
    ],
)
def test_a_faulty_register_is_refused_by_name(
    copy: Path, id: str, over: dict[str, Any], said: str
) -> None:
    _change(copy, id, **over)
    with pytest.raises(DocumentError) as caught:
        load_topics(copy)
    assert said in str(caught.value)


def test_a_copy_that_was_not_changed_is_read(copy: Path) -> None:
    _change(copy, "C000")
    assert claims_of(load_topics(copy)) == EVERY


def test_an_empty_folder_is_no_register(tmp_path: Path) -> None:
    with pytest.raises(DocumentError, match="C001 is not there"):
        load_topics(tmp_path)
