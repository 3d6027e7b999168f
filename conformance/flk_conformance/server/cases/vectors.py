"""All vectors of `http.submit` and `http.batch`, rewritten for the listed tenants and sent.

Every refused one must leave nothing behind; every taken one is then its own duplicate.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from golden.oracle.closed_codes import CODES

from ...places import golden_dir
from .. import judge
from ..judge import require
from ..transpose import Request, Unsuited, transpose, transpose_batch
from ..trial import BATCH, SUBMIT, Absent, Case, Trial, add

AREAS = {"rejecthttp": "reject", "submit": "verify", "submitbatch": "batch"}
FILES = ("reject-http/record.json", "reject-http/signature.json", "reject-http/text.json",
         "submit/submit.json", "submit-batch/batch.json", "submit-batch/limits.json")  # fmt: skip


def _rewritten(trial: Trial, vector: dict[str, Any]) -> Request:
    try:
        return transpose(vector, trial.features, trial.records.root())
    except Unsuited as reason:
        raise Absent(str(reason)) from None


def _refused(vector: dict[str, Any], trial: Trial) -> None:
    request, expect = _rewritten(trial, vector), vector["expect"]
    headers = [(name, value) for name, value in request.headers]
    reply = trial.ask("POST", SUBMIT, headers, request.body)
    members = judge.refused(reply, int(expect["status"]), expect["code"])
    if "pointer" in expect:
        found = members.get("pointer")
        require(found == expect["pointer"], f"expected {expect['pointer']}, got {found}")
    tenant = trial.owner(request.key)
    if tenant.token is not None and "get" in trial.features.claimed:
        judge.refused(trial.get(request.pcs_id, tenant), 404, "not_found")


def _taken(vector: dict[str, Any], trial: Trial) -> None:
    request, expect = _rewritten(trial, vector), vector["expect"]
    headers = [(name, value) for name, value in request.headers]
    first = trial.ask("POST", SUBMIT, headers, request.body)
    members = judge.recorded(first, int(expect["status"]))
    require(members["pcs_id"] == request.pcs_id, "another pcs_id")
    for name in ("accepted", "escalated"):
        got = str(members[name]).lower()
        require(got == expect[name], f"{name}: expected {expect[name]}, got {got}")
    for name in ("reason", "policy_version"):
        found = members.get(name)
        require(found == expect.get(name), f"{name}: expected {expect.get(name)}, got {found}")
    for name in ("recomputed_D_hat", "recomputed_budget"):
        text = f'"{name}":{expect[name]}'
        require(text.encode() in first.body, f"expected {text} in {first.body!r}")
    again = trial.ask("POST", SUBMIT, headers, request.body)
    judge.recorded(again, first.status, again=True)
    require(again.body == first.body, "a duplicate is not answered byte for byte")


def _lines(vector: dict[str, Any], trial: Trial) -> None:
    expect = vector["expect"]
    try:
        request = transpose_batch(vector, trial.features, trial.records.root())
    except Unsuited as reason:
        raise Absent(str(reason)) from None
    headers = [(name, value) for name, value in request.headers]
    reply = trial.ask("POST", BATCH, headers, request.body)
    if "code" in expect:
        status = CODES[expect["code"]][2]
        assert status is not None
        judge.refused(reply, status, expect["code"])
        return
    found = judge.items(reply)
    require(len(found) == len(expect["items"]), f"expected {len(expect['items'])} items")
    for item, wanted in zip(found, expect["items"], strict=True):
        _item(item, wanted)


def _item(item: dict[str, Any], wanted: dict[str, str]) -> None:
    where = f"item {item['index']}"
    require(item["status"] == int(wanted["status"]), f"{where}: expected {wanted}, got {item}")
    if "code" in wanted:
        got = item["problem"]["code"]
        require(got == wanted["code"], f"{where}: expected {wanted['code']}, got {got}")
        return
    again = str(item["replayed"]).lower()
    require(again == wanted["replayed"], f"{where}: replayed is {again}")
    for name in ("accepted", "escalated", "recomputed_D_hat", "recomputed_budget"):
        text = f'"{name}":{wanted[name]}'.encode()
        require(text in item["outcome"], f"{where}: expected {text!r} in {item['outcome']!r}")
    if "reason" in wanted:
        text = f'"reason":"{wanted["reason"]}"'.encode()
        require(text in item["outcome"], f"{where}: expected {text!r} in {item['outcome']!r}")


def _enter(document: dict[str, Any], vector: dict[str, Any]) -> None:
    flag = document["flags"][vector["flags"][0]]
    cites = next((text for text in flag["spec"] if text.startswith("formats ")), flag["spec"][0])
    area, _, name = vector["id"].partition("/")
    run: Callable[[dict[str, Any], Trial], None]
    if document["op"] == "http.batch":
        text = f"Lines of a batch: {name}."
        run, needs = _lines, {"submit", "batch", "default-policy"}
    elif vector["result"] == "invalid":
        text = f"Refused with {vector['expect']['status']} {vector['expect']['code']}: {name}."
        run, needs = _refused, {"submit"}
    else:
        text = f"Taken with {vector['expect']['status']}: {name}."
        run, needs = _taken, {"submit", "default-policy"}
    section = cites.split()[1].partition("(")[0]
    area = AREAS[area]
    add(
        Case(
            f"{area}/{section}/{name}", cites, text,
            lambda trial: run(vector, trial), frozenset(needs),
        )
    )  # fmt: skip


for _file in FILES:
    _document = json.loads((golden_dir() / "vectors" / _file).read_bytes())
    for _vector in _document["cases"]:
        _enter(_document, _vector)
