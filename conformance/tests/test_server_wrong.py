"""Wrong servers: the list is whole, and what it says of some of them is so.

All of them are run by `python -m flk_conformance.mutate_servers`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from flk_conformance import mutate_servers
from flk_conformance.checkout import part
from flk_conformance.mutate_servers import load_list

sys.path.append(str(part("mutants/servers")))
sys.path.append(str(part("control")))

from wrong_rules import RULES


def run(*words: str) -> int:
    parser = mutate_servers.argparse.ArgumentParser()
    mutate_servers.add_arguments(parser)
    return mutate_servers.execute(parser.parse_args(list(words)))


def test_every_wrong_server_is_listed_with_two_killers_at_least() -> None:
    listed = load_list()
    assert [one.id for one in listed] == sorted(RULES)
    assert [one.id for one in listed] == [f"X{n:02}" for n in range(1, 17)]
    assert all(len(set(one.killed_by)) >= 2 for one in listed)


@pytest.mark.parametrize("line", ['killed_by = ["submit/5.3/1"]', 'killed_by = ["a/1/1", "b/1/1"]'])
def test_list_that_proves_nothing_is_refused(tmp_path: Path, line: str) -> None:
    path = tmp_path / "servers.toml"
    path.write_text(f'[[server]]\nid = "X99"\ntext = "t"\n{line}\n')
    with pytest.raises(ValueError, match="X99"):
        load_list(path)


@pytest.mark.parametrize("name", ["X01", "X13"])
def test_wrong_server_is_caught(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("--only", name) == 0
    assert f"{name}: caught" in capsys.readouterr().out


def test_wrong_server_that_nobody_notices_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    harmless = mutate_servers.WrongServer("X13", "t", ("health/9.1/1", "health/9.1/2"))
    monkeypatch.setattr(mutate_servers, "load_list", lambda: (harmless,))
    assert run() == 1
    assert "X13: SURVIVES health/9.1/1, health/9.1/2" in capsys.readouterr().out


def test_case_that_fails_on_the_clean_server_is_reported(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    everywhere = {"health/9.1/1", "health/9.1/2"}
    one = mutate_servers.WrongServer("X13", "t", tuple(sorted(everywhere)))
    monkeypatch.setattr(mutate_servers, "load_list", lambda: (one,))
    monkeypatch.setattr(mutate_servers, "_failing", lambda *_: everywhere)
    assert run() == 1
    assert "2 cases fail on the clean server" in capsys.readouterr().out
