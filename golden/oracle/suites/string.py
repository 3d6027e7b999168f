"""Suite `string`: the JSON text of `shard_id`, from UTF-16 code units."""

from __future__ import annotations

from typing import Any

from golden.oracle import canon, jcs
from golden.oracle.emit import Flag, Stream, Suite
from golden.oracle.fault import Fault

FLAGS = {
    "Astral": Flag("A code point above U+FFFF.", ("canonical 3.4(4)",)),
    "Control": Flag("A control character.", ("canonical 3.4(3)", "canonical 3.4(4)")),
    "Length": Flag("A bound of the length in UTF-8 bytes.", ("canonical 3.1",)),
    "Literal": Flag("A character that some encoders escape.", ("canonical 3.4(4)",)),
    "NoNormalization": Flag("Text that a normalization or trimming changes.", ("canonical 3.4(2)",)),
    "ShortEscape": Flag("One of the seven short escapes.", ("canonical 3.4(4)",)),
    "Surrogate": Flag("An unpaired surrogate.", ("canonical 3.4(1)",)),
}


def utf16(text: str) -> str:
    return text.encode("utf-16-be", "surrogatepass").hex()


def run(args: dict[str, Any]) -> dict[str, Any]:
    try:
        text = bytes.fromhex(args["utf16"]).decode("utf-16-be")
    except UnicodeDecodeError:
        raise Fault("string_surrogate") from None
    canon.check_shard(text)
    return {"utf8": jcs.string(text).encode("utf-8").hex()}


def suites() -> list[Suite]:
    s = Suite("string/string.json", "canon.string", "suites/string.py", FLAGS, run)

    def add(name: str, flag: str, text: str, **more: Any) -> None:
        s.add(f"string/{name}", flag, {"utf16": utf16(text)}, **more)

    kills = {0x08: ("S05",), 0x0A: ("S06",), 0x1F: ("S04",), 0x22: ("S19",)}
    for code in range(0x20):
        flag = "ShortEscape" if code in jcs.SHORT else "Control"
        add(f"c0-{code:02x}", flag, chr(code), kills=kills.get(code, ()))
        add(f"c0-{code:02x}-within", flag, f"a{chr(code)}b", kills=("S17",) if code == 0 else ())
    add("quote", "ShortEscape", '"', kills=("S19",))
    add("backslash", "ShortEscape", "\\")
    add("backslash-u", "ShortEscape", "\\u0041")
    add("quote-run", "ShortEscape", '""\\\\""')
    literal = {"lt": ("<", "S01"), "gt": (">", "S01"), "amp": ("&", "S01"), "slash": ("/", "S07"),
               "u2028": ("\u2028", "S02"), "u2029": ("\u2029", "S02"), "del": ("\x7f", "S08"),
               "apostrophe": ("'", "S20"), "e-acute": ("\u00e9", "S03"), "space": ("a b", "")}
    for name, (text, kill) in literal.items():
        add(name, "Literal", text, kills=(kill,) if kill else ())
    add("e-acute-only", "Literal", "\u00e9\u00e8", kills=("S21",))
    for code in range(0x80, 0xA0):
        add(f"c1-{code:02x}", "Literal", chr(code), kills=("S09",) if code == 0x80 else ())
    for code in (0xA0, 0xAD, 0xFF, 0x100, 0x17F, 0x7FF, 0x800, 0xFFF, 0x1000, 0x200B, 0x200D, 0x202E,
                 0x2060, 0x3000, 0xD7FF, 0xE000, 0xF8FF, 0xFDD0, 0xFDEF, 0xFEFF, 0xFFF9, 0xFFFD,
                 0xFFFE, 0xFFFF):
        add(f"bmp-{code:04x}", "Literal", chr(code))
    for code in (0x10000, 0x10FFFF, 0x1F600, 0x1D11E, 0x1FFFE, 0x2F800, 0xE0001, 0x100000):
        add(f"astral-{code:x}", "Astral", chr(code), kills=("S15", "S16", "V14"))
        add(f"astral-{code:x}-within", "Astral", f"\ue000{chr(code)}\uffff")
    same = {
        "nfd-e-acute": ("e\u0301", "S10"), "nfc-e-acute": ("caf\u00e9", "S11"),
        "fi-ligature": ("\ufb01", "S12"), "leading-space": (" x", "S13"),
        "trailing-space": ("x ", "S13"), "upper-case": ("A", "S14"), "bom-first": ("\ufeffx", "S18"),
        "bom-only": ("\ufeff", "S18"), "bom-within": ("x\ufeffy", ""), "angstrom": ("\u212b", "S10"),
        "hangul-jamo": ("\u1100\u1161", "S10"), "hangul-syllable": ("\uac00", "S11"),
        "ohm": ("\u2126", "S10"), "two-marks": ("q\u0323\u0307", ""), "marks-swapped": ("q\u0307\u0323", "S10"),
        "full-width": ("\uff11", "S12"), "superscript": ("x\u00b2", "S12"), "sharp-s": ("\u1e9e", "S14"),
        "dotted-i": ("\u0130", "S14"), "nbsp": ("\u00a0x\u00a0", "S13"), "tab-ends": ("\tx\t", "S13"),
        "newline-end": ("x\n", "S13"), "cjk-compat": ("\uf900", "S10"), "kelvin": ("\u212a", "S10"),
    }
    for name, (text, kill) in same.items():
        add(name, "NoNormalization", text, kills=(kill,) if kill else ())
    add("one-byte", "Length", "s")
    add("empty", "Length", "", code="string_length", kills=("V17",))
    for name, char in (("a", "a"), ("two", "\u00e9"), ("three", "\u65e5"), ("four", "\U0001f600")):
        size = len(char.encode("utf-8"))
        fits = 256 // size
        add(f"length-{name}-fits", "Length", char * fits, kills=("V16",) if size == 1 else ())
        add(f"length-{name}-short", "Length", char * (fits - 1))
        add(f"length-{name}-over", "Length", char * (fits + 1), code="string_length",
            kills=("V15",) if size == 3 else ())
    add("length-escapes", "Length", "\n" * 256)
    add("length-escapes-over", "Length", "\n" * 257, code="string_length")
    add("length-1000", "Length", "x" * 1000, code="string_length")
    for name, units in (("high", "d800"), ("low", "dc00"), ("high-last", "dbff"), ("low-last", "dfff"),
                        ("reversed", "dc00d800"), ("high-then-a", "d8000061"), ("a-then-high", "0061d800"),
                        ("high-twice", "d800d800dc00"), ("low-after-pair", "d83dde00de00"),
                        ("pair-split", "d83d0020de00")):
        s.add(f"string/surrogate-{name}", "Surrogate", {"utf16": units}, code="string_surrogate",
              kills=("V13",) if name == "high" else ())
    draw = Stream("string/drawn")
    pools = ('"\\\b\f\n\r\t\x00\x1f', "<>&/'\x7f\x80\x9f\u2028\u2029", "e\u0301\u00e9\ufb01 A\ufeff",
             "\U0001f600\U00010000\ue000\uffff\ud7ff", "abcxyz019_-.")
    for i in range(60):
        text = "".join(draw.pick(draw.pick(pools)) for _ in range(1 + draw.below(12)))
        add(f"mixed-{i}", "Literal", text)
    return [s]
