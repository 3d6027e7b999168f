"""`flk` on files: keys, build, sign, verify; exit codes and messages. No server is needed here."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import click
import pytest
from flk_runner import KEY, Flk, runner, write_key
from real_data import seattle_weather

from fractal_lba import cli, cli_root
from fractal_lba.canonical import jcs
from fractal_lba.sign import SignedRecord

CSV = "day,a,b\nMo,1,2\nTu,3,4.5\nWe,5,1\n"
BUILD = ["pcs", "build", "data.csv", "--shard-id", "s", "--epoch", "7"]


@pytest.fixture
def flk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Flk:
    """Run `flk` in an empty directory."""
    return runner(tmp_path, monkeypatch, capfdbinary)


@pytest.fixture
def table(flk: Flk) -> Path:
    """Give a small CSV file in the directory of `flk`."""
    path = Path("data.csv")
    path.write_text(CSV)
    return path


# --- the command itself ----------------------------------------------------------------------


def test_help_names_every_command_and_every_command_has_help(flk: Flk) -> None:
    listing = flk("--help")
    assert listing.code == 0
    for name in ("pcs", "sign", "verify", "submit", "get", "keys", "outbox"):
        assert f"\n  {name} " in listing.out
        help_text = flk(name, "--help")
        assert help_text.code == 0
        assert help_text.out.startswith(f"Usage: flk {name}")


def test_no_command_shows_help_and_is_a_usage_error(flk: Flk) -> None:
    done = flk()
    assert (done.code, done.out) == (2, "")
    assert "Commands:" in done.err


def test_version(flk: Flk) -> None:
    assert flk("--version").out.startswith("flk, fractal-lba-python-sdk/")


@pytest.mark.parametrize(
    "arguments",
    [["nope"], ["sign"], ["keys", "new", "--kid"], ["pcs", "build", "x.csv"], ["sign", "-", "-q"]],
)
def test_a_usage_error_is_exit_code_2_for_people_and_for_programs(
    flk: Flk, arguments: list[str]
) -> None:
    done = flk(*arguments)
    assert done.code == 2
    assert "Error: " in done.err
    done = flk(*arguments, "--json")
    assert (done.code, done.out) == (2, "")
    assert done.error()["code"] == "config_invalid"


def test_a_missing_file_is_named(flk: Flk) -> None:
    done = flk("sign", "none.json", "--key-file", "k.json")
    assert (done.code, done.err) == (2, "flk: config_invalid: k.json: No such file or directory\n")


def test_an_interrupt_is_exit_code_130(flk: Flk, monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupted(**options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(cli_root.flk, "main", interrupted)
    assert flk("keys").code == 130


def test_a_reader_that_goes_away_ends_the_command_quietly(tmp_path: Path) -> None:
    records = tmp_path / "records.ndjson"
    key = tmp_path / "k.json"
    key.write_text(json.dumps({"kid": "k", "alg": "HMAC", "tenant": "t", "key": KEY}))
    key.chmod(0o600)
    record = {**_EIGHT, "shard_id": "s" * 200}
    records.write_bytes(b"\n".join([jcs(record)] * 2000))
    command = [sys.executable, "-m", "fractal_lba.cli", "sign", str(records)]
    with subprocess.Popen(
        [*command, "--key-file", str(key)], stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
        assert process.wait() == 1


def test_without_click_flk_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delitem(sys.modules, "fractal_lba.cli_root")
    monkeypatch.setitem(sys.modules, "click", None)
    assert cli.main() == 2
    assert "click is not installed; try: pip install 'fractal-lba[cli]'" in capsys.readouterr().err


def test_another_missing_module_is_no_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(sys.modules, "fractal_lba.cli_root")
    monkeypatch.setitem(sys.modules, "fractal_lba.cli_output", None)
    with pytest.raises(ModuleNotFoundError, match="cli_output"):
        cli.main()


def test_commands_can_be_listed_for_a_shell() -> None:
    context = click.Context(cli_root.flk)
    names = cli_root.flk.list_commands(context)
    commands = [cli_root.flk.get_command(context, name) for name in names]
    assert [command and command.name for command in commands] == names


def test_main_takes_the_arguments_of_the_process(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "argv", ["flk", "keys", "--help"])
    assert cli.main() == 0
    assert "Usage: flk keys" in capsys.readouterr().out


def test_starting_loads_neither_numpy_nor_rich_nor_sockets() -> None:
    program = (
        "import sys; sys.argv = ['flk', '--help']\n"
        "from fractal_lba.cli import main\n"
        "code = main()\n"
        "slow = {'numpy', 'rich', 'cryptography', 'http.client', 'ssl', 'asyncio', 'httpx'}\n"
        "loaded = sorted(slow & set(sys.modules))\n"
        "sys.exit(f'loaded: {loaded}' if loaded else code)\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


# --- keys ------------------------------------------------------------------------------------


def test_a_new_key_is_private_and_only_its_registration_is_printed(flk: Flk) -> None:
    done = flk("keys", "new", "--kid", "k1", "--tenant", "acme", "--out", "k1.json")
    assert done.code == 0
    key = json.loads(Path("k1.json").read_text())
    assert (key["kid"], key["alg"], key["tenant"], len(key["key"])) == ("k1", "HMAC", "acme", 64)
    assert Path("k1.json").stat().st_mode & 0o777 == 0o600
    assert done.out == (
        'version: 1\ntenants:\n  - id: "acme"\n    keys:\n'
        '      - kid: "k1"\n        alg: "HMAC"\n        secret: {"env": "FLK_KEY_K1"}\n'
    )
    assert "FLK_KEY_K1 is to hold" in done.err
    assert key["key"] not in done.out + done.err


def test_the_servers_copy_of_an_hmac_key_is_its_digits(flk: Flk) -> None:
    command = ["keys", "new", "--kid", "k", "--out", "k.json", "--secret-out", "k.hex", "--json"]
    done = flk(*command)
    assert Path("k.hex").read_text().strip() == json.loads(Path("k.json").read_text())["key"]
    assert Path("k.hex").stat().st_mode & 0o777 == 0o600
    assert done.json()["registration"]["secret"] == {"file": str(Path("k.hex").absolute())}
    Path("k.json").unlink()
    again = flk(*command)
    assert (again.code, Path("k.json").exists()) == (2, False)
    assert "never overwritten" in again.error()["message"]


def test_an_ed25519_key_prints_its_public_part_again(flk: Flk) -> None:
    new = flk("keys", "new", "--alg", "Ed25519", "--kid", "k", "--out", "k.json", "--json")
    shown = flk("keys", "show", "k.json", "--json")
    assert new.json() == shown.json()
    assert set(shown.json()["registration"]) == {"kid", "alg", "public_key"}
    refused = flk(
        "keys", "new", "--alg", "Ed25519", "--kid", "k", "--out", "x", "--secret-out", "y"
    )
    assert refused.code == 2
    assert not Path("x").exists()


# --- build -----------------------------------------------------------------------------------


def test_build_prints_the_record_and_says_what_it_took(flk: Flk, table: Path) -> None:
    done = flk(*BUILD)
    assert done.code == 0
    assert done.err == f"{table}: 3 points of 2: a, b\n"
    record = done.json()
    assert done.out.encode() == jcs(record) + b"\n"
    assert (record["shard_id"], record["epoch"], record["scales"]) == (
        "s",
        7,
        [2, 4, 8, 16, 32, 64],
    )
    assert "sig" not in record


def test_build_takes_columns_scales_and_seed_and_writes_a_file(flk: Flk, table: Path) -> None:
    options = ["--columns", "b, a", "--scales", "3,9", "--seed", "5", "--out", "r.json", "--json"]
    done = flk(*BUILD, *options)
    facts = done.json()
    assert (facts["columns"], facts["points"], facts["rows_skipped"]) == (["b", "a"], 3, 0)
    assert json.loads(Path("r.json").read_text()) == facts["record"]
    assert (facts["record"]["scales"], facts["record"]["seed"]) == ([3, 9], 5)


def test_build_counts_the_rows_it_leaves_out(flk: Flk, table: Path) -> None:
    table.write_text(CSV + "Th,,4\n")
    refused = flk(*BUILD, "--columns", "a")
    assert refused.code == 1
    assert (
        "data.csv: line 5: column 'a': expected a finite number, got an empty cell" in refused.err
    )
    done = flk(*BUILD, "--columns", "a", "--skip-bad-rows")
    assert done.code == 0
    assert "1 rows left out" in done.err


@pytest.mark.parametrize(
    ("options", "code", "words"),
    [
        (["--scales", "2,x"], 2, "--scales: expected numbers like 2,4,8"),
        (["--scales", "4,2"], 1, "scales/1"),
        (["--seed", "-1"], 1, "seed"),
        (["--columns", "c"], 1, "column 'c': found 0 times in day, a, b"),
    ],
)
def test_build_refuses_what_it_cannot_use(
    flk: Flk, table: Path, options: list[str], code: int, words: str
) -> None:
    done = flk(*BUILD, *options)
    assert (done.code, done.out) == (code, "")
    assert words in done.err


def test_seattle_weather_end_to_end(flk: Flk) -> None:
    path = str(seattle_weather())
    flk("keys", "new", "--kid", "k", "--tenant", "t", "--out", "k.json")
    done = flk("pcs", "build", path, "--shard-id", "seattle", "--epoch", "2012")
    assert "precipitation, temp_max, temp_min, wind" in done.err
    signed = flk("sign", "-", "--key-file", "k.json", stdin=done.out.encode())
    checked = flk("verify", "-", "--key-file", "k.json", "--json", stdin=signed.out.encode())
    assert checked.json()["pcs_id"] == json.loads(done.out)["pcs_id"]


# --- sign and verify -------------------------------------------------------------------------

_EIGHT = {
    "D_hat": 1.41,
    "budget": 0.42,
    "coh_star": 0.73,
    "epoch": 1,
    "merkle_root": "a" * 64,
    "pcs_id": "a687cafc6f56b4da5a9854606076663877ea5e3660cd739af9147d0904665da2",
    "r": 0.87,
    "shard_id": "shard-001",
}


@pytest.fixture
def key(flk: Flk) -> str:
    """Give a key file of tenant `acme`."""
    return write_key("k.json", kid="k")


def test_a_whole_record_is_signed_by_version_2_and_ready_to_send(
    flk: Flk, table: Path, key: str
) -> None:
    record = flk(*BUILD).out
    signed = flk("sign", "-", "--key-file", key, stdin=record.encode())
    assert signed.code == 0
    sent = SignedRecord.from_json(signed.out.strip().encode())
    assert (sent.kid, sent.tenant) == ("k", "acme")
    checked = flk("verify", "-", "--key-file", key, stdin=signed.out.encode())
    assert checked.out == f"valid  {sent.pcs_id}  version 2, key k\n"


def test_the_options_win_over_key_file_and_environment(
    flk: Flk, key: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("FLK_TENANT", "other")
    source = jcs(_EIGHT)
    assert flk("sign", "-", "--key-file", key, stdin=source).json()["tenant_id"] == "other"
    signed = flk("sign", "-", "--key-file", key, "--tenant", "third", stdin=source).json()
    assert signed["tenant_id"] == "third"


def test_the_key_may_come_from_the_environment(flk: Flk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCS_HMAC_KEY", KEY)
    monkeypatch.setenv("PCS_KID", "from-env")
    source = jcs(_EIGHT)
    for options in ([], ["--env"], ["--env", "--kid", "named", "--alg", "HMAC"]):
        signed = flk("sign", "-", "--tenant", "t", *options, stdin=source)
        assert signed.json()["kid"] == ("named" if "--kid" in options else "from-env")
    monkeypatch.setenv("PCS_KID", "named")
    for options in (["--env"], []):
        checked = flk("verify", "-", "--tenant", "t", *options, stdin=signed.out.encode())
        assert checked.code == 0, checked.err


def test_version_1_needs_neither_tenant_nor_kid(flk: Flk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCS_HMAC_KEY", KEY)
    signed = flk("sign", "-", "--sig-version", "1", stdin=jcs(_EIGHT))
    assert {"sig_v", "kid", "tenant_id"} & set(signed.json()) == set()
    checked = flk("verify", "-", "--json", stdin=signed.out.encode())
    assert checked.json()["sig_v"] == 1
    for options, words in (([], "no name of the key"), (["--kid", "k"], "no tenant")):
        refused = flk("sign", "-", *options, stdin=jcs(_EIGHT))
        assert refused.code == 2
        assert words in refused.err


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ([], "no key: name one with --key-file"),
        (["--env"], "PCS_HMAC_KEY"),
        (["--key-file", "k.json", "--env"], "expected one of them"),
        (["--key-file", "k.json", "--kid", "x"], "--kid x: k.json holds k"),
        (["--key-file", "k.json", "--alg", "Ed25519"], "--alg Ed25519: k.json holds HMAC"),
    ],
)
def test_a_key_that_is_missing_or_another_is_a_usage_error(
    flk: Flk, key: str, options: list[str], words: str
) -> None:
    done = flk("sign", "-", *options, stdin=jcs(_EIGHT))
    assert done.code == 2
    assert words in done.err


def test_the_environment_holds_hmac_keys_only(flk: Flk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PCS_HMAC_KEY", KEY)
    done = flk("sign", "-", "--env", "--alg", "Ed25519", stdin=jcs(_EIGHT))
    assert (done.code, "HMAC keys only" in done.err) == (2, True)
    monkeypatch.setenv("PCS_HMAC_KEY", "no hex")
    for command in ("sign", "verify"):
        done = flk(command, "-", "--env", stdin=jcs(_EIGHT))
        assert done.code in (1, 2)
        assert "no hex" not in done.err
    monkeypatch.delenv("PCS_HMAC_KEY")
    assert "no key" in flk("verify", "-", stdin=jcs(_EIGHT)).err


def test_one_bad_record_spoils_no_other(flk: Flk, key: str) -> None:
    lines = [jcs(_EIGHT), b"{", jcs({**_EIGHT, "r": 2}), b"", jcs({**_EIGHT, "epoch": 2})]
    Path("r.ndjson").write_bytes(b"\n".join(lines))
    signed = flk("sign", "r.ndjson", "--key-file", key, "--json", "--out", "s.ndjson")
    assert (signed.code, signed.out) == (1, "")
    errors = [json.loads(line)["error"] for line in signed.err.splitlines()]
    assert [(e["where"], e["code"]) for e in errors] == [
        ("r.ndjson line 2", "json_malformed"),
        ("r.ndjson line 3", "number_out_of_range"),
    ]
    assert errors[1]["pointer"] == "/r"
    assert len(Path("s.ndjson").read_bytes().splitlines()) == 2


def test_a_changed_record_is_invalid(flk: Flk, key: str) -> None:
    signed = flk("sign", "-", "--key-file", key, stdin=jcs({**_EIGHT, "note": 1})).json()
    lines = jcs(signed) + b"\n" + jcs({**signed, "note": 2})
    done = flk("verify", "-", "--key-file", key, stdin=lines)
    assert done.code == 1
    assert done.out.count("valid") == 1
    assert done.err.startswith("flk: stdin line 2: signature_invalid: ")
    assert "was changed after it was signed" in done.err


def test_strict_refuses_numbers_that_were_not_signed(flk: Flk, key: str) -> None:
    signed = flk("sign", "-", "--key-file", key, "--sig-version", "1", stdin=jcs(_EIGHT)).json()
    moved = jcs({**signed, "r": signed["r"] + 1e-12})
    assert flk("verify", "-", "--key-file", key, stdin=moved).code == 0
    assert flk("verify", "-", "--key-file", key, "--strict", stdin=moved).code == 1


def test_a_public_key_file_checks_and_a_keyring_has_several(flk: Flk, key: str) -> None:
    new = flk("keys", "new", "--alg", "Ed25519", "--kid", "e", "--out", "e.json", "--json").json()
    public = {name: new["registration"][name] for name in ("kid", "alg", "public_key")}
    Path("public.json").write_text(json.dumps(public))
    by_e = flk("sign", "-", "--key-file", "e.json", "--tenant", "acme", stdin=jcs(_EIGHT)).out
    by_k = flk("sign", "-", "--key-file", key, stdin=jcs(_EIGHT)).out
    ring = ["--key-file", key, "--key-file", "public.json", "--tenant", "acme"]
    done = flk("verify", "-", *ring, stdin=(by_e + by_k).encode())
    assert (done.code, done.out.count("valid")) == (0, 2)
    assert flk("verify", "-", "--key-file", "public.json", stdin=by_e.encode()).code == 1


def test_a_key_file_that_others_can_read_is_refused(flk: Flk, key: str) -> None:
    os.chmod(key, 0o644)
    done = flk("sign", "-", "--key-file", key, stdin=jcs(_EIGHT))
    assert done.code == 2
    assert "chmod 600" in done.err
    assert KEY not in done.err
