"""Suite `number`: rounding, number text and domains of the four signed floats."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

from golden.oracle import canon, double
from golden.oracle.emit import Flag, Stream, Suite

FLAGS = {
    "Bound": Flag("A bound of the domain or a neighbour.", ("canonical 3.1", "canonical 3.2(2)")),
    "DecimalTie": Flag("Ten decimals ending in 5.", ("canonical 3.2(3)", "canonical 3.2(4)")),
    "ExactTie": Flag("Odd multiple of 2^-10: half way at 9 decimals.", ("canonical 3.2(4)",)),
    "Grid": Flag("A value with 9 decimals, or a neighbour.", ("canonical 3.2(3)",)),
    "GridMean": Flag("Mean of two values with 9 decimals.", ("canonical 3.2(4)",)),
    "NotFinite": Flag("NaN or infinity.", ("canonical 3.2(2)",)),
    "OutOfRange": Flag("Outside the domain before rounding.", ("canonical 3.2(2)",)),
    "Ratio": Flag("A ratio k/m such as estimators give.", ("canonical 3.2(3)",)),
    "Seam": Flag("A double where plausible roundings differ.", ("canonical 3.2(3)", "canonical 3.2(6)")),
    "Text": Flag("A threshold or form of the text.", ("canonical 3.2(5)",)),
    "Tiny": Flag("Subnormal or far below the grid.", ("canonical 3.2(4)",)),
    "Uniform": Flag("A uniform draw, as a control.", ("canonical 3.2(3)",)),
    "Zero": Flag("Zero with either sign.", ("canonical 3.2(2)", "canonical 3.2(5)")),
}
ULPS = (-2, -1, 0, 1, 2)


def run(args: dict[str, Any]) -> dict[str, Any]:
    n = canon.check_float(args["member"], int(args["f64"], 16))
    return {"text": canon.number_text(n), "nano": str(n)}


class Numbers:
    """Collect cases; a double that is already there for its member is passed over."""

    def __init__(self) -> None:
        self.suite = Suite("number/number.json", "canon.number", "suites/number.py", FLAGS, run)
        self.seen: set[tuple[str, int]] = set()

    def add(self, name: str, flag: str, bits: int, member: str = "r", **more: Any) -> None:
        if (member, bits) in self.seen:
            return
        self.seen.add((member, bits))
        args = {"member": member, "f64": double.hex16(bits)}
        self.suite.add(f"number/{name}", flag, args, **more)

    def near(self, name: str, flag: str, bits: int, ulps: tuple[int, ...] = ULPS) -> None:
        """Add a double of `r` and its neighbours that are in the domain."""
        for step in ulps:
            if bits + step <= canon.BOUND["r"]:
                suffix = {True: f"-up{step}", False: f"-down{-step}"}[step > 0] if step else ""
                self.add(name + suffix, flag, bits + step)


def nearest(num: int, den: int) -> int:
    return double.nearest(Fraction(num, den))


def seams(n: Numbers) -> None:
    """The doubles that the mutant list names; these come first so that they keep their names."""
    named = {
        "3e012e0be826d695": ("half-nano", ("R01",)),
        "3f50000000000000": ("tie-1-1024", ("R02",)),
        "3e19c511dc3a41df": ("product-tie-1.5e-9", ("R03",)),
        "3e401b2b29a4692b": ("decimal-tie-7.5e-9", ("R04",)),
        "3e012e0be826d694": ("half-nano-predecessor", ("R05",)),
        "3e2e1094d643f784": ("fused-3.5e-9", ("R07", "R13")),
        "3e049da7e361ce4c": ("six-tenths-nano", ("R08",)),
        "3dfb7cdfd9d7bdbb": ("four-tenths-nano", ("R09",)),
        "3fb999999999999a": ("one-tenth", ("R10", "N10")),
        "3e112e0be826d695": ("one-nano", ("R11",)),
        "3fbf9add37a756df": ("ten-decimals", ("R12",)),
        "3e29c511dc3a41df": ("three-nano", ("R14",)),
        "3fe0000000000000": ("one-half", ("N01", "N11", "N12", "N13")),
        "3e7ad7f29abcaf48": ("hundred-nano", ("N04", "N06", "N08")),
        "3f0a36e2eb1c432d": ("fifty-micro", ("N05",)),
        "3eb0c6f7a0b5ed8d": ("one-micro", ("N07",)),
    }
    for bits, (name, kills) in named.items():
        n.add(name, "Seam", int(bits, 16), kills=kills)
    n.add("d-hat-ten-digits", "Seam", 0x3FF3C0CA42C8964B, "D_hat", kills=("N09",))
    n.add("zero", "Zero", 0, kills=("V08", "N14"))
    n.add("minus-zero", "Zero", double.SIGN, kills=("N03", "V06"))
    n.add("one", "Bound", canon.BOUND["r"], kills=("N02", "V05"))


def domains(n: Numbers) -> None:
    reject = {"code": "number_out_of_range"}
    for member in canon.FLOATS:
        slug = member.lower().replace("_", "-")
        top = canon.BOUND[member]
        n.add(f"{slug}-top", "Bound", top, member, kills=("V07",) if slug == "coh-star" else ())
        n.add(f"{slug}-below-top", "Bound", top - 1, member)
        kills = ("V02",) if member == "r" else ()
        n.add(f"{slug}-above-top", "OutOfRange", top + 1, member, kills=kills, **reject)
        n.add(f"{slug}-zero", "Zero", 0, member)
        n.add(f"{slug}-minus-zero", "Zero", double.SIGN, member)
        n.add(f"{slug}-least", "Tiny", 1, member)
        n.add(f"{slug}-minus-least", "OutOfRange", double.SIGN | 1, member,
              kills=("V03",) if member == "r" else (), **reject)
        n.add(f"{slug}-minus-nano", "OutOfRange", double.SIGN | nearest(1, 10**9), member, **reject)
        n.add(f"{slug}-minus-one", "OutOfRange", double.SIGN | nearest(1, 1), member, **reject)
        n.add(f"{slug}-largest", "OutOfRange", double.INFINITY - 1, member, **reject)
        for name, bits in (
            ("nan", 0x7FF8000000000000),
            ("nan-signalling", 0x7FF0000000000001),
            ("nan-negative", 0xFFF8000000000000),
            ("infinity", double.INFINITY),
            ("minus-infinity", double.SIGN | double.INFINITY),
        ):
            kills = ("V01",) if (member, name) == ("r", "nan") else ()
            n.add(f"{slug}-{name}", "NotFinite", bits, member, kills=kills, code="number_not_finite")
    n.add("d-hat-3.6", "OutOfRange", nearest(36, 10), "D_hat", kills=("V04",), **reject)
    n.add("d-hat-1.0", "Text", nearest(1, 1), "D_hat")
    n.add("d-hat-2.0", "Text", nearest(2, 1), "D_hat")
    n.add("d-hat-3.0", "Text", nearest(3, 1), "D_hat")
    for k in range(1, 8):
        n.add(f"half-step-{k}", "Text", nearest(k, 2), "D_hat")
    n.add("coh-star-one", "Bound", nearest(1, 1), "coh_star")
    n.add("coh-star-above-one", "Bound", nearest(1, 1) + 1, "coh_star")
    n.add("r-above-one-half-nano", "OutOfRange", nearest(2 * 10**9 + 1, 2 * 10**9), **reject)
    n.add("r-two", "OutOfRange", nearest(2, 1), **reject)


def texts(n: Numbers) -> None:
    for k in [*range(1, 130), *range(130, 1000, 7), 990, 998, 999, 1000, 1001, 1010, 1100, 9999]:
        n.add(f"nano-{k}", "Text", nearest(k, 10**9))
    for power in range(1, 10):
        base = 10**power
        for k in (base - 1, base, base + 1, 5 * base, 12 * base, 123 * base):
            if k <= 10**9:
                n.add(f"text-{k}", "Text", nearest(k, 10**9))
    for k in (10**4 - 1, 10**5 - 1, 99999, 100001, 123456, 1234567, 12345678, 123456789,
              1000000001, 1999999999, 2000000001, 3499999999, 3000000010, 1230000000):
        n.add(f"d-text-{k}", "Text", nearest(k, 10**9), "D_hat")


def ties(n: Numbers) -> None:
    for k in [*range(24), 99, 100, 499, 500, 999, 1000, 12345, 999999, 123456789, 499999999]:
        n.near(f"tie-{k}", "DecimalTie", nearest(10 * k + 5, 10**10), (-1, 0, 1))
    draw = Stream("number/tie")
    for i in range(90):
        k = draw.below(10 ** (2 + draw.below(8)))
        n.near(f"tie-draw-{i}", "DecimalTie", nearest(10 * k + 5, 10**10), (-1, 0, 1)[: 1 + i % 3])
    for odd in [*range(3, 64, 2), *range(65, 1024, 30), 511, 513, 1021, 1023]:
        n.add(f"tie-1024-{odd}", "ExactTie", nearest(odd, 1024))
    for odd in (1, 3, 511, 513, 1023):
        n.near(f"tie-1024-near-{odd}", "ExactTie", nearest(odd, 1024), (-3, -1, 1, 3))
    for odd in range(1025, 3584, 128):
        n.add(f"tie-1024-d-{odd}", "ExactTie", nearest(odd, 1024), "D_hat")


def drawn(n: Numbers) -> None:
    draw = Stream("number/drawn")
    for i in range(110):
        a, b = draw.below(10**9), draw.below(10**9)
        n.add(f"mean-{i}", "GridMean", nearest(a + b | 1, 2 * 10**9))
    for i in range(24):
        a = draw.below(3 * 10**9)
        n.add(f"mean-d-{i}", "GridMean", nearest(a | 1, 2 * 10**9), "D_hat")
    for i in range(40):
        n.near(f"grid-{i}", "Grid", nearest(draw.below(10**9), 10**9), (-1, 0, 1)[i % 3 : i % 3 + 1])
    for i in range(60):
        m = 2 + draw.below(4095)
        n.add(f"ratio-{i}", "Ratio", nearest(draw.below(m), m))
    for member in canon.FLOATS:
        for i in range(18):
            slug = member.lower().replace("_", "-")
            bits = nearest(draw.below(2**53), 2**53)
            n.add(f"uniform-{slug}-{i}", "Uniform", bits, member)
    for power in (*range(1, 11), 20, 29, 30, 31, 32, 33, 52, 100, 500, 1022, 1023, 1050, 1074):
        n.near(f"power-{power}", "Tiny", nearest(1, 2**power), (-1, 0, 1) if power < 1074 else (0,))
    n.add("subnormal-largest", "Tiny", double.MANTISSA)
    n.add("normal-least", "Tiny", double.MANTISSA + 1)
    for i in range(20):
        n.add(f"below-micro-{i}", "Text", nearest(draw.below(10**6), 10**12))
        n.add(f"below-tenth-milli-{i}", "Text", nearest(draw.below(10**8), 10**12))


def suites() -> list[Suite]:
    n = Numbers()
    for part in (seams, domains, texts, ties, drawn):
        part(n)
    return [n.suite]
