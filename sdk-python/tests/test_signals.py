"""Signals: closed forms, invariances, RFC 6962 roots, and the weather of Seattle."""

from __future__ import annotations

import array
import csv
import hashlib
import math
import subprocess
import sys
import zlib
from collections.abc import Iterator
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from real_data import seattle_weather

from fractal_lba import boxes
from fractal_lba.boxes import BINS, DIRECTIONS, BoxCounter, Coherence, Extent, measure
from fractal_lba.canonical import jcs, rounded
from fractal_lba.csv_table import CsvTable
from fractal_lba.errors import ConfigError, FractalLBAError, ValidationError
from fractal_lba.ids import derive_pcs_id
from fractal_lba.points import BLOCK_VALUES, COORDINATE_MAX, KeptBlocks, read_blocks
from fractal_lba.record import Record
from fractal_lba.signals import DEFAULT_SCALES, CanonicalRows, summarize
from fractal_lba.testing import FakeClock

WEATHER = ("precipitation", "temp_max", "temp_min", "wind")


def summary(source: Any, **options: Any) -> Record:
    given = {"shard_id": "s", "epoch": 1, "sent_at": "2026-01-01T00:00:00Z", **options}
    return summarize(source, **given)


def counts(source: Any, scales: tuple[int, ...]) -> list[int]:
    found = summary(source, scales=scales).N_j
    return [found[str(scale)] for scale in scales]


# --- closed forms ---------------------------------------------------------------------------


def test_a_full_line_has_dimension_one() -> None:
    record = summary(np.arange(64) / 63)
    assert list(record.N_j.values()) == list(DEFAULT_SCALES)
    assert record.D_hat == 1.0


def test_a_full_square_has_dimension_two() -> None:
    grid = [[x / 63, y / 63] for x in range(64) for y in range(64)]
    record = summary(grid)
    assert list(record.N_j.values()) == [s * s for s in DEFAULT_SCALES]
    assert record.D_hat == 2.0
    assert record.regime == "mixed"


def test_a_diagonal_of_a_cube_has_dimension_one() -> None:
    assert summary([[x, 2 * x, 3 * x - 7] for x in range(65)]).D_hat == 1.0


def test_uniform_points_in_five_dimensions_are_clamped_to_the_range_of_the_record() -> None:
    corners = [[(i >> k & 3) / 3 for k in range(0, 10, 2)] for i in range(1024)]
    record = summary(corners, scales=(2, 4))
    assert record.N_j == {"2": 32, "4": 1024}
    assert record.D_hat == 3.5
    assert record.regime == "non_sticky"


def test_one_point_lies_in_one_box_and_one_bin() -> None:
    record = summary([[3.5, -7.0]])
    assert set(record.N_j.values()) == {1}
    assert (record.D_hat, record.coh_star, record.regime) == (0.0, 1.0, "sticky")


def test_a_constant_coordinate_is_mapped_to_zero() -> None:
    assert counts([[x, 5.0] for x in range(64)], (2, 64)) == [2, 64]
    assert counts([[5.0], [5.0]], (2, 3)) == [1, 1]


def test_the_largest_value_lies_in_the_last_cell() -> None:
    # Were it in a cell of its own, there would be s + 1 of them.
    assert counts([[0.0], [0.5], [1.0]], (2, 4)) == [2, 3]


def test_counts_may_fall_at_a_scale_that_is_no_multiple() -> None:
    assert counts([[0.0], [0.4], [0.6], [1.0]], (2, 3)) == [2, 3]
    assert counts([[0.0], [0.45], [0.55], [1.0]], (4, 5)) == [4, 3]


def test_numbers_alone_are_points_of_one_coordinate() -> None:
    assert summary([1, 2.5, 4]) == summary([[1], [2.5], [4]]) == summary(np.array([1, 2.5, 4]))


@pytest.mark.parametrize("dimensions", [1, 3, 12, 40])
@pytest.mark.parametrize("scale", [1, 2, 7, 64, 1000, 2**31 - 1])
def test_every_way_of_counting_cells_counts_the_same(scale: int, dimensions: int) -> None:
    random = np.random.default_rng(scale * dimensions)
    few = random.integers(0, 50, (300, dimensions)) / 49
    counter = BoxCounter(scale, dimensions)
    for start in range(0, 300, 70):
        counter.add(few[start : start + 70])
    cells = {
        tuple(min(math.floor(Fraction(float(u) * scale)), scale - 1) for u in row) for row in few
    }
    assert counter.count() == len(cells)
    assert counter.count() == len(cells), "counting changes nothing"


def test_a_grid_of_more_cells_than_an_integer_numbers_is_counted_by_its_rows() -> None:
    # 8192^5 is 2^65: as one 64-bit integer, cells 0 and 4096 of the first axis would be equal.
    counter = BoxCounter(8192, 5)
    counter.add(np.array([[0.0] * 5, [0.5, 0.0, 0.0, 0.0, 0.0]]))
    assert counter.count() == 2


def test_cells_are_merged_as_they_double(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(boxes, "PENDING_CELLS_MIN", 8)
    random = np.random.default_rng(1)
    counter = BoxCounter(2**20, 4)
    parts = [random.random((5, 4)) for _ in range(40)]
    for part in [*parts, *parts]:
        counter.add(part)
    assert counter.count() == 200


def test_a_counter_of_nothing_counts_zero() -> None:
    assert BoxCounter(2, 1).count() == BoxCounter(2**31 - 1, 2).count() == 0


# --- directions -----------------------------------------------------------------------------


def test_the_best_direction_is_the_first_with_the_fullest_bin() -> None:
    random = np.random.default_rng(5)
    cloud = random.normal(size=(500, 3))
    extent = Extent(3)
    extent.include(cloud)
    unit = extent.unit(cloud)
    directions = boxes.draw_directions(7, 3)
    fullest = []
    for direction in directions:
        projected = [
            (row[0] * direction[0] + row[1] * direction[1]) + row[2] * direction[2] for row in unit
        ]
        low, spread = min(projected), max(projected) - min(projected)
        bins = [min(int((p - low) / spread * BINS), BINS - 1) for p in projected]
        fullest.append(max(bins.count(b) for b in range(BINS)))
    record = summary(cloud, seed=7)
    assert record.coh_star == max(fullest) / 500
    assert list(record.v_star) == directions[fullest.index(max(fullest))].tolist()


def test_directions_are_unit_vectors_and_follow_from_the_seed() -> None:
    first = boxes.draw_directions(2**53 - 1, 6)
    assert first.shape == (DIRECTIONS, 6)
    assert np.abs(np.sqrt((first**2).sum(axis=1)) - 1).max() < 1e-12
    assert (first == boxes.draw_directions(2**53 - 1, 6)).all()
    assert (first != boxes.draw_directions(0, 6)).any()


@pytest.mark.parametrize(("spread", "share"), [(1e-9, 1.0), (1.0, 0.5)])
def test_projections_that_hardly_spread_share_one_bin(spread: float, share: float) -> None:
    coherence = Coherence(0, 1)
    unit = np.array([[0.0], [spread]])
    coherence.measure(unit)
    coherence.fill(unit)
    assert coherence.best()[0] == share


# --- invariances ----------------------------------------------------------------------------

integers = st.integers(-1000, 1000)
clouds = st.integers(1, 4).flatmap(
    lambda d: st.lists(st.lists(integers, min_size=d, max_size=d), min_size=1, max_size=40)
)


@settings(deadline=None)  # a busy machine is no failure
@given(clouds, st.randoms(use_true_random=False))
def test_the_order_of_points_leaves_the_counts_unchanged(rows: Any, random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    before, after = summary(rows), summary(shuffled)
    assert before.N_j == after.N_j
    assert (before.coh_star, before.v_star) == (after.coh_star, after.v_star)


@settings(deadline=None)  # a busy machine is no failure
@given(clouds, st.integers(-20, 20), st.integers(-(2**20), 2**20))
def test_an_affine_map_leaves_counts_and_direction_unchanged(
    rows: Any, exponent: int, shift: int
) -> None:
    # A power of two and small integers: the map is exact, so nothing may move.
    moved = [[(x + shift) * 2.0**exponent for x in row] for row in rows]
    before, after = summary(rows), summary(moved)
    assert (before.N_j, before.v_star) == (after.N_j, after.v_star)


@settings(deadline=None)  # a busy machine is no failure
@given(clouds)
def test_a_reflection_of_an_axis_is_no_error(rows: Any) -> None:
    assert summary([[-x for x in row] for row in rows]).N_j["2"] <= 2 ** len(rows[0])


@settings(deadline=None)  # a busy machine is no failure
@given(
    hnp.arrays(
        np.float64,
        hnp.array_shapes(min_dims=2, max_dims=2, max_side=12),
        elements=st.floats(-COORDINATE_MAX, COORDINATE_MAX),
    )
)
def test_any_finite_points_give_a_record_that_the_schema_takes(cloud: Any) -> None:
    record = summary(cloud)
    assert 0 <= record.D_hat <= 3.5
    assert 0 < record.coh_star <= 1
    assert 0 <= record.r <= 1
    assert 0 <= record.budget <= 1
    assert len(record.v_star) == cloud.shape[1]
    assert all(1 <= n <= len(cloud) for n in record.N_j.values())
    assert Record.from_dict(record.to_dict()) == record


@settings(deadline=None)  # a busy machine is no failure
@given(clouds)
def test_arrays_rows_and_tuples_of_any_number_type_give_one_record(rows: Any) -> None:
    expected = summary(rows)
    assert summary(np.array(rows, dtype=np.int16)) == expected
    assert summary(np.asfortranarray(np.array(rows, dtype=np.float32))) == expected
    assert summary(tuple(Fraction(x) for x in row) for row in rows) == expected
    assert summary(iter(np.array(rows, dtype=np.float64))) == expected


# --- text: rows, root, compression -----------------------------------------------------------


def text_of(rows: list[list[float]]) -> bytes:
    return b"".join(b",".join(jcs(float(x)) for x in row) + b"\n" for row in rows)


def rfc6962(leaves: list[bytes]) -> bytes:
    """RFC 6962 section 2.1 as it is written: recursive, split at the largest power of two."""
    if not leaves:
        return hashlib.sha256(b"").digest()
    if len(leaves) == 1:
        return hashlib.sha256(b"\0" + leaves[0]).digest()
    split = 1 << (len(leaves) - 1).bit_length() - 1
    left, right = rfc6962(leaves[:split]), rfc6962(leaves[split:])
    return hashlib.sha256(b"\1" + left + right).digest()


def chunks(text: bytes) -> list[bytes]:
    return [text[i : i + 64] for i in range(0, len(text), 64)]


def test_canonical_rows_write_numbers_as_ecmascript_does() -> None:
    rows = [[0.1, -0.0, 1e21], [1e-7, 100.0, 123456789012345680000.0]]
    expected = b"0.1,0,1e+21\n1e-7,100,123456789012345680000\n"
    assert text_of(rows) == expected
    text = CanonicalRows()
    text.add(np.array(rows))
    assert text.finish()[0] == rfc6962(chunks(expected)).hex()


@pytest.mark.parametrize("leaves", [1, 2, 3, 5, 7, 8, 9, 64, 65])
@pytest.mark.parametrize("last_bytes", [2, 64])
def test_the_root_is_that_of_rfc_6962_over_chunks_of_64_bytes(leaves: int, last_bytes: int) -> None:
    # Each point `0` is two bytes, so the text is whole chunks and a last one of chosen length.
    number = (64 * (leaves - 1) + last_bytes) // 2
    record = summary([0.0] * number)
    text = b"0\n" * number
    assert len(chunks(text)) == leaves
    assert record.merkle_root == rfc6962(chunks(text)).hex()
    assert record.pcs_id == derive_pcs_id(record.merkle_root, 1, "s")


@pytest.mark.parametrize(
    ("leaves", "root"),
    [
        (0, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"),
        (1, "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d"),
        (2, "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125"),
        (3, "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77"),
        (5, "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4"),
        (7, "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c"),
    ],
)
def test_the_recursive_root_is_that_of_other_implementations(leaves: int, root: str) -> None:
    published = [
        bytes.fromhex(leaf)
        for leaf in (
            "", "00", "10", "2021", "3031", "40414243", "5051525354555657",
        )
    ]  # fmt: skip
    assert rfc6962(published[:leaves]).hex() == root


@settings(deadline=None)  # a busy machine is no failure
@given(st.lists(st.floats(-1e300, 1e300), min_size=1, max_size=200), st.integers(1, 9))
def test_blocks_do_not_show_in_text_root_or_compression(numbers: list[float], step: int) -> None:
    text = CanonicalRows()
    column = np.array(numbers).reshape(-1, 1)
    for start in range(0, len(column), step):
        text.add(column[start : start + step])
    whole = text_of([[x] for x in numbers])
    root, r = text.finish()
    assert root == rfc6962(chunks(whole)).hex()
    assert r == min(1.0, len(zlib.compress(whole, 6)) / len(whole))


def test_repetition_compresses_and_noise_does_not() -> None:
    assert summary([[1.5, 2.5]] * 1000).r < 0.02
    assert summary([[1.5]]).r == 1.0


# --- what a point may be ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("source", "code", "words"),
    [
        ([], "config_invalid", "at least one, got none"),
        (np.empty((0, 3)), "config_invalid", "at least one, got none"),
        (np.zeros((2, 2, 2)), "config_invalid", "3 axes"),
        (np.array(["1"]), "config_invalid", "<U1"),
        (np.array([True]), "config_invalid", "bool"),
        (np.zeros((3, 0)), "config_invalid", "1 to 2048 coordinates, got 0"),
        (np.zeros((1, 2049)), "config_invalid", "1 to 2048 coordinates, got 2049"),
        ([[]], "config_invalid", "1 to 2048 coordinates, got 0"),
        (7, "config_invalid", "got int"),
        (b"1,2", "config_invalid", "got bytes"),
        (np.array([[1.0], [np.nan]]), "number_not_finite", "row 1, column 0"),
        ([[1.0, 2.0], [1.0, math.inf]], "number_not_finite", "row 1, column 1"),
        ([[-1.7e308]], "number_out_of_range", "2^1022"),
        ([[10**400]], "number_out_of_range", "2^1022"),
        ([[1.0], [1.0, 2.0]], "member_type", "row 1: expected 1 coordinates, got 2"),
        ([[1.0], 2.0], "member_type", "row 1: expected a sequence of numbers, got float"),
        ([["1.0"]], "member_type", "got str '1.0'"),
        ([[True]], "member_type", "got bool True"),
        ([["a"], "b"], "member_type", "row 0, column 0"),
        ([None], "member_type", "row 0: expected a sequence of numbers, got NoneType"),
        ([{"a": 1.0}], "member_type", "got dict"),
        ([[1j]], "member_type", "got complex"),
    ],
)
def test_what_is_no_finite_point_is_refused_with_its_place(
    source: Any, code: str, words: str
) -> None:
    with pytest.raises(FractalLBAError) as caught:
        summary(source)
    assert caught.value.code == code
    assert words in str(caught.value)


def test_a_bad_value_far_into_a_stream_is_named_by_its_row() -> None:
    rows = BLOCK_VALUES // 100 + 5
    column = np.zeros(rows)
    column[-1] = np.inf
    for source in (column, iter(column.tolist())):
        with pytest.raises(ValidationError, match=f"row {rows - 1}, column 0"):
            summary(source)


def test_rows_may_be_arrays_of_the_standard_library() -> None:
    assert summary([array.array("d", [1.0, 2.0]), (3, 4)]) == summary([[1, 2], [3, 4]])


@pytest.mark.parametrize(
    ("options", "code"),
    [
        ({"scales": (2,)}, "string_length"),
        ({"scales": (4, 2)}, None),
        ({"scales": (0, 2)}, None),
        ({"scales": ("2", "4")}, None),
        ({"scales": tuple(range(1, 40))}, None),
        ({"seed": -1}, "number_out_of_range"),
        ({"epoch": 2**53}, "epoch_invalid"),
        ({"epoch": 1.0}, "epoch_invalid"),
        ({"shard_id": ""}, "string_length"),
        ({"attempt": 0}, "number_out_of_range"),
        ({"sent_at": "yesterday"}, None),
    ],
)
def test_a_wrong_argument_is_refused_before_the_points_are_read(
    options: dict[str, Any], code: str | None
) -> None:
    def endless() -> Iterator[list[float]]:
        raise AssertionError("the points were read")
        yield []

    with pytest.raises(ValidationError) as caught:
        summary(endless(), **options)
    assert code is None or caught.value.code == code


def test_the_clock_is_an_argument() -> None:
    clock = FakeClock(1_767_225_599_999)
    record = summarize([1.0, 2.0], shard_id="s", epoch=0, clock=clock)
    assert record.sent_at == "2025-12-31T23:59:59Z"
    assert summarize([1.0], shard_id="s", epoch=0).sent_at > "2026"


# --- long streams ----------------------------------------------------------------------------


def test_a_spool_gives_back_the_same_points_from_memory_and_file() -> None:
    blocks = list(read_blocks(iter(np.random.default_rng(3).random((9000, 2)))))
    assert len(blocks) > 3
    for limit in (0, blocks[0].nbytes, 2**30):
        with KeptBlocks(memory_bytes_max=limit) as kept:
            for block in blocks:
                kept.keep(block)
            for _ in range(2):
                assert (np.concatenate(list(kept.blocks())) == np.concatenate(blocks)).all()


def test_a_view_of_the_callers_array_takes_no_memory_of_the_spool() -> None:
    array_of_points = np.random.default_rng(3).random((9000, 2))
    with KeptBlocks(memory_bytes_max=0) as kept:
        for block in read_blocks(array_of_points):
            kept.keep(block)
        assert all(np.shares_memory(block, array_of_points) for block in kept.blocks())


def test_progress_names_each_pass_and_ends_at_the_number_of_points() -> None:
    seen: list[tuple[str, int]] = []
    summary(range(6000), on_progress=lambda name, done: seen.append((name, done)))
    assert dict(seen) == {"read": 6000, "count": 6000, "project": 6000}
    assert [done for name, done in seen if name == "read"] == [2621, 5242, 6000]


# --- real data -------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def weather() -> Path:
    return seattle_weather()


def test_seattle_weather_by_an_independent_count(weather: Path) -> None:
    with weather.open(encoding="utf-8", newline="") as file:
        rows = [[Fraction(row[name]) for name in WEATHER] for row in csv.DictReader(file)]
    record = summary(weather)
    low = [min(column) for column in zip(*rows, strict=True)]
    span = [max(column) - min(column) for column in zip(*rows, strict=True)]
    unit = [[(x - a) / s for x, a, s in zip(row, low, span, strict=True)] for row in rows]
    assert record.N_j == {
        str(s): len({tuple(min(math.floor(u * s), s - 1) for u in row) for row in unit})
        for s in DEFAULT_SCALES
    }
    assert (len(rows), record.N_j["64"]) == (1461, 1432)
    text = text_of([[float(x) for x in row] for row in rows])
    assert record.merkle_root == rfc6962(chunks(text)).hex()
    assert record.r == rounded(len(zlib.compress(text, 6)) / len(text))


def test_seattle_weather_has_the_dimension_of_weather_not_of_its_units(weather: Path) -> None:
    table = CsvTable(weather)
    assert summary(table).D_hat == 1.454560947
    assert table.columns == WEATHER
    # Up to 32 cells the 1,461 days still fill the boxes. Were the largest value of a coordinate in
    # a cell of its own, the slope would be 1.769466985; on raw units it is 0.016.
    assert summary(weather, scales=(2, 4, 8, 16, 32)).D_hat == 1.832385885


# --- packaging -------------------------------------------------------------------------------


def test_without_numpy_summarize_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for loaded in ("fractal_lba.boxes", "fractal_lba.points"):
        monkeypatch.delitem(sys.modules, loaded)
    monkeypatch.setitem(sys.modules, "numpy", None)
    with pytest.raises(ConfigError, match=r"needs numpy; .*fractal-lba\[signals\]"):
        summary([1.0])


def test_the_module_loads_without_numpy() -> None:
    program = "import sys; sys.modules['numpy'] = None; import fractal_lba.signals"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, check=False)
    assert done.returncode == 0, done.stderr.decode()


def test_of_no_blocks_nothing_is_measured() -> None:
    nothing = measure([], (2, 4), 0, on_read=lambda _: None, on_progress=lambda _name, _done: None)
    assert nothing is None
