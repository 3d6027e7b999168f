"""The registry of regions: codes, ranks, placements (spec/roles.md 1)."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from region_documents import document, region

from fractal_lba.errors import ConfigError
from fractal_lba_server.contract import contract_file
from fractal_lba_server.core.faults import DocumentError
from fractal_lba_server.core.regions import (
    alone,
    elsewhere,
    order_faults,
    placement_faults,
    read_registry,
)
from fractal_lba_server.core.tenants import Directory, Tenant
from fractal_lba_server.regions_file import KEPT_NAME, default_ranks, load_regions, seen_codes


def test_rank_is_the_position_in_the_list() -> None:
    registry = read_registry(document())
    assert [registry.rank(code) for code in ("eu1", "us1", "eu2")] == [0, 1, 2]
    assert ("eu1", "us1", "eu2") == registry.codes
    with pytest.raises(KeyError):
        registry.rank("ap1")


def test_a_placement_lists_who_may_hold_it_and_nobody_else_does() -> None:
    registry = read_registry(document())
    assert registry.peers("eu-only", "eu1") == ("eu2",)
    assert registry.may_hold("eu-only", "eu2")
    assert not registry.may_hold("eu-only", "us1")
    assert not registry.may_hold("nowhere", "eu1")
    assert [one.name for one in registry.held_by("us1")] == ["open"]
    assert [one.name for one in registry.held_by("eu1")] == ["eu-only", "open"]


def test_defaults_of_a_placement() -> None:
    alone = {"open": {"regions": ["eu1"], "topology": "active-active"}}
    assert read_registry(document(placements=alone)).placements["open"].copies == 1
    registry = read_registry(document())
    assert registry.placements["open"].copies == 2
    assert not registry.placements["open"].needs_lease
    assert registry.placements["eu-only"].needs_lease


EU1, US1, EU2 = region("eu1", 1), region("us1", 2), region("eu2", 3)
FAULTS: list[tuple[str, dict[str, Any], str, str]] = [
    ("code twice", {"regions": [region("eu1", 1), region("eu1", 2)]}, "/regions/1/code", "same"),
    (
        "key twice",
        {"regions": [region("eu1", 1), region("us1", 1), region("eu2", 3)]},
        "/regions/1/public_key",
        "same",
    ),
    (
        "weak key",
        {"regions": [region("eu1", 1, public_key="01" + "00" * 31), US1, EU2]},
        "/regions/0/public_key",
        "small order",
    ),
    (
        "plain elsewhere",
        {"regions": [region("eu1", 1, peer="http://eu1.example"), US1, EU2]},
        "/regions/0/peer",
        "without TLS",
    ),
    (
        "port",
        {"regions": [region("eu1", 1, peer="https://eu1.example:70000"), US1, EU2]},
        "/regions/0/peer",
        "port",
    ),
    (
        "retired in a placement",
        {"regions": [region("eu1", 1), region("us1", 2, retired=True), region("eu2", 3)]},
        "/placements/open/regions/1",
        "retired",
    ),
    (
        "unknown in a placement",
        {"placements": {"open": {"regions": ["zz9"], "topology": "active-active"}}},
        "/placements/open/regions/0",
        "no region",
    ),
    (
        "too many copies",
        {"placements": {"open": {"regions": ["eu1"], "topology": "active-active", "copies": 2}}},
        "/placements/open/copies",
        "more copies",
    ),
    (
        "primary elsewhere",
        {"placements": {"open": {
            "regions": ["eu1", "eu2"], "topology": "warm-standby", "primary": "us1",
        }}},
        "/placements/open/primary",
        "not a region",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "pointer", "word"), [row[1:] for row in FAULTS])
def test_a_fault_names_its_place(changes: dict[str, Any], pointer: str, word: str) -> None:
    with pytest.raises(DocumentError) as caught:
        read_registry(document(**changes))
    assert pointer in [fault.pointer for fault in caught.value.faults]
    assert word in str(caught.value)


@pytest.mark.parametrize("host", ["http://127.0.0.1:1", "http://localhost", "http://[::1]:80"])
def test_plain_http_stays_on_this_machine(host: str) -> None:
    regions = [region("eu1", 1, peer=host), region("us1", 2), region("eu2", 3)]
    assert read_registry(document(regions=regions)).regions["eu1"].peer == host


CODES = st.lists(st.sampled_from("abcdefgh"), unique=True)


@given(CODES, CODES)
def test_only_what_begins_with_the_known_list_passes(known: list[str], now: list[str]) -> None:
    assert (not list(order_faults(known, now))) == (now[: len(known)] == known)


# --- the file


def write(path: Path, value: dict[str, Any]) -> Path:
    path.write_text(json.dumps(value))
    return path


def test_a_file_is_read_and_its_codes_are_kept(tmp_path: Path) -> None:
    file = write(tmp_path / "regions.yaml", document())
    assert seen_codes(tmp_path) == ()
    load_regions(file, data=tmp_path, region="us1")
    assert seen_codes(tmp_path) == ("eu1", "us1", "eu2")
    before = (tmp_path / KEPT_NAME).stat().st_mtime_ns
    load_regions(file, data=tmp_path)
    assert (tmp_path / KEPT_NAME).stat().st_mtime_ns == before


@pytest.mark.parametrize(
    ("order", "word"),
    [(["us1", "eu1", "eu2"], '"eu1" had rank 0'), (["eu1", "us1"], '"eu2" is missing')],
)
def test_a_file_that_moves_or_drops_a_region_is_refused_by_name(
    tmp_path: Path, order: list[str], word: str
) -> None:
    load_regions(write(tmp_path / "regions.yaml", document()), data=tmp_path)
    known = {"eu1": 1, "us1": 2, "eu2": 3}
    changed = document(
        regions=[region(code, known[code]) for code in order],
        placements={"open": {"regions": ["eu1"], "topology": "active-active"}},
    )
    with pytest.raises(ConfigError, match=word):
        load_regions(write(tmp_path / "regions.yaml", changed), data=tmp_path)
    assert seen_codes(tmp_path) == ("eu1", "us1", "eu2")


def test_a_region_may_be_appended_and_retired(tmp_path: Path) -> None:
    load_regions(write(tmp_path / "regions.yaml", document()), data=tmp_path)
    grown = document(
        regions=[EU1, region("us1", 2, retired=True), EU2, region("ap1", 4)],
        placements={"open": {"regions": ["eu1", "ap1"], "topology": "active-active"}},
    )  # fmt: skip
    registry = load_regions(write(tmp_path / "regions.yaml", grown), data=tmp_path, region="ap1")
    assert registry.rank("ap1") == 3
    assert registry.regions["us1"].retired
    with pytest.raises(ConfigError, match="retired"):
        load_regions(tmp_path / "regions.yaml", region="us1")


def test_a_region_that_is_not_listed_does_not_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="ap1"):
        load_regions(write(tmp_path / "regions.yaml", document()), region="ap1")


@pytest.mark.parametrize("text", ["[]", '{"version": 2}', '{"version": 1, "codes": [3]}'])
def test_damaged_memory_is_a_clear_refusal(tmp_path: Path, text: str) -> None:
    (tmp_path / KEPT_NAME).write_text(text)
    with pytest.raises(ConfigError, match=r"regions\.json"):
        load_regions(write(tmp_path / "regions.yaml", document()), data=tmp_path)


SCHEMA_FAULTS: list[tuple[dict[str, Any], str]] = [
    ({"regions": []}, "/regions"),
    ({"regions": [region("EU1", 1)]}, "/regions/0/code"),
    ({"regions": [region("eu1", 1, endpoint="https://a/b")]}, "/regions/0/endpoint"),
    ({"regions": [region("eu1", 1, endpoint="https://u@a")]}, "/regions/0/endpoint"),
    ({"placements": {}}, "/placements"),
    (
        {"placements": {"open": {
            "regions": ["eu1"], "topology": "active-active", "primary": "eu1",
        }}},
        "/placements/open/primary",
    ),
    (
        {"placements": {"open": {"regions": ["eu1", "us1"], "topology": "warm-standby"}}},
        "/placements/open",
    ),
]  # fmt: skip


@pytest.mark.parametrize(("changes", "pointer"), SCHEMA_FAULTS)
def test_the_schema_refuses(tmp_path: Path, changes: dict[str, Any], pointer: str) -> None:
    with pytest.raises(DocumentError) as caught:
        load_regions(write(tmp_path / "regions.yaml", document(**changes)))
    assert pointer in [fault.pointer for fault in caught.value.faults]


def test_the_default_codes_are_codes_and_begin_with_the_one_of_a_single_server() -> None:
    codes = json.loads(contract_file("regions.json").read_bytes())["codes"]
    assert len(set(codes)) == len(codes)
    assert all(len(code) == 3 for code in codes)
    assert default_ranks()["loc"] == 0


def tenant(name: str, placement: str) -> Tenant:
    return Tenant(name, 2, None, None, (), placement=placement)


def test_a_region_that_stands_alone_holds_what_is_open() -> None:
    registry = alone("loc")
    assert (registry.rank("loc"), registry.peers("open", "loc")) == (0, ())
    assert registry.placements["open"].copies == 1


def test_what_is_not_held_here_is_elsewhere() -> None:
    registry = read_registry(document())
    assert elsewhere(registry, "us1") == {"eu-only": "https://eu2.example"}
    assert elsewhere(registry, "eu1") == {}


def test_a_tenant_of_a_placement_that_nobody_declared_is_named() -> None:
    directory = Directory(tenants=[tenant("acme", "open"), tenant("beta", "mars")])
    [fault] = placement_faults(directory, read_registry(document()))
    assert fault.pointer == "/tenants/1/placement"
    assert '"mars"' in fault.problem
