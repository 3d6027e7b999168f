"""The shape of a record: held to the schema, to the residual rules, and to its own type."""

from __future__ import annotations

import copy
import json
import math
import pickle
from collections.abc import Callable, Iterator
from datetime import datetime
from itertools import pairwise
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
from hypothesis import given
from hypothesis import strategies as st
from record_samples import full_record

from fractal_lba.canonical import jcs
from fractal_lba.errors import ValidationError
from fractal_lba.record import Ft, Record, check_record

SPEC = Path(__file__).parents[2] / "spec" / "schemas"
SCHEMA = json.loads((SPEC / "pcs.json").read_text())
VALIDATOR = jsonschema_rs.Draft202012Validator(SCHEMA)

HUGE = 10**400
COUNTS = {"2": 4, "4": 16, "8": 64, "16": 256}
VERSION_2 = {"sig": "x", "sig_v": 2, "alg": "HMAC", "kid": "k", "tenant_id": "t"}


def code_of(record: Any, **options: bool) -> tuple[str, str] | None:
    """Say with which code and pointer a record is refused, None if it is not."""
    try:
        check_record(record, **options)
    except ValidationError as error:
        assert error.pointer is not None  # noqa: PT017 - either way is right, but for this
        return error.code, error.pointer
    return None


# --- against the schema and the residual rules ---------------------------------------------


def residual_rules(record: dict[str, Any]) -> bool:
    """Ask what the schema cannot, in other words than the code under test does."""
    lexical = [record["epoch"], record["attempt"], record["seed"], *record["scales"]]
    lexical += [*record["N_j"].values(), record["ft"]["outbox_seq"], record["ft"]["clock_skew_ms"]]
    lexical += [record[name] for name in ("sig_v",) if name in record]
    scales = record["scales"]
    numbers = [record["D_hat"], record["coh_star"], record["r"], record["budget"]]
    return (
        all(isinstance(value, int) for value in lexical)
        and len(record["shard_id"].encode()) <= 256
        and all(len(record[name].encode()) <= 64 for name in ("kid", "tenant_id") if name in record)
        and all(len(text.encode()) <= 64 for text in record["ft"]["fallbacks"])
        and all(low < high for low, high in pairwise(scales))
        and set(record["N_j"]) == {str(scale) for scale in scales}
        and all(abs(value) < 2**1024 for value in [*numbers, *record["v_star"]])
        and abs(math.hypot(*record["v_star"]) - 1) <= 1e-6
        and is_date(record["sent_at"])
    )


def is_date(text: str) -> bool:
    try:
        datetime.fromisoformat(text[:10])
    except ValueError:
        return False
    return True


ODD_VALUES: list[Any] = [
    None, True, False, 0, 1, 2, -1, 2**31, 2**53 - 1, 2**53, -(2**53), HUGE,
    86_400_000, -86_400_001,
    0.0, -0.0, 1.0, 1.05, math.nextafter(1.05, 2), 3.5, 3.6, -5e-324, 1e300, 0.5,
    "", "x", "a" * 64, "A" * 64, "a" * 64 + "\n", "\u00e9" * 128, "\u00e9" * 129, "b" * 256,
    "b" * 257,
    "fractal-lba-kakeya", "0.1", "0.2", "mixed", "Mixed", "HMAC", "none",
    "2024-02-29T00:00:00Z", "2023-02-29T00:00:00Z", "2026-01-15T12:00:60Z",
    "2026-01-15T12:00:00.5Z",
    [], [1], [2, 4], [4, 2], [2, 4, 8, 16.0], [1.0], [1], [0.6, 0.8], [0.6, 0.7], [HUGE], ["x"],
    [0] * 2049, list(range(1, 34)), ["y" * 64], ["\u00e9" * 33], ["z"] * 17,
    {}, {"2": 4}, {"2": 4, "4": 16, "8": 64, "16": 0}, {"2": 4, "4": 16, "8": 64, "016": 256},
    {"outbox_seq": 0, "degraded": False, "fallbacks": [], "clock_skew_ms": 0.0},
]  # fmt: skip
NAMES = [*SCHEMA["properties"], "extra", "R", ""]
FT_NAMES = ["outbox_seq", "degraded", "fallbacks", "clock_skew_ms", "extra"]

REMOVE = object()
changes = st.dictionaries(
    st.sampled_from(NAMES), st.sampled_from([*ODD_VALUES, REMOVE]), max_size=2
)
ft_changes = st.dictionaries(
    st.sampled_from(FT_NAMES), st.sampled_from([*ODD_VALUES, REMOVE]), max_size=1
)


def changed(record: dict[str, Any], new: dict[str, Any]) -> dict[str, Any]:
    merged = {**record, **new}
    return {name: value for name, value in merged.items() if value is not REMOVE}


@given(changes, ft_changes, st.booleans())
def test_a_record_is_taken_iff_schema_and_residual_rules_take_it(
    new: dict[str, Any], new_ft: dict[str, Any], version_2: bool
) -> None:
    record = changed(full_record(**(VERSION_2 if version_2 else {"sig": "x"})), new)
    if isinstance(record.get("ft"), dict):
        record["ft"] = changed(record["ft"], new_ft)
    by_schema = VALIDATOR.is_valid(record)
    expected = by_schema and residual_rules(record)
    assert (code_of(record, signed=True) is None) == expected


def schema_codes(record: dict[str, Any]) -> Iterator[str]:
    """Read the code of each violation from the x-code members of the schema."""
    for error in VALIDATOR.iter_errors(record):
        *path, keyword = error.schema_path
        if not path and keyword in ("then", "else"):
            continue
        nodes = [SCHEMA]
        for step in path:
            nodes.append(nodes[-1][int(step) if isinstance(nodes[-1], list) else step])
        keyword = "falseSchema" if nodes[-1].get(keyword, nodes[-1]) is False else keyword
        for node in reversed(nodes):
            named = node.get("x-code", {}) if isinstance(node, dict) else {}
            code = named if isinstance(named, str) else named.get(keyword)
            if code:
                yield str(code)
                break


@pytest.mark.parametrize("version_2", [False, True])
@pytest.mark.parametrize("name", NAMES)
def test_one_fault_has_the_code_that_the_schema_names(name: str, version_2: bool) -> None:
    compared = 0
    for value in [*ODD_VALUES, REMOVE]:
        base = full_record(**(VERSION_2 if version_2 else {"sig": "x"}))
        record = changed(base, {name: value})
        codes = set(schema_codes(record))
        if isinstance(value, float) and name in ("epoch", "attempt", "seed"):
            # The residual rule of lexical integers speaks before the range of the schema.
            codes = {"epoch_invalid" if name == "epoch" else "member_type"}
        if len(codes) == 1:
            found = code_of(record, signed=True)
            assert found is not None
            assert {found[0]} == codes, value
            compared += 1
    assert compared


# --- codes and pointers --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"x/y~z": 1}, "member_unknown", "/x~1y~0z"),
        ({"tenant_id": "t"}, "member_unknown", "/tenant_id"),
        ({"sig_v": 2, "alg": "HMAC", "kid": "k"}, "member_missing", "/tenant_id"),
        (VERSION_2 | {"sig_v": 1}, "sig_version_unsupported", "/sig_v"),
        ({"alg": "none"}, "alg_mismatch", "/alg"),
        ({"alg": 1}, "member_type", "/alg"),
        ({"kid": ""}, "string_length", "/kid"),
        ({"kid": "k" * 65}, "string_length", "/kid"),
        ({"kid": "\u00e9" * 33}, "string_length", "/kid"),
        ({"sig": 1}, "member_type", "/sig"),
        ({"epoch": 1.0}, "epoch_invalid", "/epoch"),
        ({"epoch": -1}, "epoch_invalid", "/epoch"),
        ({"epoch": True}, "member_type", "/epoch"),
        ({"attempt": 1.0}, "member_type", "/attempt"),
        ({"attempt": 0}, "number_out_of_range", "/attempt"),
        ({"r": HUGE}, "number_out_of_range", "/r"),
        ({"r": math.inf}, "number_out_of_range", "/r"),
        ({"r": "0.5"}, "member_type", "/r"),
        ({"schema": "pcs"}, "schema_unsupported", "/schema"),
        ({"version": 0.1}, "member_type", "/version"),
        ({"regime": "sticky "}, "member_type", "/regime"),
        ({"regime": 1}, "member_type", "/regime"),
        ({"sent_at": 1}, "member_type", "/sent_at"),
        ({"sent_at": "2023-02-29T00:00:00Z"}, "member_type", "/sent_at"),
        ({"sent_at": "0000-01-01T00:00:00Z"}, "member_type", "/sent_at"),
        ({"shard_id": 1}, "member_type", "/shard_id"),
        ({"shard_id": "\ud800"}, "string_surrogate", "/shard_id"),
        ({"shard_id": "\u00e9" * 129}, "string_length", "/shard_id"),
        ({"scales": [2, 4, 4, 8]}, "number_out_of_range", "/scales/2"),
        ({"scales": [2, 4, "8"]}, "member_type", "/scales/2"),
        ({"scales": "2,4"}, "member_type", "/scales"),
        ({"scales": [2]}, "string_length", "/scales"),
        ({"N_j": {"2": 4, "4": 16, "8": 64}}, "member_missing", "/N_j/16"),
        ({"N_j": {"2": 4, "4": 16, "8": 64, "16": 256, "a/b": 1}}, "member_unknown", "/N_j/a~1b"),
        ({"N_j": {"2": 4, "4": 16, "8": 64, "16": 0}}, "number_out_of_range", "/N_j/16"),
        ({"N_j": {2: 4}}, "member_type", "/N_j"),
        ({"N_j": [4]}, "member_type", "/N_j"),
        ({"v_star": [0.6, "0.8"]}, "member_type", "/v_star/1"),
        ({"v_star": [0.6, True]}, "member_type", "/v_star/1"),
        ({"v_star": [0.6, HUGE]}, "number_out_of_range", "/v_star/1"),
        ({"v_star": [0.6, math.inf]}, "number_out_of_range", "/v_star/1"),
        ({"v_star": [0.6, 0.7]}, "number_out_of_range", "/v_star"),
        ({"v_star": []}, "string_length", "/v_star"),
        ({"v_star": 1}, "member_type", "/v_star"),
        ({"ft": []}, "member_type", "/ft"),
        ({"ft": {}}, "member_missing", "/ft/outbox_seq"),
        ({"pcs_id": "A" * 64}, "hex_invalid", "/pcs_id"),
        ({"pcs_id": "a" * 64 + "\n"}, "hex_invalid", "/pcs_id"),
        ({"merkle_root": 1}, "member_type", "/merkle_root"),
    ],
)  # fmt: skip
def test_a_fault_has_a_code_and_a_pointer(change: dict[str, Any], code: str, pointer: str) -> None:
    assert code_of(full_record(**change)) == (code, pointer)


@pytest.mark.parametrize(
    ("change", "code", "pointer"),
    [
        ({"outbox_seq": -1}, "number_out_of_range", "/ft/outbox_seq"),
        ({"degraded": 0}, "member_type", "/ft/degraded"),
        ({"fallbacks": ["", "b"]}, "string_length", "/ft/fallbacks/0"),
        ({"clock_skew_ms": 86_400_001}, "number_out_of_range", "/ft/clock_skew_ms"),
        ({"x": 1}, "member_unknown", "/ft/x"),
    ],
)
def test_delivery_conditions_are_closed_too(
    change: dict[str, Any], code: str, pointer: str
) -> None:
    ft = {**full_record()["ft"], **change}
    assert code_of(full_record(ft=ft)) == (code, pointer)


def with_ft(**changes: Any) -> dict[str, Any]:
    return {"ft": {**full_record()["ft"], **changes}}


def with_scales(scales: list[int]) -> dict[str, Any]:
    return {"scales": scales, "N_j": {str(scale): 1 for scale in scales}}


@pytest.mark.parametrize(
    ("at_limit", "beyond"),
    [
        (with_scales([1, 2]), with_scales([0, 2])),
        (with_scales([1, 2]), with_scales([1])),
        (with_scales([1, 2**31 - 1]), with_scales([1, 2**31])),
        (with_scales([*range(1, 33)]), with_scales([*range(1, 34)])),
        ({"v_star": [1.0] + [0.0] * 2047}, {"v_star": [1.0] + [0.0] * 2048}),
        ({"v_star": [1.0]}, {"v_star": []}),
        (with_ft(fallbacks=["f"] * 16), with_ft(fallbacks=["f"] * 17)),
        (with_ft(fallbacks=["f" * 64]), with_ft(fallbacks=["f" * 65])),
        (with_ft(fallbacks=["f"]), with_ft(fallbacks=[""])),
        (with_ft(clock_skew_ms=86_400_000), with_ft(clock_skew_ms=86_400_001)),
        (with_ft(clock_skew_ms=-86_400_000), with_ft(clock_skew_ms=-86_400_001)),
        (with_ft(outbox_seq=0), with_ft(outbox_seq=-1)),
        (with_ft(outbox_seq=2**53 - 1), with_ft(outbox_seq=2**53)),
        ({"attempt": 1}, {"attempt": 0}),
        ({"attempt": 2**53 - 1}, {"attempt": 2**53}),
        ({"seed": 0}, {"seed": -1}),
        ({"seed": 2**53 - 1}, {"seed": 2**53}),
        ({"epoch": 0}, {"epoch": -1}),
        ({"epoch": 2**53 - 1}, {"epoch": 2**53}),
        ({"shard_id": "s"}, {"shard_id": ""}),
        ({"shard_id": "s" * 256}, {"shard_id": "s" * 257}),
        ({"kid": "k"}, {"kid": ""}),
        ({"kid": "k" * 64}, {"kid": "k" * 65}),
        ({"D_hat": 3.5}, {"D_hat": math.nextafter(3.5, 4)}),
        ({"coh_star": 1.05}, {"coh_star": math.nextafter(1.05, 2)}),
        ({"r": 1}, {"r": math.nextafter(1, 2)}),
        ({"r": -0.0}, {"r": -5e-324}),
        ({"N_j": COUNTS | {"2": 2**53 - 1}}, {"N_j": COUNTS | {"2": 2**53}}),
    ],
)  # fmt: skip
def test_every_limit_is_where_it_is_said_to_be(
    at_limit: dict[str, Any], beyond: dict[str, Any]
) -> None:
    assert code_of(full_record(**at_limit)) is None
    assert code_of(full_record(**beyond)) is not None


def test_another_format_is_told_before_its_faults_and_the_signature_after() -> None:
    assert code_of(full_record(r=9, version="0.2")) == ("schema_unsupported", "/version")
    assert code_of(full_record(alg="none", r=9)) == ("number_out_of_range", "/r")


def test_a_signed_record_needs_its_signature() -> None:
    assert code_of(full_record(), signed=True) == ("member_missing", "/sig")
    assert code_of(full_record(sig="x"), signed=True) is None


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (math.nan, "number_not_finite"),
        (math.inf, "number_not_finite"),
        (-math.inf, "number_not_finite"),
        (HUGE, "number_out_of_range"),
        (1.5, "number_out_of_range"),
    ],
)
def test_typed_values_can_be_no_number_at_all(value: float, code: str) -> None:
    assert code_of(full_record(r=value), typed=True) == (code, "/r")


@pytest.mark.parametrize(
    ("vector", "is_unit"),
    [
        ([1.00000099], True),
        ([0.99999901], True),
        ([1.00000101], False),
        ([0.99999899], False),
        ([0.6, -0.8], True),
        ([0, 1], True),
        ([3.0], False),
        ([1e300, 1e300], False),
        ([1e-300], False),
        ([1e308, -1e308, 1e308], False),
    ],
)
def test_the_direction_has_norm_1(vector: list[float], is_unit: bool) -> None:
    expected = None if is_unit else ("number_out_of_range", "/v_star")
    assert code_of(full_record(v_star=vector)) == expected


# --- the typed record ----------------------------------------------------------------------


def typed_arguments(**changes: Any) -> dict[str, Any]:
    arguments = {**full_record(), "ft": Ft(), **changes}
    return {name: value for name, value in arguments.items() if value is not REMOVE}


def test_a_record_survives_every_way_round() -> None:
    record = Record(**typed_arguments())
    assert record.to_dict() == full_record()
    assert Record.from_dict(record.to_dict()) == record
    assert Record.from_json(jcs(full_record())) == record
    assert pickle.loads(pickle.dumps(record)) == record
    assert copy.deepcopy(record) == record
    assert len({record, Record.from_dict(full_record())}) == 1


def test_a_signed_record_keeps_what_signs_it() -> None:
    record = Record.from_dict(full_record(**VERSION_2))
    assert record.to_dict() == full_record(**VERSION_2)
    assert (record.sig, record.sig_v, record.alg) == ("x", 2, "HMAC")


def test_the_id_is_derived_if_it_is_not_given() -> None:
    record = Record(**typed_arguments(pcs_id=REMOVE))
    assert record.pcs_id == full_record()["pcs_id"]


def test_defaults_are_those_of_a_first_delivery() -> None:
    names = ("seed", "attempt", "schema", "version", "ft", "pcs_id")
    record = Record(**typed_arguments(**dict.fromkeys(names, REMOVE)))
    assert record == Record(**typed_arguments())


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ({"r": math.nan}, "number_not_finite"),
        ({"r": 2}, "number_out_of_range"),
        ({"epoch": True}, "member_type"),
        ({"epoch": None}, "member_missing"),
        ({"scales": (4, 2)}, "number_out_of_range"),
        ({"ft": Ft(outbox_seq=-1)}, "number_out_of_range"),
        ({"ft": Ft(fallbacks=("",))}, "string_length"),
    ],
)
def test_construction_validates(change: dict[str, Any], code: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Record(**typed_arguments(**change))
    assert caught.value.code == code


def test_an_unknown_member_is_refused_by_both_entries() -> None:
    with pytest.raises(ValidationError) as caught:
        Record.from_dict(full_record(x=1))
    assert caught.value.code == "member_unknown"
    with pytest.raises(TypeError):
        Record(**{**typed_arguments(), "x": 1})


@pytest.mark.parametrize(
    "mutate",
    [
        lambda record: setattr(record, "r", 0.1),
        lambda record: record.N_j.update({"2": 1}),
        lambda record: setattr(record.ft, "degraded", True),
        lambda record: record.scales.append(1),
    ],
    ids=["member", "N_j", "ft", "scales"],
)
def test_nothing_in_it_can_be_changed(mutate: Callable[[Any], None]) -> None:
    record = Record(**typed_arguments())
    with pytest.raises((AttributeError, TypeError)):
        mutate(record)
    assert record.to_dict() == full_record()


def test_what_the_caller_keeps_is_not_in_it() -> None:
    arguments = typed_arguments()
    record = Record(**arguments)
    arguments["scales"].append(32)
    arguments["N_j"]["32"] = 1
    given_away = record.to_dict()
    given_away["v_star"].clear()
    given_away["ft"]["fallbacks"].append("x")
    assert record.to_dict() == full_record()


def test_its_text_shows_neither_signature_nor_direction() -> None:
    text = repr(Record.from_dict(full_record(**VERSION_2 | {"sig": "c2VjcmV0"})))
    assert "c2VjcmV0" not in text
    assert "0.6" not in text
