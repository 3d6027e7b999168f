"""server.yaml: what it says, and what is refused in it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from server_parts import written_home

from flk_conformance.server.features import FeaturesError, key_bytes, load_features

MAC = {"id": "t1", "kid": "k1", "alg": "HMAC", "key_file": "k1.key"}


def load(folder: Path, document: Any) -> Any:
    (folder / "k1.key").write_text("ab" * 32 + "\n")
    (folder / "server.yaml").write_text(json.dumps(document))
    return load_features(folder / "server.yaml")


def test_home_of_the_reference_server_is_read(tmp_path: Path) -> None:
    features = load_features(written_home(tmp_path) / "server.yaml")
    first, second = features.ordinary
    assert [key.alg for key in first.keys] == ["HMAC", "HMAC", "Ed25519", "Ed25519", "HMAC"]
    assert (first.min_version, second.min_version) == (1, 2)
    assert first.v1_default_kid == "conf-1-mac"
    assert first.key(status="revoked") is not None
    assert first.token is not None
    assert first.token != second.token
    assert features.bounded is not None
    assert features.bounded.quota is not None
    assert features.bounded not in features.ordinary
    assert features.limits.head_timeout_s == 1


def test_what_is_absent_has_its_default(tmp_path: Path) -> None:
    features = load(tmp_path, {"tenants": [MAC]})
    (tenant,) = features.tenants
    assert (tenant.min_version, tenant.token, tenant.quota) == (2, None, None)
    assert features.claimed == {"submit"}
    assert features.limits.record_bytes == 65_536
    assert features.bounded is None


@pytest.mark.parametrize(
    ("document", "said"),
    [
        ([], "expected members"),
        ({}, "tenants: expected a list"),
        ({"tenants": []}, "tenants: expected a list"),
        ({"tenants": [MAC], "more": 1}, "'more' is none of"),
        ({"tenants": [{**MAC, "secret": "x"}]}, "'secret' is none of"),
        ({"tenants": [{"id": "t1"}]}, "kid is missing"),
        ({"tenants": [{**MAC, "alg": "none"}]}, "alg 'none'"),
        ({"tenants": [{**MAC, "status": "gone"}]}, "status 'gone'"),
        ({"tenants": [{**MAC, "key_file": "nowhere"}]}, "nowhere: cannot be read"),
        ({"tenants": [{**MAC, "min_sig_version": 3}]}, "min_sig_version is 1 or 2"),
        ({"tenants": [{**MAC, "token_file": "nowhere"}]}, "no token can be read"),
        ({"tenants": [MAC, MAC]}, "a kid stands twice"),
        ({"tenants": [MAC], "features": ["teleport"]}, "'teleport' is none of"),
        ({"tenants": [MAC], "limits": {"record_bytes": -1}}, "limits.record_bytes"),
        ({"tenants": [MAC], "limits": {"speed": 1}}, "'speed' is none of"),
    ],
)
def test_fault_is_named(tmp_path: Path, document: Any, said: str) -> None:
    with pytest.raises(FeaturesError, match=said):
        load(tmp_path, document)


@pytest.mark.parametrize(
    ("content", "key"),
    [
        (b"00ff\n", b"\x00\xff"),
        (b"00FF", b"\x00\xff"),
        (b"raw key", b"raw key"),
        (b"\x80", b"\x80"),
    ],
)
def test_key_file_holds_digits_or_the_key_itself(
    tmp_path: Path, content: bytes, key: bytes
) -> None:
    (tmp_path / "key").write_bytes(content)
    assert key_bytes(tmp_path / "key", "HMAC") == key


def test_seed_of_another_length_is_refused(tmp_path: Path) -> None:
    (tmp_path / "seed").write_text("00" * 31)
    with pytest.raises(FeaturesError, match="32 bytes, not 31"):
        key_bytes(tmp_path / "seed", "Ed25519")


def test_secrets_are_in_no_text_of_the_features(tmp_path: Path) -> None:
    features = load_features(written_home(tmp_path) / "server.yaml")
    shown = repr(features)
    for tenant in features.tenants:
        assert tenant.token not in shown
        for key in tenant.keys:
            assert repr(key.secret) not in shown
            assert key.secret.hex() not in shown
