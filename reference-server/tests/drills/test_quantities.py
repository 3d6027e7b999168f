"""The human form of a scenario is its canonical form with the units in the values."""

from __future__ import annotations

import copy
from collections.abc import Iterator, Mapping
from fractions import Fraction
from pathlib import Path
from typing import Any

import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba_server.contract import contract_file, schema
from fractal_lba_server.core.faults import DocumentError, Fault
from fractal_lba_server.drill.quantities import (
    BANDWIDTH,
    DIMENSIONS,
    DRIFT,
    DURATION,
    MEANT,
    RATE,
    SHARE,
    SIZE,
    SUFFIXES,
    YEARLY,
    Dimension,
    canonical,
    canonical_member,
    human,
    human_name,
    quantity,
    text_of,
)
from fractal_lba_server.drill.scenario import FOLDER, load_scenario, scenario_of, shipped
from fractal_lba_server.drill.times import Time

MILLI = Fraction(1, 1000)
ONE = Fraction(1)

LIBRARY = contract_file("schemas").parents[1] / "simulator" / "scenarios"


def document(**changed: Any) -> dict[str, Any]:
    return {
        "version": 1,
        "name": "tiny",
        "title": "Two regions",
        "topology": {"regions": [{"code": "euw"}, {"code": "use"}]},
        "load": {"duration": "1min", "rate": "10/s"},
        "promises": {"rto": "5min"},
        **changed,
    }


# --- one quantity


@pytest.mark.parametrize(
    ("text", "dimension", "unit", "expected"),
    [
        ("30s", DURATION, ONE, 30),
        ("30 s", DURATION, ONE, 30),
        ("250ms", DURATION, ONE, 0.25),
        ("40ms", DURATION, MILLI, 40),
        ("-1min", DURATION, MILLI, -60_000),
        ("1h", DURATION, ONE, 3600),
        ("1d", DURATION, ONE, 86_400),
        ("1w", DURATION, ONE, 604_800),
        ("5us", DURATION, ONE, 5e-6),
        ("7ns", DURATION, ONE, 7e-9),
        ("35d", DURATION, Fraction(86_400), 35),
        ("813B", SIZE, ONE, 813),
        ("1kB", SIZE, ONE, 1000),
        ("1KiB", SIZE, ONE, 1024),
        ("8MB", SIZE, ONE, 8_000_000),
        ("8MiB", SIZE, ONE, 8_388_608),
        ("2GB", SIZE, ONE, 2_000_000_000),
        ("8bit/s", BANDWIDTH, ONE, 1),
        ("8kbit/s", BANDWIDTH, ONE, 1000),
        ("200Mbit/s", BANDWIDTH, ONE, 25_000_000),
        ("1Gbit/s", BANDWIDTH, ONE, 125_000_000),
        ("3B/s", BANDWIDTH, ONE, 3),
        ("3kB/s", BANDWIDTH, ONE, 3000),
        ("3MB/s", BANDWIDTH, ONE, 3_000_000),
        ("3MiB/s", BANDWIDTH, ONE, 3_145_728),
        ("2000/s", RATE, ONE, 2000),
        ("90/min", RATE, ONE, 1.5),
        ("2/y", YEARLY, ONE, 2),
        ("0.05/y", YEARLY, ONE, 0.05),
        ("5%", SHARE, ONE, 0.05),
        ("99.9%", SHARE, ONE, 0.999),
        ("100%", SHARE, ONE, 1),
        ("-200ppm", DRIFT, ONE, -200),
        ("1e3s", DURATION, ONE, 1000),
        ("0s", DURATION, ONE, 0),
    ],
)
def test_a_quantity_is_its_number_of_the_canonical_unit(
    text: str, dimension: Dimension, unit: Fraction, expected: float
) -> None:
    found = quantity(text, dimension, unit)
    assert found == expected
    assert isinstance(found, type(expected))


@pytest.mark.parametrize(
    ("text", "dimension", "said"),
    [
        ("30", DURATION, "a number without a unit; write it as 30s"),
        ("soon", DURATION, "not a duration; write it as 30s"),
        ("", SIZE, "not a size; write it as 8MiB"),
        ("30 sec", DURATION, 'did you mean "s"'),
        ("2m", DURATION, 'did you mean "min"'),
        ("200Mbps", BANDWIDTH, 'did you mean "Mbit/s"'),
        ("8KB", SIZE, 'did you mean "kB"'),
        ("40MB", DURATION, "expected a duration, got a size in MB; its units are ns"),
        ("5%", RATE, "expected a rate, got a share in %"),
        ("30fortnights", DURATION, "unknown unit; a duration has ns, us"),
        ("1h30min", DURATION, "unknown unit"),
        ("1,5s", DURATION, "unknown unit"),
        ("30  s", DURATION, "not a duration"),
        ("1_000/s", RATE, "unknown unit"),
        ("0x1s", DURATION, "unknown unit"),
        (".5s", DURATION, "not a duration"),
        ("1e999s", DURATION, "unknown unit"),
        ("1" * 70 + "s", DURATION, "not a duration"),
        ("nans", DURATION, "not a duration"),
    ],
)
def test_what_is_no_quantity_is_refused_with_the_right_one(
    text: str, dimension: Dimension, said: str
) -> None:
    with pytest.raises(ValueError) as refused:
        quantity(text, dimension, ONE)
    assert said in str(refused.value)


def test_a_suggested_unit_is_a_unit() -> None:
    ours = {unit for dimension in DIMENSIONS for unit in dimension.units}
    assert set(MEANT.values()) <= ours
    assert not set(MEANT) & ours


numbers = st.one_of(
    st.integers(0, 10**12),
    st.floats(0, 1e9, allow_subnormal=False).filter(lambda x: x == 0 or x > 1e-9),
)


@given(numbers, st.sampled_from(sorted(SUFFIXES)))
def test_what_is_written_is_read_back(number: float, suffix: str) -> None:
    dimension, unit = SUFFIXES[suffix]
    assert quantity(text_of(number, dimension, unit), dimension, unit) == number


@pytest.mark.parametrize(
    ("number", "suffix", "expected"),
    [
        (300, "_s", "5min"), (90, "_s", "90s"), (0.25, "_s", "250ms"), (0, "_s", "0s"),
        (86_400, "_s", "1d"), (40, "_ms", "40ms"), (60_000, "_ms", "1min"), (-60_000, "_ms", "-1min"),
        (25_000_000, "_bytes_per_s", "200Mbit/s"), (813, "_bytes", "813B"),
        (2000, "_per_s", "2000/s"), (1.5, "_per_s", "1.5/s"), (35, "_days", "35d"),
    ],
)  # fmt: skip
def test_a_quantity_is_written_in_the_largest_unit_in_which_it_is_whole(
    number: float, suffix: str, expected: str
) -> None:
    assert text_of(number, *SUFFIXES[suffix]) == expected


# --- names


def objects(node: Any, where: str = "") -> Iterator[tuple[str, Mapping[str, Any]]]:
    if isinstance(node, dict):
        if "properties" in node:
            yield where, node["properties"]
        for key, below in node.items():
            yield from objects(below, f"{where}/{key}")


def test_no_name_of_the_schema_has_two_readings() -> None:
    shared = []
    for where, properties in objects(schema("scenario")):
        stems = [found[0] for name in properties if (found := human_name(name))]
        assert len(stems) == len(set(stems)), where
        shared += [f"{where}/{stem}" for stem in stems if stem in properties]
    assert shared == ["/$defs/settings/properties/recovery/fail_back"]


@pytest.mark.parametrize(
    ("name", "stem"),
    [
        ("interval_s", "interval"), ("delay_ms", "delay"), ("bandwidth_bytes_per_s", "bandwidth"),
        ("rate_per_s", "rate"), ("stale_read_ms_max", "stale_read_max"), ("record_bytes", "record"),
        ("ignore_ttl_for_s", "ignore_ttl_for"), ("catch_up_bytes_per_s", "catch_up"),
        ("retention_days", "retention"), ("drift_ppm", "drift"), ("min_s", "min"),
    ],
)  # fmt: skip
def test_a_human_name_is_without_its_unit(name: str, stem: str) -> None:
    found = human_name(name)
    assert found is not None
    assert (found[0], found[1].name) == (stem, name)


@pytest.mark.parametrize(
    "name", ["rpo_records", "displaced_max", "price_per_gb", "loss", "s", "_s"]
)
def test_a_name_without_a_unit_has_no_other_form(name: str) -> None:
    assert human_name(name) is None


@pytest.mark.parametrize(
    ("name", "value", "at", "expected"),
    [
        ("interval", "5s", "/settings/probe", ("interval_s", 5)),
        ("interval_s", 5, "/settings/probe", ("interval_s", 5)),
        ("bandwidth", "8Mbit/s", "/topology/links/0", ("bandwidth_bytes_per_s", 1_000_000)),
        ("loss", "1%", "/topology/links/0", ("loss", 0.01)),
        ("copies", 3, "/topology/placements/open", ("copies", 3)),
        ("decide", {"uniform": {"min": "1s", "max": "2min"}}, "/settings/people",
         ("decide_s", {"uniform": {"min_s": 1, "max_s": 120}})),
        ("duration", "1h", "/load", ("duration_s", 3600)),
        ("duration", "1h", "/short/load", ("duration_s", 3600)),
        ("segment", "1MiB", "/control/overlay/settings/shipping", ("segment_bytes", 1 << 20)),
        ("anything", "1MiB", "/settings/server/wal", ("anything", "1MiB")),
    ],
)  # fmt: skip
def test_one_member_is_put_in_canonical_form(
    name: str, value: Any, at: str, expected: tuple[str, Any]
) -> None:
    assert canonical_member(name, value, at=at) == expected


def test_one_faulty_member_is_refused_at_its_place() -> None:
    with pytest.raises(
        DocumentError, match=r'/settings/probe/intervall: .*did you mean "interval"'
    ):
        canonical_member("intervall", "5s", at="/settings/probe")


# --- documents


HUMAN: dict[str, Any] = {
    **document(),
    "topology": {
        "regions": [{"code": "euw", "capacity": "5000/s"}, {"code": "use"}],
        "links": [
            {"from": "euw", "to": "use", "delay": "40ms", "bandwidth": "200Mbit/s", "loss": "0.1%"}
        ],
    },
    "settings": {
        "probe": {"interval": "10s", "ignore_ttl_for": {"exponential": {"mean": "10min"}}},
        "people": {"page": {"observed": {"values": ["10s", "1min"]}}, "decide": "4min"},
        "snapshot": {"copy": {"lognormal": {"p50": "1s", "p95": "4s"}}},
        "recovery": {"fail_back": True, "fail_back_s": 60},
        "rpo": "2s",
    },
    "faults": [
        {
            "id": "out", "kind": "region-down", "region": "euw", "at": "5s", "per_year": "2/y",
            "for": {"triangular": {"min": "1s", "mode": "2s", "max": "3s"}},
            "repeat": {"count": 2, "every": "10s", "spread": "1s"},
        }
    ],
    "control": {
        "why": "none", "must_fail": ["rto_s"],
        "overlay": {"settings": {"people": {"decide": {"uniform": {"min": "1h", "max": "2h"}}}}},
    },
    "short": {"load": {"duration": "10s"}, "settings": {"probe": {"interval": None}}},
}  # fmt: skip

CANONICAL: dict[str, Any] = {
    **document(),
    "topology": {
        "regions": [{"code": "euw", "capacity_per_s": 5000}, {"code": "use"}],
        "links": [
            {
                "from": "euw", "to": "use", "delay_ms": 40, "bandwidth_bytes_per_s": 25_000_000,
                "loss": 0.001,
            }
        ],
    },
    "settings": {
        "probe": {"interval_s": 10, "ignore_ttl_for_s": {"exponential": {"mean_s": 600}}},
        "people": {"page_s": {"observed": {"values_s": [10, 60]}}, "decide_s": 240},
        "snapshot": {"copy_s": {"lognormal": {"p50_s": 1, "p95_s": 4}}},
        "recovery": {"fail_back": True, "fail_back_s": 60},
        "rpo_ms": 2000,
    },
    "load": {"duration_s": 60, "rate_per_s": 10},
    "faults": [
        {
            "id": "out", "kind": "region-down", "region": "euw", "at_s": 5, "per_year": 2,
            "for_s": {"triangular": {"min_s": 1, "mode_s": 2, "max_s": 3}},
            "repeat": {"count": 2, "every_s": 10, "spread_s": 1},
        }
    ],
    "promises": {"rto_s": 300},
    "control": {
        "why": "none", "must_fail": ["rto_s"],
        "overlay": {"settings": {"people": {"decide_s": {"uniform": {"min_s": 3600, "max_s": 7200}}}}},
    },
    "short": {"load": {"duration_s": 10}, "settings": {"probe": {"interval_s": None}}},
}  # fmt: skip


def test_both_forms_are_one_document_with_one_digest() -> None:
    read = canonical(HUMAN)
    assert read.faults == []
    assert read.value == CANONICAL
    assert scenario_of(HUMAN, "x").digest == scenario_of(CANONICAL, "x").digest


def test_the_canonical_form_is_left_as_it_is() -> None:
    before = copy.deepcopy(CANONICAL)
    read = canonical(CANONICAL)
    assert (read.value, read.faults, read.written) == (before, [], {})


def test_the_human_form_of_the_canonical_one_is_read_back() -> None:
    written = human(CANONICAL)
    assert written["load"] == {"duration": "1min", "rate": "10/s"}
    assert canonical(written).value == CANONICAL


@pytest.mark.parametrize("name", [*shipped(), *shipped([LIBRARY])])
def test_a_shipped_scenario_survives_the_round_trip(name: str) -> None:
    scenario = load_scenario(name, folders=(LIBRARY, FOLDER))
    written = human(scenario.document)
    again = scenario_of(written, name)
    assert again.document == scenario.document
    assert again.digest == scenario.digest


times = st.one_of(
    st.integers(0, 10**6),
    st.builds(lambda a, b: {"uniform": {"min_s": a, "max_s": a + b}}, st.integers(0, 99), numbers),
    st.builds(lambda m: {"exponential": {"mean_s": m}}, st.integers(1, 10**6)),
    st.builds(lambda v: {"observed": {"values_s": v}}, st.lists(st.integers(0, 99), min_size=1)),
)


@given(
    times,
    st.fixed_dictionaries(
        {},
        optional={
            "interval_s": numbers, "dns_ttl_s": numbers, "failures": st.integers(1, 9),
            "ignore_ttl_share": st.integers(0, 1000).map(lambda n: n / 1000),
        },
    ),
    st.fixed_dictionaries({"rate_per_s": numbers, "record_bytes": numbers, "duration_s": numbers}),
)  # fmt: skip
def test_any_canonical_document_is_its_human_form_read(
    for_s: Any, probe: dict[str, Any], load: dict[str, Any]
) -> None:
    made = {
        "settings": {"probe": probe},
        "load": load,
        "faults": [{"id": "a", "kind": "cold-down", "at_s": 0, "for_s": for_s}],
        "short": {"load": load},
    }
    read = canonical(human(made))
    assert (read.value, read.faults) == (made, [])


# --- faults of a file


@pytest.mark.parametrize(
    ("changed", "place", "said"),
    [
        ({"load": {"duration": 60, "rate": "1/s"}}, "/load/duration",
         "a number without a unit; write it as 30s, or as duration_s with a number"),
        ({"load": {"duration": 0, "rate": "1/s"}}, "/load/duration", "a number without a unit"),
        ({"load": {"duration_s": "60s", "rate": "1/s"}}, "/load/duration_s",
         'its name has the unit already; write a number, or "duration: 30s"'),
        ({"load": {"duration": "1min", "duration_s": 60, "rate": "1/s"}}, "/load/duration",
         "is said twice, also as duration_s"),
        ({"load": {"duratoin": "1min", "rate": "1/s"}}, "/load/duratoin", 'did you mean "duration"'),
        ({"load": {"duration": "1min", "rate": "1s"}}, "/load/rate",
         "expected a rate, got a duration in s"),
        ({"load": {"duration": "2m", "rate": "1/s"}}, "/load/duration", 'did you mean "min"'),
        ({"load": {"duration": "-1s", "rate": "1/s"}}, "/load/duration", "expected at least 0"),
        ({"load": {"duration": "1min", "rate": "1/s", "repeat_share": "500%"}},
         "/load/repeat_share", "expected at most 1"),
        ({"load": {"duration": "1min", "rate": "1/s", "colour": 1}}, "/load/colour", "known keys: "),
        ({"settings": {"people": {"decide": {"normal": {"mean": "1s"}}}}},
         "/settings/people/decide/normal", 'did you mean "lognormal"'),
        ({"settings": {"people": {"decide": {"uniform": {"min": "9s", "max": "1s"}}}}},
         "/settings/people/decide/uniform", "expected min_s <= max_s"),
        ({"settings": {"people": {"decide": {}}}}, "/settings/people/decide", "at least 1 keys"),
        ({"settings": {"people": {"page": {"observed": {"values": ["1s", 2]}}}}},
         "/settings/people/page/observed/values/1", "a number without a unit"),
        ({"settings": {"rpo": "0.5ms"}}, "/settings/rpo", "expected an integer, got a number"),
        ({"short": {"load": {"duration": 10}}}, "/short/load/duration", "without a unit"),
        ({"short": {"load": {"rate": "-1/s"}}}, "/short/load/rate", "expected more than 0"),
        ({"faults": [{"id": "a", "kind": "delay", "at": "1s", "from": "euw", "to": "use"}]},
         "/faults/0", "delay needs from and to and delay_ms"),
        ({"faults": [{"id": "a", "kind": "region-down", "at": "1s", "region": "euw", "share": "5%"}]},
         "/faults/0/share", "region-down has no share"),
        ({"faults": [{"id": "a", "kind": "region-down", "at": "1s", "region": "euw", "delay": "1s"}]},
         "/faults/0/delay", "region-down has no delay_ms"),
    ],
)  # fmt: skip
def test_a_fault_has_its_file_line_place_and_remedy(
    tmp_path: Path, changed: dict[str, Any], place: str, said: str
) -> None:
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(document(**changed), sort_keys=False), encoding="utf-8")
    with pytest.raises(DocumentError) as refused:
        load_scenario(str(path), short="short" in changed)
    rows = str(refused.value).removeprefix("config_invalid: ").splitlines()
    row = next(row for row in rows if f" {place}: " in row)
    assert said in row
    number = int(row.removeprefix(f"{path}:").partition(":")[0])
    last = place.rpartition("/")[2]
    if not last.isdecimal():
        assert f"{last}:" in path.read_text(encoding="utf-8").splitlines()[number - 1]


def test_every_fault_of_a_file_is_told_at_once_and_none_twice(tmp_path: Path) -> None:
    load = {"duration": 1, "rate": "2", "colour": "red"}
    path = tmp_path / "tiny.yaml"
    path.write_text(yaml.safe_dump(document(load=load, extra=1)), encoding="utf-8")
    with pytest.raises(DocumentError) as refused:
        load_scenario(str(path))
    pointers = sorted(fault.pointer for fault in refused.value.faults)
    assert pointers == ["/extra", "/load/colour", "/load/duration", "/load/rate"]


def test_a_fault_of_the_canonical_form_is_told_where_it_was_written() -> None:
    read = canonical({"settings": {"people": {"decide": {"uniform": {"min": "1s"}}}}})
    fault = Fault("/settings/people/decide_s/uniform/max_s", "a", "b")
    assert read.as_written(fault).pointer == "/settings/people/decide/uniform/max_s"
    other = Fault("/load/rate_per_s", "a", "b")
    assert read.as_written(other) == other


@pytest.mark.parametrize(
    ("changed", "place"),
    [
        # What an overlay brings is told where the overlay stands, the rest where it always stood.
        ({"short": {"load": {"rate": None}}}, "/short/load"),
        ({"short": {"topology": {"regions": [{"code": "apn"}]}}}, "/faults/0/region"),
        ({"short": {"faults": [{"id": "b", "kind": "region-down", "region": "apn", "at": "1s"}]}},
         "/short/faults/0/region"),
    ],
)  # fmt: skip
def test_a_fault_that_an_overlay_makes_is_told_where_it_stands(
    changed: dict[str, Any], place: str
) -> None:
    faults = [{"id": "a", "kind": "region-down", "region": "euw", "at": "1s"}]
    with pytest.raises(DocumentError) as refused:
        scenario_of(document(faults=faults, **changed), "x", short=True)
    assert refused.value.faults[0].pointer == place


def test_a_distribution_is_replaced_by_another_and_not_merged() -> None:
    scenario = scenario_of(
        document(
            settings={"people": {"act": {"uniform": {"min": "1s", "max": "2s"}}, "page": "1s"}},
            short={"settings": {"people": {
                "act": {"exponential": {"mean": "1s"}}, "page": {"uniform": {"min": "0s", "max": "1s"}},
            }}},
        ),
        "x", short=True,
    )  # fmt: skip
    assert scenario.part("settings", "people") == {
        "act_s": {"exponential": {"mean_s": 1}},
        "page_s": {"uniform": {"min_s": 0, "max_s": 1}},
    }
    assert Time.of(scenario.part("settings", "people")["act_s"]).mean == 1
