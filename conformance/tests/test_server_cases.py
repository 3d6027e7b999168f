"""The list of cases: names, citations, and how many there are."""

from __future__ import annotations

import json
import re

import pytest

from flk_conformance.places import golden_dir
from flk_conformance.sentences import all_sentences
from flk_conformance.server import cases
from flk_conformance.server.runner import chosen
from flk_conformance.server.trial import CASES, Case, add, case

ID = re.compile(r"[a-z]+/\d+(\.\d+)*/[a-z0-9.]+(-[a-z0-9.]+)*")

assert cases.__all__


@pytest.mark.parametrize("one", CASES.values(), ids=list(CASES))
def test_case_has_an_id_a_sentence_and_a_text(one: Case) -> None:
    assert ID.fullmatch(one.id)
    assert one.text.endswith(".")
    assert one.cites == "openapi" or one.cites in all_sentences()
    assert one.needs


def test_section_of_an_id_is_that_of_its_sentence() -> None:
    for one in CASES.values():
        if one.cites != "openapi":
            section = one.cites.split()[1].partition("(")[0]
            assert one.id.split("/")[1] == section, (one.id, one.cites)


def test_there_are_enough_cases() -> None:
    batch = [name for name in CASES if name.startswith("batch/")]
    sockets = [name for name in CASES if name.startswith("sockets/")]
    assert (len(batch) >= 90, len(sockets) >= 50, len(CASES) >= 890) == (True, True, True)


def test_every_vector_for_servers_is_a_case() -> None:
    for folder in ("reject-http", "submit", "submit-batch"):
        for path in (golden_dir() / "vectors" / folder).glob("*.json"):
            for vector in json.loads(path.read_bytes())["cases"]:
                name = vector["id"].partition("/")[2]
                assert any(one.endswith("/" + name) for one in CASES), vector["id"]


def test_id_cannot_stand_twice() -> None:
    with pytest.raises(ValueError, match="stands twice"):
        add(next(iter(CASES.values())))


def test_selection_takes_ids_parts_of_ids_and_patterns() -> None:
    assert [one.id for one in chosen(["submit/5.3/1"], strict=False)] == ["submit/5.3/1"]
    assert len(chosen(["submit/5.3"], strict=False)) == 6
    assert {one.id.split("/")[0] for one in chosen(["quota/*"], strict=False)} == {"quota"}
    assert chosen(["submit/5.3/99"], strict=False) == ()


def test_what_should_be_is_judged_only_when_asked_for() -> None:
    every, must = chosen([], strict=True), chosen([], strict=False)
    assert {one.id for one in every} - {one.id for one in must} == {
        one.id for one in CASES.values() if one.should
    }
    assert len(every) > len(must)
    assert chosen(["gate/3.8/2"], strict=False), "by its name it is judged all the same"


def test_docstring_is_the_text_of_a_case() -> None:
    @case("proof/1.1/1", "formats 1.1")
    def run(trial: object) -> None:
        """Say what is right.

        Not this.
        """

    assert CASES.pop("proof/1.1/1").text == "Say what is right."
