"""`flk-server tiers`: what it says, what it refuses, and what it writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from tier_parts import key_of, run, stored_of

from fractal_lba_server.cli_tiers import tiers
from fractal_lba_server.core.first_write import Apply
from fractal_lba_server.store.data_dir import DataDir
from fractal_lba_server.store.index_cold import IndexWarm
from fractal_lba_server.store.sqlite import Index
from fractal_lba_server.store.tiers.lineage import read_lineage

OLD_MS = 1_700_000_000_000
"""Long ago: the commands have the clock of the machine."""

COUNT = 12


def flk(*words: object) -> Result:
    """Run a command."""
    return CliRunner().invoke(tiers, [str(word) for word in words])


@pytest.fixture
def config(tmp_path: Path) -> Path:
    """Make a data directory with old outcomes, a policy, and the file that names them."""
    data = DataDir.open(tmp_path / "data", region="eu1")
    index = Index(data.index)
    rows = []
    for number in range(1, COUNT + 1):
        key = key_of(number)
        rows.append(Apply(key, stored_of(key, number, at_ms=OLD_MS), "kid"))
    index.apply(rows)
    index.close()
    data.close()
    (tmp_path / "tiers.yaml").write_text("version: 1\n")
    path = tmp_path / "flk.yaml"
    path.write_text(
        f"data: data\nregion: eu1\n"
        f"tiers: {{policy_file: tiers.yaml, cold: 'file://{tmp_path}/cold'}}\n"
    )
    return path


def objects(config: Path) -> list[Path]:
    return sorted((config.parent / "cold").rglob("*.cold"))


def said(result: Result) -> Any:
    """Read the one JSON object that a command printed."""
    assert result.exit_code == 0, result.output
    return json.loads(result.output)


def test_pass_of_the_mover_from_dry_run_to_status(config: Path) -> None:
    would = said(flk("move", "--config", config, "--dry-run", "--json"))
    assert (would["payloads"], would["objects"], would["dry_run"]) == (COUNT, 1, True)
    assert objects(config) == []
    assert "moved 12 payloads into 1 objects" in flk("move", "--config", config).output
    assert len(objects(config)) == 1
    status = said(flk("status", "--config", config, "--json"))
    assert status["cold"]["payloads"] == COUNT
    assert status["warm"]["payloads"] == 0
    assert status["tenants"] == ["acme"]
    text = flk("status", "--config", config).output
    assert "cold: 12 payloads" in text
    assert "no move is under way" in text
    assert "moved 0 payloads" in flk("move", "--config", config).output


def test_verify_finds_every_damage(config: Path) -> None:
    flk("move", "--config", config)
    assert "1 objects, 12 payloads compared\nclean" in flk("verify", "--config", config).output
    (path,) = objects(config)
    whole = path.read_bytes()
    for wrong in (whole[:-1], whole[:100] + b"x" + whole[101:], b""):
        path.chmod(0o600)
        path.write_bytes(wrong)
        result = flk("verify", "--config", config)
        assert result.exit_code == 1
        assert "fault: open/t-acme/" in result.output
    path.unlink()
    result = flk("verify", "--config", config, "--json")
    assert result.exit_code == 1
    assert "not there" in json.loads(result.output)["faults"][0]


def test_object_that_nothing_points_to_is_named_and_removed_when_asked(config: Path) -> None:
    flk("move", "--config", config)
    stray = config.parent / "cold" / "open" / "t-acme" / ("0" * 64 + ".cold")
    stray.write_bytes(b"x")
    assert "nothing points to open/t-acme/000" in flk("verify", "--config", config).output
    assert stray.exists()
    result = flk("verify", "--config", config, "--remove-unknown")
    assert "removed 1 objects" in result.output
    assert len(objects(config)) == 1
    assert flk("verify", "--config", config).exit_code == 0


def test_object_of_other_payloads_is_found(config: Path) -> None:
    flk("move", "--config", config)
    index = IndexWarm(None, config.parent / "data" / "index.sqlite")
    index._writer.execute("UPDATE outcomes SET content = x'00' WHERE number = 3")
    run(index.close())
    result = flk("verify", "--config", config)
    assert result.exit_code == 1
    assert "is not the payload that warm expects" in result.output


def test_payloads_are_brought_up_ahead_of_their_readers(config: Path) -> None:
    flk("move", "--config", config)
    assert (
        "brought 5 payloads"
        in flk("warm", "--config", config, "--tenant", "acme", "--limit", 5).output
    )
    status = said(flk("status", "--config", config, "--json"))
    assert (status["warm"]["payloads"], status["cold_reads"]) == (5, 5)
    assert len(list(read_lineage(config.parent / "data" / "cold-reads"))) == 5
    again = said(flk("warm", "--config", config, "--tenant", "acme", "--json"))
    assert again == {"brought": COUNT - 5}


@pytest.mark.parametrize(
    ("policy", "words"),
    [
        ("default: {cold_reads_per_s: 0, cold_reads_burst: 1}", "budget of cold reads is used up"),
        ("default: {cold_reads_per_s: 1000, cold_reads_burst: 1}", "brought 12 payloads"),
    ],
)
def test_warming_waits_for_the_budget_but_not_for_ever(
    config: Path, policy: str, words: str
) -> None:
    flk("move", "--config", config)
    (config.parent / "tiers.yaml").write_text(f"version: 1\n{policy}\n")
    assert words in flk("warm", "--config", config, "--tenant", "acme").output


def test_warming_says_what_cannot_be_read(config: Path) -> None:
    flk("move", "--config", config)
    objects(config)[0].unlink()
    result = flk("warm", "--config", config, "--tenant", "acme")
    assert result.exit_code == 1
    assert "cold cannot be read" in result.output


def test_warming_says_what_has_ended(config: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from fractal_lba_server.tiers import Ended, Tiers

    async def bring(self: Tiers, row: Any) -> Ended:
        return Ended()

    flk("move", "--config", config)
    monkeypatch.setattr(Tiers, "bring", bring)
    result = flk("warm", "--config", config, "--tenant", "acme")
    assert result.exit_code == 1
    assert "its time is over" in result.output


def test_move_that_stopped_says_so_and_the_next_one_goes_on(config: Path) -> None:
    (config.parent / "cold").mkdir()
    (config.parent / "cold" / "open").write_bytes(b"a file where a folder should be")
    result = flk("move", "--config", config)
    assert result.exit_code == 1
    assert "the pass stopped, and the next one goes on: cold: create" in result.output
    assert "a move is under way: demote" in flk("status", "--config", config).output
    (config.parent / "cold" / "open").unlink()
    assert flk("move", "--config", config).exit_code == 0
    assert "12 payloads compared" in flk("verify", "--config", config).output


def test_directory_in_use_is_refused(config: Path) -> None:
    data = DataDir.open(config.parent / "data")
    result = flk("status", "--config", config)
    data.close()
    assert result.exit_code == 1
    assert "flk-server: " in result.output


def test_records_go_along_where_the_policy_says_so(config: Path) -> None:
    """No log is in this directory: the records are empty, and the outcomes are kept."""
    (config.parent / "tiers.yaml").write_text("version: 1\nrecords: true\n")
    assert said(flk("move", "--config", config, "--json"))["payloads"] == COUNT


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("data: data\nregion: eu1\n", "names no tiers.policy_file"),
        ("data: 3\n", "expected text"),
        ("data: data\ntiers: {policy_file: tiers.yaml, cold: 'ftp://x'}\n", "expected file:"),
        ("data: data\ntiers: {policy_file: none.yaml, cold: 'memory:'}\n", "none.yaml"),
    ],
)
def test_server_file_without_tiers_is_refused(config: Path, text: str, words: str) -> None:
    config.write_text(text)
    result = flk("status", "--config", config)
    assert result.exit_code == 1
    assert words in result.output


def test_check_says_every_fault_of_a_policy(tmp_path: Path) -> None:
    path = tmp_path / "tiers.yaml"
    path.write_text("version: 1\ntenants: {premium: {hot_ttl: 7200}}\n")
    assert "no faults (the default and 1 tenants)" in flk("check", path).output
    assert said(flk("check", path, "--json")) == {"faults": [], "tenants": 1}
    path.write_text("version: 1\ndefault: {promote_on: x, cold_ttl: 5}\n")
    result = flk("check", path)
    assert result.exit_code == 1
    assert len(result.output.splitlines()) == 3
    faults = json.loads(flk("check", path, "--json").output)["faults"]
    assert {fault["pointer"] for fault in faults} == {"/default/promote_on", "/default/cold_ttl"}
    assert flk("check", tmp_path / "none.yaml").exit_code == 1


def test_check_knows_the_dedup_horizons(tmp_path: Path) -> None:
    path, policy = tmp_path / "tiers.yaml", tmp_path / "policy.yaml"
    path.write_text("version: 1\ndefault: {cold_ttl: 1209600}\n")
    policy.write_text("version: 1\ndefault: {dedup_ttl: 14d}\n")
    assert flk("check", path).exit_code == 1
    assert flk("check", path, "--policy", policy).exit_code == 0
    policy.write_text("version: 1\ndefault: {dedup_ttl: 15d}\n")
    assert "before the dedup horizon" in flk("check", path, "--policy", policy).output


def test_lifecycle_is_printed_or_refused(tmp_path: Path) -> None:
    path, policy = tmp_path / "tiers.yaml", tmp_path / "policy.yaml"
    path.write_text("version: 1\ntenants: {brief: {cold_ttl: 2592000}}\n")
    policy.write_text("version: 1\ntenants: {brief: {dedup_ttl: 14d}}\n")
    printed = said(flk("lifecycle", path, "--policy", policy, "--move-days", 30))
    assert [rule["Filter"]["Prefix"] for rule in printed["Rules"]] == ["open/t-brief/", "open/"]
    result = flk("lifecycle", path, "--policy", policy, "--expire-days", 90)
    assert result.exit_code == 1
    assert "kept for ever" in result.output
    glacier = flk("lifecycle", path, "--policy", policy, "--storage-class", "GLACIER")
    assert "minutes to hours" in glacier.output
    path.write_text("version: 1\ndefault: {cold_ttl: 2592000}\n")
    policy.write_text("version: 1\ndefault: {dedup_ttl: 14d}\n")
    printed = said(flk("lifecycle", path, "--policy", policy, "--expire-days", 90))
    assert printed["Rules"][0]["Expiration"] == {"Days": 90}


def test_capacity_is_printed() -> None:
    figures = said(flk("capacity", "--rate", 2000, "--bytes", 1000, "--json"))
    assert figures["hot_bytes"] == pytest.approx(7.2e9 * 3.8)
    text = flk("capacity", "--rate", 2000, "--bytes", 1000, "--cold-share", 0.1).output
    assert "27.36 GB" in text
    assert flk("capacity", "--rate", 1, "--hot-share", 0.9, "--cold-share", 0.2).exit_code == 2
