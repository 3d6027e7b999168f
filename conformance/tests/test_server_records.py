"""Records and rewritten vectors: the oracle judges what the suite sends."""

from __future__ import annotations

import json
from typing import Any

import pytest
from server_parts import written_home

from flk_conformance.places import golden_dir
from flk_conformance.server.cases.vectors import FILES
from flk_conformance.server.features import Features, load_features
from flk_conformance.server.records import OFF_D_HAT, OFF_REGIME, Records, resigned, signed
from flk_conformance.server.transpose import DefectError, Unsuited, transpose, transpose_batch
from golden.oracle import server, sign

VECTORS = [
    case
    for file in FILES
    if "batch" not in file
    for case in json.loads((golden_dir() / "vectors" / file).read_bytes())["cases"]
]
ROOT = "d4" * 32


@pytest.fixture(scope="module")
def features(tmp_path_factory: pytest.TempPathFactory) -> Features:
    return load_features(written_home(tmp_path_factory.mktemp("home")) / "server.yaml")


def test_fresh_records_are_signed_and_differ(features: Features) -> None:
    records = Records("a")
    for tenant in features.ordinary:
        for key in tenant.keys_with():
            one, two = records.fresh(key), records.fresh(key)
            assert one.pcs_id != two.pcs_id
            ring = [sign.Key(key.kid, key.alg, key.verifying, tenant.id)]
            assert sign.verify(one.body, ring)


def test_records_follow_from_their_name(features: Features) -> None:
    key = features.ordinary[0].keys[0]
    assert Records("a").fresh(key).body == Records("a").fresh(key).body
    assert Records("a").fresh(key).body != Records("b").fresh(key).body


def test_other_signature_is_the_same_content(features: Features) -> None:
    first, second, *_ = features.ordinary[0].keys_with()
    one = Records("a").fresh(first)
    again = [
        resigned(one, second),
        resigned(one, first, version=1),
        resigned(one, first, {"attempt": "9"}),
    ]
    assert {other.content for other in again} == {one.content}
    assert resigned(one, first, {"seed": "1"}).content != one.content
    assert len({other.body for other in again}) == 3


@pytest.mark.parametrize(
    ("changes", "status"), [({}, "200"), (OFF_D_HAT, "202"), (OFF_REGIME, "202")]
)
def test_verdict_is_known_beforehand(
    features: Features, changes: dict[str, str], status: str
) -> None:
    one = Records("a").fresh(features.ordinary[0].keys[0], changes)
    assert one.verdict["status"] == status


def test_record_may_name_another_tenant_than_its_key(features: Features) -> None:
    key = features.ordinary[0].keys[0]
    one = signed(Records("a").members(), key, tenant="somebody")
    assert b'"tenant_id":"somebody"' in one.body


SOME = [one for i, one in enumerate(VECTORS) if i % 4 == 0 or "/sig-" in one["id"]]
"""The others are rewritten in every run of the suite, each under the eyes of the oracle."""


@pytest.mark.parametrize("vector", SOME, ids=[vector["id"] for vector in SOME])
def test_vector_is_judged_alike_after_it_was_rewritten(
    features: Features, vector: dict[str, Any]
) -> None:
    request = transpose(vector, features, ROOT)  # asks the oracle, and raises if it differs
    before = bytes.fromhex(vector["args"]["body"])
    assert b"c3c3c3c3" not in request.body
    assert b"tenant-a" not in request.body
    if b'"sig":"' in before and b"[" not in before[:1]:
        assert request.body != before


BATCHES = [
    case
    for file in FILES
    if "batch" in file
    for case in json.loads((golden_dir() / "vectors" / file).read_bytes())["cases"]
]


@pytest.mark.parametrize("vector", BATCHES, ids=[vector["id"] for vector in BATCHES])
def test_batch_is_judged_alike_after_it_was_rewritten(
    features: Features, vector: dict[str, Any]
) -> None:
    request = transpose_batch(vector, features, ROOT)
    before = bytes.fromhex(vector["args"]["body"])
    assert request.body.count(b"\n") == before.count(b"\n")
    assert b"c3c3c3c3" not in request.body
    assert max(map(len, before.split(b"\n"))) < 65_536 or len(request.body) >= 65_536


def test_size_of_a_vector_is_kept_where_it_matters(features: Features) -> None:
    (vector,) = [one for one in VECTORS if one["id"] == "rejecthttp/text-size-65537"]
    assert len(transpose(vector, features, ROOT).body) == 65_537


def test_vector_without_fitting_tenants_is_unsuited(features: Features) -> None:
    alone = Features(features.tenants[1:2], features.claimed, features.limits, {})
    by_id = {vector["id"]: vector for vector in VECTORS}
    assert transpose(by_id["submit/signed-k1-v2"], alone, ROOT)
    for name in ("submit/signed-k1-v1", "rejecthttp/key-revoked", "rejecthttp/key-k1-tenant-id"):
        with pytest.raises(Unsuited):
            transpose(by_id[name], alone, ROOT)


def test_vector_that_is_judged_otherwise_is_a_defect_of_the_harness(
    features: Features, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(server, "submit", lambda args: {"status": "418"})
    with pytest.raises(DefectError, match="418"):
        transpose(VECTORS[0], features, ROOT)


def test_every_spoiled_signature_is_spoiled_in_the_same_place(features: Features) -> None:
    by_id = {vector["id"]: vector for vector in VECTORS}
    good = transpose(by_id["submit/signed-k1-v2"], features, ROOT)
    assert sign.parse(good.body)["sig"]
    for name, wrong in {
        "sig-k1-leading-space": lambda sig: sig.startswith(" "),
        "sig-k1-no-pad": lambda sig: not sig.endswith("="),
        "sig-k1-extra-pad": lambda sig: sig.endswith("=="),
        "sig-k1-empty": lambda sig: sig == "",
        "sig-k2-bang": lambda sig: sig.startswith("!"),
        "sig-k2-short": lambda sig: len(sig) == 84,
    }.items():
        request = transpose(by_id[f"rejecthttp/{name}"], features, ROOT)
        sig = sign.parse(request.body)["sig"]
        assert wrong(sig), (name, sig)
