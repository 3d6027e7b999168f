"""Every vector of `http.submit`, sent to a real server over a real socket."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from region import ServerProcess, ask, write_home

from fractal_lba.outcome import Outcome

VECTORS = Path(__file__).resolve().parents[2] / "golden" / "vectors"
SUITES = ("reject-http", "submit")
AT_LEAST = 500


def _cases() -> Iterator[dict[str, Any]]:
    for suite in SUITES:
        for path in sorted((VECTORS / suite).glob("*.json")):
            document = json.loads(path.read_bytes())
            assert document["op"] == "http.submit"
            yield from document["cases"]


CASES = list(_cases())


def _write_tenants(home: Path, tenants: list[dict[str, Any]]) -> None:
    """Write the tenants of the vectors as a tenants file and its key files."""
    written = []
    for tenant in tenants:
        keys = []
        for key in tenant["keys"]:
            entry = {"kid": key["kid"], "alg": key["alg"]}
            entry |= {name: key[name] for name in ("status", "not_after") if name in key}
            if key["alg"] == "HMAC":
                file = home / f"{key['kid']}.key"
                file.write_text(key["key"])
                file.chmod(0o600)
                entry["secret"] = {"file": file.name}
            else:
                entry["public_key"] = key["key"]
            keys.append(entry)
        one: dict[str, Any] = {"id": tenant["id"], "keys": keys}
        one["signing"] = {"min_version": int(tenant["min_version"])}
        if "v1_default_kid" in tenant:
            one["v1_default_kid"] = tenant["v1_default_kid"]
        written.append(one)
    (home / "tenants.yaml").write_text(json.dumps({"version": 1, "tenants": written}))


@pytest.fixture(scope="module")
def judge(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """Run a server that knows the keys of the vectors, and lets strangers fail often."""
    home = write_home(tmp_path_factory.mktemp("vectors"), limits={"unauthenticated_per_s": 1e6})
    _write_tenants(home, CASES[0]["args"]["tenants"])
    process = ServerProcess(home)
    process.start()
    yield process
    assert process.stop() == 0


def test_the_vectors_are_there_and_name_one_set_of_tenants() -> None:
    assert len(CASES) >= AT_LEAST
    assert len({json.dumps(case["args"]["tenants"]) for case in CASES}) == 1


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_vector(case: dict[str, Any], judge: ServerProcess) -> None:
    args, expect = case["args"], case["expect"]
    reply = ask(
        judge.port,
        "POST",
        "/v1/pcs/submit",
        body=bytes.fromhex(args["body"]),
        headers=dict(args["headers"]),
    )
    assert reply.status == int(expect["status"])
    if "code" in expect:
        assert reply.code == expect["code"]
        if "pointer" in expect:  # it says more about some refusals than the vectors ask for
            assert reply.problem["pointer"] == expect["pointer"]
        return
    outcome = reply.outcome
    Outcome.from_json(reply.body)
    assert outcome["pcs_id"] == expect["pcs_id"]
    assert outcome["policy_version"] == expect["policy_version"]
    for name in ("accepted", "escalated"):
        assert str(outcome[name]).lower() == expect[name]
    assert outcome.get("reason") == expect.get("reason")
    for name in ("recomputed_D_hat", "recomputed_budget"):
        assert f'"{name}":{expect[name]}'.encode() in reply.body
