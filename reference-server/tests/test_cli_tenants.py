"""`flk-server tenants`: what an operator types, and what comes back."""

from __future__ import annotations

import hashlib
import json
import os
import stat
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from fractal_lba.errors import ConfigError
from fractal_lba.keyfile import read_key_file, read_token_file
from fractal_lba_server.cli_tenants import kids_of_data, tenants
from fractal_lba_server.core.facts import write_facts
from fractal_lba_server.core.first_write import Apply, Origin, Stored
from fractal_lba_server.core.segment import encode_frame
from fractal_lba_server.store.sqlite import Index
from fractal_lba_server.store.wal import Wal
from fractal_lba_server.tenants import TenantsReader
from fractal_lba_server.yaml_document import parse_document

NOW_MS = 1_767_268_800_000


def run(*arguments: Any) -> Result:
    return CliRunner().invoke(tenants, [str(one) for one in arguments])


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


# --- keys


@pytest.mark.parametrize("alg", ["HMAC", "Ed25519"])
def test_a_new_key_serves_producer_and_server(tmp_path: Path, alg: str) -> None:
    out, secret = tmp_path / "acme.key", tmp_path / "acme.hex"
    more = ["--secret-out", secret] if alg == "HMAC" else []
    result = run(
        "key", "new", "--kid", "acme-1", "--alg", alg, "--tenant", "acme", "--out", out, *more
    )
    assert result.exit_code == 0, result.stderr
    file = tmp_path / "tenants.yaml"
    file.write_text(result.stdout)
    assert run("check", file).exit_code == 0
    directory = TenantsReader(file, environ={}).read().directory
    record = directory.key_for(kid="acme-1", tenant_header=None, now_ms=NOW_MS)
    key_file = read_key_file(out)
    digest = hashlib.sha256(b"record").digest()
    assert (record.tenant, record.alg) == ("acme", alg)
    expected = key_file.public() if alg == "Ed25519" else key_file.verifier().key
    assert record.key == (expected if isinstance(expected, bytes) else expected.reveal())
    assert len(key_file.signer().sign(digest)) in (32, 64)
    assert mode(out) == 0o600
    if alg == "HMAC":
        assert mode(secret) == 0o600


def test_without_a_file_the_entry_names_a_variable(tmp_path: Path) -> None:
    result = run("key", "new", "--kid", "acme.1", "--out", tmp_path / "k")
    entry = parse_document(Path("x"), result.stdout.encode()).value["tenants"][0]["keys"][0]
    assert entry == {"kid": "acme.1", "alg": "HMAC", "secret": {"env": "FLK_KEY_ACME_1"}}


def test_two_keys_are_two_keys(tmp_path: Path) -> None:
    for name in "ab":
        assert run("key", "new", "--kid", name, "--out", tmp_path / name).exit_code == 0
    keys = [json.loads((tmp_path / name).read_bytes())["key"] for name in "ab"]
    assert keys[0] != keys[1]


@pytest.mark.parametrize("form", [[], ["--json"]])
def test_no_key_is_printed(tmp_path: Path, form: list[str]) -> None:
    out, secret = tmp_path / "k", tmp_path / "s"
    result = run("key", "new", "--kid", "a", "--out", out, "--secret-out", secret, *form)
    text = secret.read_text().strip()
    assert len(text) == 64
    assert text not in result.output
    if form:
        assert json.loads(result.stdout)["key"]["kid"] == "a"


@pytest.mark.parametrize("existing", ["k", "s"])
def test_a_key_is_never_overwritten(tmp_path: Path, existing: str) -> None:
    (tmp_path / existing).write_text("mine")
    result = run(
        "key", "new", "--kid", "a", "--out", tmp_path / "k", "--secret-out", tmp_path / "s"
    )
    assert result.exit_code == 1
    assert result.stderr == (
        f"flk-server: {tmp_path / existing}: it exists; a key is never overwritten\n"
    )
    assert [path.name for path in tmp_path.iterdir()] == [existing]
    assert (tmp_path / existing).read_text() == "mine"


def test_a_kid_that_no_server_takes_is_refused(tmp_path: Path) -> None:
    result = run("key", "new", "--kid", "a b", "--out", tmp_path / "k")
    assert (result.exit_code, list(tmp_path.iterdir())) == (1, [])
    assert "kid: expected 1 to 64 of" in result.stderr


def test_an_ed25519_server_has_no_secret(tmp_path: Path) -> None:
    result = run(
        "key", "new", "--kid", "a", "--alg", "Ed25519", "--out", tmp_path / "k",
        "--secret-out", tmp_path / "s",
    )  # fmt: skip
    assert (result.exit_code, list(tmp_path.iterdir())) == (2, [])


def test_a_folder_that_is_not_there_is_said(tmp_path: Path) -> None:
    result = run("key", "new", "--kid", "a", "--out", tmp_path / "nowhere/k")
    assert result.exit_code == 1
    assert "No such file or directory" in result.stderr


# --- tokens


def entry_of(result: Result) -> dict[str, str]:
    text = next(line for line in result.output.splitlines() if line.startswith("  - "))
    (entry,) = parse_document(Path("x"), text.encode()).value
    assert isinstance(entry, dict)
    return entry


def reads(entry: dict[str, str], token: str, tmp_path: Path) -> bool:
    """Tell whether a server with this entry takes the token."""
    file = tmp_path / "tenants.yaml"
    key = {"kid": "k", "alg": "HMAC", "secret": {"env": "K"}}
    tenant = {"id": "acme", "keys": [key], "read_tokens": [entry]}
    file.write_text(json.dumps({"version": 1, "tenants": [tenant]}))
    directory = TenantsReader(file, environ={"K": "ab" * 32}).read().directory
    found = directory.tenant_of_token(token, NOW_MS)
    return found is not None and found.id == "acme"


def test_a_new_token_is_the_only_line_on_standard_output(tmp_path: Path) -> None:
    result = run("token", "new", "--id", "reader-1")
    (token,) = result.stdout.splitlines()
    entry = entry_of(result)
    assert entry["id"] == "reader-1"
    assert reads(entry, token, tmp_path)
    assert not reads(entry, token[:-1] + ("A" if token[-1] != "A" else "B"), tmp_path)


def test_a_token_can_go_to_a_file_that_a_client_takes(tmp_path: Path) -> None:
    out = tmp_path / "token"
    result = run("token", "new", "--id", "reader-1", "--out", out)
    assert mode(out) == 0o600
    token = read_token_file(out).reveal().decode()
    assert token not in result.output
    assert reads(entry_of(result), token, tmp_path)
    again = run("token", "new", "--id", "reader-1", "--out", out)
    assert again.exit_code == 1
    assert read_token_file(out).reveal().decode() == token


def test_a_program_gets_a_token_as_json(tmp_path: Path) -> None:
    found = json.loads(run("token", "new", "--id", "r", "--json").stdout)
    assert reads(found["read_token"], found["token"], tmp_path)
    out = tmp_path / "token"
    found = json.loads(run("token", "new", "--id", "r", "--json", "--out", out).stdout)
    assert list(found) == ["read_token"]


def test_a_token_with_a_name_that_no_server_takes_is_refused() -> None:
    result = run("token", "new", "--id", "a b")
    assert result.exit_code == 2
    assert "--id: expected 1 to 64 of" in result.stderr


# --- check

GOOD = """version: 1
tenants:
  - id: acme
    keys:
      - {kid: acme-1, alg: HMAC, secret: {env: FLK_TEST_KEY}}
    read_tokens:
      - {id: t, sha256: "0000000000000000000000000000000000000000000000000000000000000000"}
"""


@pytest.fixture
def good(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("FLK_TEST_KEY", "ab" * 32)
    file = tmp_path / "tenants.yaml"
    file.write_text(GOOD)
    return file


def test_a_good_file_is_counted(good: Path) -> None:
    result = run("check", good)
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{good}: no faults (1 tenants, 1 keys, 1 read tokens)\n"
    assert json.loads(run("check", good, "--json").stdout) == {
        "faults": [], "tenants": 1, "keys": 1, "read_tokens": 1,
    }  # fmt: skip


def test_a_bad_file_is_said_with_lines_and_fixes(good: Path) -> None:
    good.write_text(GOOD.replace("alg: HMAC", "algo: HMAC"))
    result = run("check", good)
    assert (result.exit_code, result.stdout) == (1, "")
    assert f'{good}:5: /tenants/0/keys/0/algo: unknown key; did you mean "alg"?' in result.stderr
    faults = json.loads(run("check", good, "--json").stdout)["faults"]
    assert {
        "pointer": "/tenants/0/keys/0/algo",
        "problem": "unknown key",
        "fix": 'did you mean "alg"?',
        "text": f'{good}:5: /tenants/0/keys/0/algo: unknown key; did you mean "alg"?',
    } in faults


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    result = run("check", tmp_path / "nothing.yaml")
    assert result.exit_code == 1
    assert "No such file or directory" in result.stderr


def test_a_secret_is_checked_where_the_command_runs(
    good: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("FLK_TEST_KEY")
    assert "this environment variable is not set" in run("check", good).stderr


# --- the kids of a data directory


def frame(seq: int, kid: str) -> bytes:
    meta = write_facts(
        content="0" * 64, kid=kid, outcome=b'{"pcs_id":"%b"}' % (b"a" * 64), sig_v=2, status=200,
        policy_version="0" * 16, tenant="acme",
    )  # fmt: skip
    return encode_frame(seq=seq, hlc=seq, meta=meta, body=b"{}")


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Lay out a directory whose log names three kids, the first of them in the index too."""
    place = tmp_path / "data"
    stream = place / "wal" / "open"
    stream.mkdir(parents=True)
    (place / "region.json").write_text('{"region": "loc", "region_epoch": 1}')
    index = Index(place / "index.sqlite")
    applied = Stored(1, "0" * 64, 200, b"{}", Origin("loc", "open", 1), 1)
    index.apply([Apply(("acme", "a" * 64), applied, "acme-1")])
    index.close()
    wal = Wal(stream, notify=lambda _: None, applied_seq=0)
    wal.start()
    wal.append([(seq, frame(seq, f"acme-{seq}")) for seq in (1, 2, 3)])
    wal.stop()
    return place


def test_the_log_of_a_directory_names_its_kids(data: Path) -> None:
    assert kids_of_data(data) == {"acme-1", "acme-2", "acme-3"}


def test_the_removal_of_a_key_that_the_log_names_is_refused(good: Path, data: Path) -> None:
    result = run("check", good, "--data", data)
    assert result.exit_code == 1
    assert [line.partition(": ")[2] for line in result.stderr.splitlines()] == [
        f'/tenants: the key "{kid}" is gone, but records in the log were signed with it; '
        "put it back with status: revoked"
        for kid in ("acme-2", "acme-3")
    ]


def test_a_frame_that_is_half_written_is_no_damage(data: Path) -> None:
    (segment,) = (data / "wal/open").glob("*.open")
    content = bytearray(segment.read_bytes())
    at = content.index(b"acme-3")
    content[at : at + 6] = bytes(6)
    segment.write_bytes(content)
    assert kids_of_data(data) == {"acme-1", "acme-2"}


def test_damage_in_a_closed_segment_is_said(data: Path) -> None:
    (segment,) = (data / "wal/open").glob("*.open")
    content = bytearray(segment.read_bytes())
    content[content.index(b"acme-2")] ^= 1
    segment.with_suffix(".wal").write_bytes(content)
    segment.unlink()
    with pytest.raises(ConfigError, match=r"seg-0000000000000001\.wal"):
        kids_of_data(data)


def test_another_folder_is_no_data_directory(good: Path, tmp_path: Path) -> None:
    result = run("check", good, "--data", tmp_path)
    assert result.exit_code == 1
    assert result.stderr == f"flk-server: {tmp_path}: not a data directory of flk-server\n"
    assert not os.path.lexists(tmp_path / "index.sqlite")
