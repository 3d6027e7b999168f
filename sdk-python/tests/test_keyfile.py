"""Key files: what is written, what is refused, and that nothing prints the secret."""

from __future__ import annotations

import json
import re
import stat
from pathlib import Path
from typing import Any

import pytest

from fractal_lba.errors import ConfigError, FractalLBAError
from fractal_lba.keyfile import (
    KeyFile,
    new_key,
    read_key_file,
    read_token_file,
    registration,
    registration_text,
    write_private,
)
from fractal_lba.secret import Secret
from fractal_lba.sign import check_signature, signature_text

SECRET = "42" * 32
PUBLIC = "2152f8d19b791d24453242e15f2eab6cb7cffa7b6a5ed30097960e069881db12"
"""The Ed25519 public key of the seed 32 x 42h."""


def write(path: Path, members: Any, mode: int = 0o600) -> Path:
    path.write_text(members if isinstance(members, str) else json.dumps(members))
    path.chmod(mode)
    return path


@pytest.mark.parametrize("tenant", [None, "acme"])
@pytest.mark.parametrize("alg", ["HMAC", "Ed25519"])
def test_a_new_key_is_read_back_and_signs_what_it_verifies(
    tmp_path: Path, alg: str, tenant: str | None
) -> None:
    key = new_key(alg=alg, kid="k-1", tenant=tenant)
    path = tmp_path / "k.json"
    write_private(path, key.text())
    found = read_key_file(path)
    assert found == key
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    digest = bytes(32)
    signature = signature_text(found.signer().sign(digest))
    verifier = found.verifier()
    assert (verifier.kid, verifier.alg, verifier.tenant) == ("k-1", alg, tenant)
    check_signature(alg, verifier.key, digest, signature)


def test_two_new_keys_differ() -> None:
    first, second = (new_key(alg="HMAC", kid="k") for _ in range(2))
    assert first.key != second.key


@pytest.mark.parametrize("kid", ["", "a b", "x" * 65, "../k", "k\n"])
def test_a_name_that_no_server_takes_is_refused(kid: str) -> None:
    for names in ({"kid": kid}, {"kid": "k", "tenant": kid}):
        with pytest.raises(ConfigError, match="expected 1 to 64 of"):
            new_key(alg="HMAC", **names)


def test_an_existing_file_is_never_overwritten(tmp_path: Path) -> None:
    path = write(tmp_path / "k.json", "precious")
    with pytest.raises(ConfigError, match="never overwritten"):
        write_private(path, b"new")
    assert path.read_text() == "precious"


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o601])
def test_a_key_that_others_can_read_is_refused(tmp_path: Path, mode: int) -> None:
    path = write(tmp_path / "k.json", {"kid": "k", "alg": "HMAC", "key": SECRET}, mode)
    with pytest.raises(ConfigError, match=r"others can read this key .* chmod 600"):
        read_key_file(path)


def test_a_public_key_may_be_read_by_all_and_cannot_sign(tmp_path: Path) -> None:
    members = {"kid": "k", "alg": "Ed25519", "public_key": PUBLIC}
    found = read_key_file(write(tmp_path / "k.json", members, 0o644))
    assert found.verifier().key == Secret(bytes.fromhex(PUBLIC))
    with pytest.raises(ConfigError, match="public and cannot sign"):
        found.signer()


def test_the_public_key_follows_from_the_seed(tmp_path: Path) -> None:
    members = {"kid": "k", "alg": "Ed25519", "key": SECRET}
    found = read_key_file(write(tmp_path / "k.json", members))
    assert found.public().hex() == PUBLIC


@pytest.mark.parametrize(
    ("members", "words"),
    [
        ("not json", "not the JSON of a key file"),
        ("[]", "not the JSON of a key file"),
        ({"kid": "k", "alg": "HMAC"}, "one of key and public_key"),
        ({"kid": "k", "alg": "Ed25519", "key": SECRET, "public_key": PUBLIC}, "one of key"),
        ({"kid": "k", "key": SECRET}, "expected the texts"),
        ({"kid": 1, "alg": "HMAC", "key": SECRET}, "expected the texts"),
        ({"kid": "k", "alg": "HMAC", "key": SECRET, "note": "x"}, "expected the texts"),
        ({"kid": "k", "alg": "none", "key": SECRET}, "alg: expected HMAC or Ed25519"),
        ({"kid": "k", "alg": "HMAC", "public_key": PUBLIC}, "HMAC has no public_key"),
        ({"kid": "k", "alg": "HMAC", "key": SECRET + "x"}, "hexadecimal"),
    ],
)
def test_what_is_no_key_file_is_refused_by_name_without_its_content(
    tmp_path: Path, members: Any, words: str
) -> None:
    path = write(tmp_path / "k.json", members)
    with pytest.raises(ConfigError, match=words) as caught:
        read_key_file(path)
    assert str(path) in str(caught.value)
    assert SECRET not in str(caught.value)


def test_a_file_too_long_for_a_key_is_not_read_whole(tmp_path: Path) -> None:
    path = write(tmp_path / "k.json", " " * 5000 + json.dumps({"kid": "k"}))
    with pytest.raises(ConfigError, match="not the JSON"):
        read_key_file(path)


def test_a_short_hmac_key_signs_nothing(tmp_path: Path) -> None:
    path = write(tmp_path / "k.json", {"kid": "k", "alg": "HMAC", "key": "42" * 31})
    with pytest.raises(FractalLBAError) as caught:
        read_key_file(path).signer()
    assert caught.value.code == "key_unusable"


def test_the_registration_names_the_key_and_holds_no_secret() -> None:
    seed = Secret(bytes.fromhex(SECRET))
    hmac_key = KeyFile("a.b-1", "HMAC", seed, None, "acme")
    named = {"kid": "a.b-1", "alg": "HMAC", "secret": {"env": "FLK_KEY_A_B_1"}}
    assert registration(hmac_key) == named
    assert registration(hmac_key, secret_file="/k.hex")["secret"] == {"file": "/k.hex"}
    ed25519 = KeyFile("1e5", "Ed25519", seed)
    entry = registration(ed25519)
    assert entry == {"kid": "1e5", "alg": "Ed25519", "public_key": PUBLIC}
    assert registration_text(ed25519, entry) == (
        'version: 1\ntenants:\n  - id: "TENANT"\n    keys:\n'
        f'      - kid: "1e5"\n        alg: "Ed25519"\n        public_key: "{PUBLIC}"'
    )
    for shown in (repr(hmac_key), str(ed25519), registration_text(hmac_key, named)):
        assert SECRET not in shown


def test_the_registration_has_the_form_of_the_tenants_file() -> None:
    schemas = Path(__file__).parents[2] / "spec" / "schemas"
    rules = json.loads((schemas / "tenants.json").read_text())["$defs"]["key"]
    for alg, members in (("HMAC", {"secret"}), ("Ed25519", {"public_key"})):
        entry = registration(new_key(alg=alg, kid="9-a"))
        assert set(entry) == {*rules["required"], *members} <= set(rules["properties"])
    variable = registration(new_key(alg="HMAC", kid="9-a"))["secret"]["env"]
    assert re.match(rules["properties"]["secret"]["properties"]["env"]["pattern"], variable)


def test_a_token_is_the_one_word_of_a_private_file(tmp_path: Path) -> None:
    path = write(tmp_path / "token", "abc-_1\n")
    assert read_token_file(path) == Secret("abc-_1")
    path.chmod(0o640)
    with pytest.raises(ConfigError, match="others can read this token"):
        read_token_file(path)
    for text in ("", "\n", "two words", "caf\u00e9"):
        with pytest.raises(ConfigError, match="one token and nothing else"):
            read_token_file(write(tmp_path / "token", text))
