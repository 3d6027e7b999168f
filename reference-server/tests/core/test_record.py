"""The shape of a record: one fault has one code and one pointer, and nothing else is raised."""

from __future__ import annotations

import copy
import json
import math
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import jsonschema_rs
import pytest
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st

from fractal_lba.canonical import canonicalize, parse
from fractal_lba.errors import CODES, FractalLBAError, SignatureError, ValidationError
from fractal_lba.ids import check_pcs_id
from fractal_lba.record import check_record
from fractal_lba_server.contract import record_shape, schema
from fractal_lba_server.core.record import (
    FRESH_MARGIN_MS,
    FUTURE_MARGIN_MS,
    NORM_MAX,
    NORM_MIN,
    RecordShape,
    check_fresh,
    check_lexical_integers,
    instant_ms,
)
from fractal_lba_server.core.shape import compile_schema

CHECK = record_shape().check
ROOT = Path(__file__).resolve().parents[3]
EXAMPLES = yaml.safe_load((ROOT / "spec" / "examples.yaml").read_text(encoding="utf-8"))
RECORD: dict[str, Any] = EXAMPLES["records"]["version_2"]["value"]
RECORD_1: dict[str, Any] = EXAMPLES["records"]["version_1"]["value"]
VECTORS = ROOT / "golden" / "vectors"
GONE: Any = ...
"""As a value of `changed`: the member is absent."""


def changed(path: str, value: Any, base: dict[str, Any] = RECORD) -> dict[str, Any]:
    """Copy a record with the value at a path such as `ft.degraded` replaced or removed."""
    record = copy.deepcopy(base)
    *parents, last = path.split("/")
    node: Any = record
    for step in parents:
        node = node[int(step) if isinstance(node, list) else step]
    if value is GONE:
        del node[last]
    else:
        node[int(last) if isinstance(node, list) else last] = value
    return record


def refusal(record: dict[str, Any]) -> tuple[str, str | None] | None:
    try:
        CHECK(record)
    except FractalLBAError as error:
        return error.code, error.pointer
    return None


INF = math.inf
MISSING = [
    pytest.param(changed(name, GONE), "member_missing", f"/{name}", id=f"missing-{name}")
    for name in RECORD
    if name != "sig_v"
]
FAULTS: list[tuple[Any, ...]] = [
    # path, value, code, pointer where it is not that of the path
    ("extra", 1, "member_unknown"),
    ("a~b", 1, "member_unknown", "/a~0b"),
    ("d_hat", 1.5, "member_unknown"),
    ("schema", "other", "schema_unsupported"),
    ("schema", None, "member_type"),
    ("version", "0.2", "schema_unsupported"),
    ("version", 0.1, "member_type"),
    ("pcs_id", "A" * 64, "hex_invalid"),
    ("pcs_id", "a" * 63, "hex_invalid"),
    ("pcs_id", "a" * 64 + "\n", "hex_invalid"),
    ("pcs_id", 5, "member_type"),
    ("merkle_root", "g" * 64, "hex_invalid"),
    ("shard_id", "", "string_length"),
    ("shard_id", "x" * 257, "string_length"),
    ("shard_id", "\u20ac" * 85 + "xx", "string_length"),
    ("shard_id", ["x"], "member_type"),
    ("epoch", 1.0, "epoch_invalid"),
    ("epoch", -0.0, "epoch_invalid"),
    ("epoch", 1.5, "epoch_invalid"),
    ("epoch", -1, "epoch_invalid"),
    ("epoch", 2**53, "epoch_invalid"),
    ("epoch", 10**400, "epoch_invalid"),
    ("epoch", INF, "epoch_invalid"),
    ("epoch", "1", "member_type"),
    ("epoch", True, "member_type"),
    ("epoch", None, "member_type"),
    ("attempt", 1.0, "member_type"),
    ("attempt", 0.0, "member_type"),
    ("attempt", 0, "number_out_of_range"),
    ("attempt", 2**53, "number_out_of_range"),
    ("seed", 1.0, "member_type"),
    ("seed", 0.5, "member_type"),
    ("seed", -1, "number_out_of_range"),
    ("sent_at", "2026-01-15T12:00:00", "member_type"),
    ("sent_at", "2026-01-15T12:00:60Z", "member_type"),
    ("sent_at", "2026-01-15T24:00:00Z", "member_type"),
    ("sent_at", "2026-02-29T12:00:00Z", "member_type"),
    ("sent_at", "2200-02-29T12:00:00Z", "member_type"),
    ("sent_at", "2026-04-31T12:00:00Z", "member_type"),
    ("sent_at", "2026-06-31T12:00:00Z", "member_type"),
    ("sent_at", "2026-09-31T12:00:00Z", "member_type"),
    ("sent_at", "2026-11-31T12:00:00Z", "member_type"),
    ("sent_at", "0000-01-01T00:00:00Z", "member_type"),
    ("sent_at", "2026-01-15T12:00:00.1234567890Z", "member_type"),
    ("sent_at", "2026-01-15T12:00:00Z\n", "member_type"),
    ("sent_at", 1768478400, "member_type"),
    ("scales", [2], "string_length"),
    ("scales", list(range(1, 34)), "string_length"),
    ("scales", {"2": 4}, "member_type"),
    ("scales/1", 4.0, "member_type"),
    ("scales/0", 0, "number_out_of_range"),
    ("scales/5", 2**31, "number_out_of_range"),
    ("scales/1", 2, "number_out_of_range"),
    ("scales/2", 3, "number_out_of_range"),
    ("N_j/64", GONE, "member_missing"),
    ("N_j/128", 5, "member_unknown"),
    ("N_j/064", 5, "member_unknown"),
    ("N_j/64", 0, "number_out_of_range"),
    ("N_j/64", 64.0, "member_type"),
    ("N_j/64", None, "member_type"),
    ("N_j", [], "member_type"),
    ("coh_star", -5e-324, "number_out_of_range"),
    ("coh_star", math.nextafter(1.05, 2), "number_out_of_range"),
    ("v_star", [], "string_length"),
    ("v_star", [1.0] + [0.0] * 2048, "string_length"),
    ("v_star", [0.6, 0.7], "number_out_of_range"),
    ("v_star", [0, 10**400], "number_out_of_range", "/v_star/1"),
    ("v_star/0", -(10**400), "number_out_of_range"),
    ("v_star/1", INF, "number_out_of_range"),
    ("v_star/1", "0", "member_type"),
    ("v_star/1", True, "member_type"),
    ("D_hat", math.nextafter(3.5, 4), "number_out_of_range"),
    ("D_hat", 10**400, "number_out_of_range"),
    ("D_hat", INF, "number_out_of_range"),
    ("D_hat", -INF, "number_out_of_range"),
    ("D_hat", None, "member_type"),
    ("D_hat", "1.5", "member_type"),
    ("r", math.nextafter(1, 2), "number_out_of_range"),
    ("budget", 1.5, "number_out_of_range"),
    ("regime", "Sticky", "member_type"),
    ("regime", 1.5, "member_type"),
    ("ft", None, "member_type"),
    ("ft/outbox_seq", GONE, "member_missing"),
    ("ft/extra", 1, "member_unknown"),
    ("ft/outbox_seq", -1, "number_out_of_range"),
    ("ft/outbox_seq", 0.0, "member_type"),
    ("ft/degraded", 0, "member_type"),
    ("ft/fallbacks", ["x"] * 17, "string_length"),
    ("ft/fallbacks", [""], "string_length", "/ft/fallbacks/0"),
    ("ft/fallbacks", ["ok", "\U0001f600" * 16 + "x"], "string_length", "/ft/fallbacks/1"),
    ("ft/fallbacks", [1], "member_type", "/ft/fallbacks/0"),
    ("ft/clock_skew_ms", 86_400_001, "number_out_of_range"),
    ("ft/clock_skew_ms", 0.5, "member_type"),
    ("ft/clock_skew_ms", 0.0, "member_type"),
    ("sig", 5, "member_type"),
    ("alg", 5, "member_type"),
    ("kid", "", "string_length"),
    ("kid", "k" * 65, "string_length"),
    ("kid", "\u20ac" * 21 + "xx", "string_length"),
    ("tenant_id", "\u20ac" * 22, "string_length"),
    ("tenant_id", 7, "member_type"),
]
ONE_FAULT = [
    pytest.param(changed(path, value), code, (*rest, "/" + path)[0], id=f"{index}-{path}")
    for index, (path, value, code, *rest) in enumerate(FAULTS)
] + [
    *MISSING,
    pytest.param(changed("sig_v", GONE), "member_unknown", "/tenant_id", id="version-1-tenant"),
    pytest.param(changed("extra", 1, RECORD_1), "member_unknown", "/extra", id="version-1-extra"),
    pytest.param({**RECORD, "a/b": 1}, "member_unknown", "/a~1b", id="slash"),
]

VALID = [
    RECORD,
    RECORD_1,
    changed("kid", GONE, RECORD_1),
    changed("alg", "Ed25519"),
    changed("kid", "\u20ac" * 21 + "x"),
    changed("shard_id", "\u20ac" * 85 + "x"),
    changed("shard_id", "a\x00\u2028\U0001f600"),
    changed("epoch", 2**53 - 1),
    changed("sent_at", "2024-02-29T23:59:59.123456789Z"),
    changed("sent_at", "2000-02-29T00:00:00Z"),
    changed("sent_at", "0001-01-01T00:00:00Z"),
    changed("sent_at", "2026-12-31T00:00:00Z"),
    changed("v_star", [-1]),
    changed("v_star", [NORM_MIN]),
    changed("v_star", [0.0, -NORM_MAX]),
    changed("D_hat", 3),
    changed("D_hat", -0.0),
    changed("coh_star", 1.05),
    changed("ft/fallbacks", ["\U0001f600" * 16] * 16),
    changed("ft/clock_skew_ms", -86_400_000),
]


@pytest.mark.parametrize("record", VALID)
def test_record_in_its_format_passes(record: dict[str, Any]) -> None:
    assert refusal(record) is None


@pytest.mark.parametrize(("record", "code", "pointer"), ONE_FAULT)
def test_one_fault_has_one_code_and_pointer(
    record: dict[str, Any], code: str, pointer: str
) -> None:
    assert refusal(record) == (code, pointer)


@pytest.mark.parametrize(("record", "code", "pointer"), ONE_FAULT)
def test_the_sdk_finds_the_same_fault(record: dict[str, Any], code: str, pointer: str) -> None:
    with pytest.raises(FractalLBAError) as caught:
        check_record(record, signed=True)
    assert (caught.value.code, caught.value.pointer) == (code, pointer)


@pytest.mark.parametrize("norm", [math.nextafter(NORM_MIN, 0), math.nextafter(NORM_MAX, 2)])
def test_norm_outside_a_millionth_is_refused(norm: float) -> None:
    assert refusal(changed("v_star", [norm])) == ("number_out_of_range", "/v_star")


def test_unsupported_schema_is_told_before_all_else() -> None:
    record = {**changed("version", "0.2", changed("seed", GONE)), "new_member": 1, "D_hat": "x"}
    assert refusal(record) == ("schema_unsupported", "/version")


@pytest.mark.parametrize("value", [1, 3, 2.0, "2", None, [2]])
def test_signature_version_is_left_to_the_signature(value: Any) -> None:
    record = changed("sig_v", value)
    assert refusal(record) is None
    assert refusal({**record, "seed": 1.0}) == ("member_type", "/seed")
    with pytest.raises(SignatureError, match="sig_version_unsupported"):
        canonicalize(record)


def test_algorithm_is_left_to_the_key_record() -> None:
    assert refusal(changed("alg", "none")) is None
    assert refusal(changed("alg", None)) == ("member_type", "/alg")


def test_smallest_missing_scale_is_named() -> None:
    with pytest.raises(ValidationError, match=r"N_j\.8: missing"):
        CHECK(changed("N_j/8", GONE, changed("N_j/16", GONE)))


def test_names_made_of_digits_keep_their_spelling() -> None:
    assert refusal(changed("N_j/007", "x")) == ("member_type", "/N_j/007")
    assert refusal(changed("007", 1)) == ("member_unknown", "/007")
    assert refusal(changed("ft/0", 1)) == ("member_unknown", "/ft/0")


@pytest.mark.parametrize(
    "record",
    [
        changed("kid", "not for logs" * 6),
        changed("shard_id", ["not for logs"]),
        changed("ft", "not for logs"),
        changed("sent_at", "not for logs"),
        changed("version", "not for logs"),
        changed("regime", {"not for logs": 1}),
    ],
)
def test_message_quotes_no_text_of_the_record(record: dict[str, Any]) -> None:
    with pytest.raises(FractalLBAError) as caught:
        CHECK(record)
    assert "not for logs" not in caught.value.message
    assert "expected" in caught.value.message


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (None, "null"), (True, "true"), (False, "false"), (9, "9"), ([1, 2], "an array of 2 items"),
        ({}, "an object"), ("abc", "a string of 3 characters"), (10**400, "1" + "0" * 23),
    ],
)  # fmt: skip
def test_message_says_what_was_found(value: Any, found: str) -> None:
    with pytest.raises(FractalLBAError) as caught:
        CHECK(changed("D_hat", value))
    assert caught.value.message.endswith(f"got {found}")


@pytest.mark.parametrize(
    "record",
    [
        {f"member{i}": 1 for i in range(6_000)},
        changed("N_j", {f"name{i}": "x" for i in range(6_000)}),
        changed("ft", {f"name{i}": 1 for i in range(6_000)}),
        changed("v_star", ["x"] * 16_000),
        changed("scales", [1] * 30_000),
    ],
)
def test_hostile_record_is_refused_at_its_first_fault(record: dict[str, Any]) -> None:
    found = refusal(record)
    assert found is not None
    assert CODES[found[0]].status == 422


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=4), inner, max_size=4)
    ),
    max_leaves=8,
)
PLACES = sorted(
    {
        *RECORD,
        "extra",
        "scales/0",
        "N_j/2",
        "N_j/3",
        "v_star/0",
        "ft/degraded",
        "ft/x",
        "ft/fallbacks",
    }
)


@settings(max_examples=300, deadline=None)
@given(
    places=st.lists(st.sampled_from(PLACES), min_size=1, max_size=3, unique=True), data=st.data()
)
def test_any_record_passes_or_is_refused_with_a_code_of_the_list(
    places: list[str], data: st.DataObject
) -> None:
    record = copy.deepcopy(RECORD)
    for place in sorted(places, reverse=True):  # `ft/x` before `ft`
        record = changed(place, data.draw(JSON, label=place), record)
    found = refusal(record)
    assert found is None or CODES[found[0]].status == 422
    assert (found is None) is is_record_for_the_sdk(record)


@settings(max_examples=300, deadline=None)
@given(
    # The library takes 2.0 for the constant 2; `sig_v` is judged with the key.
    places=st.lists(st.sampled_from(sorted({*PLACES} - {"sig_v"})), max_size=3, unique=True),
    name=st.sampled_from(["version_1", "version_2"]),
    data=st.data(),
)
def test_compiled_schema_says_what_the_schema_and_the_lexical_rule_say(
    places: list[str], name: str, data: st.DataObject
) -> None:
    record = copy.deepcopy(EXAMPLES["records"][name]["value"])
    for place in sorted(places, reverse=True):
        record = changed(place, data.draw(JSON, label=place), record)
    try:
        slowly = WHOLE.is_valid(record) and check_lexical_integers(record) is None
    except ValueError:  # NaN or infinity
        slowly = False
    assert COMPILED(record) is slowly


WHOLE = jsonschema_rs.Draft202012Validator(schema("pcs"))
COMPILED = compile_schema(schema("pcs"))


def is_record_for_the_sdk(record: dict[str, Any]) -> bool:
    """Tell whether the SDK's own check takes a record, but for what the key decides."""
    judged_later = {"alg": "HMAC", "sig_v": 2}
    try:
        check_record(
            {**record, **{n: v for n, v in judged_later.items() if n in record}}, signed=True
        )
    except FractalLBAError:
        return False
    return "alg" not in record or type(record["alg"]) is str


@given(
    scales=st.lists(st.integers(1, 2**31 - 1), min_size=2, max_size=32, unique=True).map(sorted),
    data=st.data(),
)
def test_counts_of_exactly_the_scales_pass(scales: list[int], data: st.DataObject) -> None:
    counts = {str(scale): data.draw(st.integers(1, 2**53 - 1)) for scale in scales}
    record = {**RECORD, "scales": scales, "N_j": counts}
    assert refusal(record) is None
    left_out = data.draw(st.sampled_from(scales))
    del counts[str(left_out)]
    assert refusal(record) == ("member_missing", f"/N_j/{left_out}")


def test_a_schema_without_a_code_for_its_keyword_is_a_defect() -> None:
    pcs = copy.deepcopy(schema("pcs"))
    del pcs["x-code"]["maximum"]
    with pytest.raises(AssertionError, match="no x-code for maximum"):
        RecordShape(pcs).check(changed("r", 2))


# --- vectors


def vectors(suite: str, op: str) -> list[Any]:
    """Load the cases of one operation; none while the suite is not there."""
    files = [json.loads(path.read_bytes()) for path in sorted((VECTORS / suite).glob("*.json"))]
    return [
        pytest.param(case, id=case["id"])
        for file in files
        if file["op"] == op
        for case in file["cases"]
    ]


def judged(body: bytes, *, signed: bool) -> tuple[str | None, str | None]:
    """Take a body as far as its record alone decides; give code and pointer of a refusal."""
    try:
        record = parse(body)
        if not signed:  # this entry takes records before they are signed
            record.setdefault("sig", "")
        CHECK(record)
        check_pcs_id(record)
        canonicalize(record)
    except FractalLBAError as error:
        return error.code, error.pointer
    return None, None


@pytest.mark.parametrize("case", vectors("reject", "record.parse"))
def test_vectors_of_the_record_entry(case: dict[str, Any]) -> None:
    expected = None if case["result"] == "valid" else case["expect"]["code"]
    assert judged(bytes.fromhex(case["args"]["json"]), signed=False)[0] == expected


@pytest.mark.parametrize("case", vectors("reject-http", "http.submit"))
def test_vectors_of_the_http_entry(case: dict[str, Any]) -> None:
    expect = case["expect"]
    code, pointer = judged(bytes.fromhex(case["args"]["body"]), signed=True)
    if CODES[expect["code"]].status in (400, 422):
        assert code == expect["code"]
        assert pointer == expect.get("pointer", pointer)
    else:  # keys, tenants and headers decide, which are not known here
        assert code in (None, expect["code"])


# --- age

DAY_MS = 86_400_000


@given(st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)), st.integers(0, 9))
def test_instant_is_that_of_the_calendar(moment: datetime, digits: int) -> None:
    fraction = f".{moment.microsecond * 1000:09d}"[: digits + 1] if digits else ""
    text = moment.strftime("%Y").rjust(4, "0") + moment.strftime("-%m-%dT%H:%M:%S") + fraction + "Z"
    shown_ms = int(fraction[1:].ljust(3, "0")[:3]) if fraction else 0
    since = moment.replace(microsecond=0, tzinfo=UTC) - datetime(1970, 1, 1, tzinfo=UTC)
    assert instant_ms(text) == since // timedelta(milliseconds=1) + shown_ms


@pytest.mark.parametrize(
    ("age_ms", "fresh"),
    [
        (0, True),
        (13 * DAY_MS, True),
        (13 * DAY_MS + 1, False),
        (-FUTURE_MARGIN_MS, True),
        (-FUTURE_MARGIN_MS - 1, False),
    ],
)
def test_record_is_taken_until_a_day_before_its_id_is_forgotten(age_ms: int, fresh: bool) -> None:
    ttl_ms = 13 * DAY_MS + FRESH_MARGIN_MS
    now_ms = instant_ms(RECORD["sent_at"]) + age_ms
    if fresh:
        check_fresh(RECORD, ttl_ms=ttl_ms, now_ms=now_ms)
        return
    with pytest.raises(ValidationError) as caught:
        check_fresh(RECORD, ttl_ms=ttl_ms, now_ms=now_ms)
    assert (caught.value.code, caught.value.pointer) == ("record_expired", "/sent_at")
