"""Every vector of `http.submit` and `http.batch`, sent to a real server over a real socket."""

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
BATCHES = [
    case
    for path in sorted((VECTORS / "submit-batch").glob("*.json"))
    for case in json.loads(path.read_bytes())["cases"]
]
BATCHES_AT_LEAST = 40


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
    assert len(BATCHES) >= BATCHES_AT_LEAST
    assert len({json.dumps(case["args"]["tenants"]) for case in [*CASES, *BATCHES]}) == 1


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
    Outcome.from_json(reply.body)
    assert outcome_facts(reply.outcome, reply.body, expect) == {
        name: value for name, value in expect.items() if name != "status"
    }


def outcome_facts(outcome: dict[str, Any], body: bytes, expect: dict[str, str]) -> dict[str, str]:
    """Give an outcome as the vectors write it, its numbers as they stand in the body."""
    facts = {
        name: outcome[name] for name in ("pcs_id", "policy_version", "reason") if name in outcome
    }
    for name in ("accepted", "escalated"):
        facts[name] = str(outcome[name]).lower()
    for name in ("recomputed_D_hat", "recomputed_budget"):
        there = f'"{name}":{expect[name]}'.encode() in body
        facts[name] = expect[name] if there else json.dumps(outcome[name])
    return facts


@pytest.mark.parametrize("case", BATCHES, ids=[case["id"] for case in BATCHES])
def test_batch(case: dict[str, Any], judge: ServerProcess) -> None:
    args, expect = case["args"], case["expect"]
    body, headers = bytes.fromhex(args["body"]), dict(args["headers"])
    reply = ask(judge.port, "POST", "/v1/pcs/batch", body=body, headers=headers)
    if "code" in expect:
        assert reply.code == expect["code"]
        return
    assert str(reply.status) == expect["status"]
    lines = reply.body.splitlines(keepends=True)
    assert len(lines) == len(expect["items"])
    for line, item in zip(lines, expect["items"], strict=True):
        assert batch_item(line, item) == item


def batch_item(line: bytes, expect: dict[str, str]) -> dict[str, str]:
    """Give one line of the answer as the vectors write it."""
    found = json.loads(line)
    item = {"index": str(found["index"]), "status": str(found["status"])}
    if "problem" in found:
        return {**item, "code": found["problem"]["code"]}
    facts = outcome_facts(found["outcome"], line, expect) if "code" not in expect else {}
    return {**item, **facts, "replayed": str(found["replayed"]).lower()}
