"""Draw cases where plausible implementations differ (conformance fuzzing).

Uniform values miss such a difference 95 times in 100, so each grammar aims at one seam. Owner of
the shares of the grammars, and of those that draw numbers.
"""

from __future__ import annotations

import math
import struct
from collections.abc import Callable, Mapping
from typing import Any, Final

from . import grammar_exchange, grammar_material, grammar_texts
from .draw import Draw, Question
from .grammar_texts import TYPED, record_text, signing

Grammar = Callable[[Draw], Question]

BOUNDS: Final = {"D_hat": 3.5, "budget": 1.0, "coh_star": 1.05, "r": 1.0}
MEMBERS: Final = ("r", "r", "r", "budget", "coh_star", "D_hat")
ONE: Final = 10**9
GRID_MAX: Final = 3_500_000_000


def bits_of(x: float) -> int:
    """Give the bits of a double."""
    found: int = struct.unpack(">Q", struct.pack(">d", x))[0]
    return found


def double_of(bits: int) -> float:
    """Give the double of some bits."""
    found: float = struct.unpack(">d", struct.pack(">Q", bits))[0]
    return found


def placed(draw: Draw, bits: int) -> Question:
    """Ask for a number alone, or as a member of a record, typed or as JSON."""
    x = double_of(bits)
    fitting = [name for name in MEMBERS if x <= BOUNDS[name]]
    member = draw.pick(fitting or MEMBERS)
    way = draw.below(20)
    if way < 15 or not math.isfinite(x):
        return Question("canon.number", {"member": member, "f64": f"{bits:016x}"})
    if way < 18:
        values = {**TYPED, member: f"{bits:016x}"}
        return Question("canon.record", {"entry": "typed", "values": values})
    return signing(draw, record_text(draw, **{member: repr(x)}))


def near(draw: Draw, x: float, ulps: int) -> int:
    """Move a double by at most so many units in the last place."""
    step = draw.below(2 * ulps + 1) - ulps
    return max(0, bits_of(x) + step)


def scale(draw: Draw, most: int) -> int:
    """Draw an integer whose size is drawn first, so that small ones are as likely as large."""
    size = 1 + draw.below(most.bit_length())
    return min(draw.below(1 << size), most)


def ties(draw: Draw) -> Question:
    """Ten decimals that end in 5, and their neighbours."""
    whole = draw.below(ONE) if draw.one_in(2) else scale(draw, GRID_MAX - 1)
    return placed(draw, near(draw, float(f"{whole}.5e-9"), 1))


def binary(draw: Draw) -> Question:
    """Odd multiples of 2^-10: half way at nine decimals."""
    odd = 2 * draw.below(512 if draw.one_in(2) else 1792) + 1
    step = draw.below(10)
    return placed(draw, bits_of(odd / 1024) + (step - 3 if step < 7 else 0))


def means(draw: Draw) -> Question:
    """Means of two values with nine decimals."""
    most = ONE if draw.one_in(2) else scale(draw, GRID_MAX) + 1
    return placed(draw, bits_of((draw.below(most) / 1e9 + draw.below(most) / 1e9) / 2))


SEAMS: Final = (1, 10, 100, 999, 1000, 1001, 10_000, 99_999, 100_000, 100_001)


def thresholds(draw: Draw) -> Question:
    """Small grid values, where the form of the text changes."""
    seam = draw.pick(SEAMS)
    n = 1 + draw.below(10_000) if draw.one_in(2) else max(0, seam + draw.below(7) - 3)
    x = n * 1e-9 if draw.one_in(4) else n / 1e9
    return placed(draw, near(draw, x, 1) if draw.one_in(4) else bits_of(x))


def grid(draw: Draw) -> Question:
    """Grid values and their neighbours, and ratios as estimators give them."""
    if draw.one_in(3):
        count = 1 + draw.below(2000)
        return placed(draw, bits_of(draw.below(count + 1) / count))
    n = scale(draw, GRID_MAX) if draw.one_in(2) else draw.below(ONE + 1)
    return placed(draw, near(draw, n / 1e9, 1))


EDGES: Final = (
    0x0000000000000000, 0x8000000000000000, 0x0000000000000001, 0x8000000000000001,
    0x000FFFFFFFFFFFFF, 0x0010000000000000, 0x3E012E0BE826D694, 0x3E012E0BE826D695,
    0x3E012E0BE826D696, 0x3E19C511DC3A41DF, 0x3E401B2B29A4692B, 0x3E2E1094D643F784,
    0x7FF0000000000000, 0xFFF0000000000000, 0x7FF8000000000000, 0x7FF0000000000001,
    0x7FEFFFFFFFFFFFFF, 0xBFF0000000000000, 0xBE01000000000000, 0x3FF0000000000000,
)  # fmt: skip


def edges(draw: Draw) -> Question:
    """Bounds and their neighbours, zeros, subnormals, NaN, infinities, predecessors of a half."""
    way = draw.below(4)
    if way == 0:
        name = draw.pick(tuple(BOUNDS))
        bits = bits_of(BOUNDS[name]) + draw.below(5) - 2
        return Question("canon.number", {"member": name, "f64": f"{bits:016x}"})
    if way == 1:
        return placed(draw, bits_of(float(f"{draw.below(100)}.5e-9")) - draw.below(2))
    if way == 2:
        name = draw.pick(tuple(BOUNDS))
        return Question("canon.number", {"member": name, "f64": f"{draw.pick(EDGES):016x}"})
    return placed(draw, draw.pick(EDGES))


def uniform(draw: Draw) -> Question:
    """Draw from the whole domain, as a control."""
    name = draw.pick(MEMBERS)
    bits = bits_of(draw.below(2**53) / 2**53 * BOUNDS[name])
    return Question("canon.number", {"member": name, "f64": f"{bits:016x}"})


SHARES: Final[Mapping[str, tuple[int, Grammar]]] = {
    "ties": (15, ties),
    "binary": (10, binary),
    "means": (10, means),
    "thresholds": (10, thresholds),
    "grid": (10, grid),
    "edges": (10, edges),
    "strings": (10, grammar_texts.strings),
    "json": (10, grammar_texts.structures),
    "material": (5, grammar_material.material),
    "exchange": (5, grammar_exchange.exchange),
    "uniform": (5, uniform),
}
"""Percent of the cases, and how one is drawn."""

_BY_PERCENT: Final = tuple(name for name, (share, _) in SHARES.items() for _ in range(share))
assert len(_BY_PERCENT) == 100


def question(seed: bytes, index: int, grammar: str | None = None) -> Question:
    """Rebuild case number `index` of a seed, of one grammar or of all by their shares."""
    draw = Draw(seed, index)
    name = draw.pick(_BY_PERCENT) if grammar is None else grammar
    made: Any = SHARES[name][1](draw)
    return Question(made.op, made.args, name)
