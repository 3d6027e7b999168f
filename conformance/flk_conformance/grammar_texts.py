"""Draw strings and JSON texts: what encoders escape, what stock parsers let through.

A text has one fault at most, so that one code is right.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from .draw import Draw, Question
from .oracle import base, record

BASE: Final[Mapping[str, str]] = base.BASE
FULL: Final[Mapping[str, str]] = base.FULL
TYPED: Final[Mapping[str, str]] = record.TYPED
FLOATS: Final = ("D_hat", "budget", "coh_star", "r")
TEXTS: Final = ("pcs_id", "merkle_root", "shard_id")

# --- strings --------------------------------------------------------------------------------

ATOMS: Final = (
    *map(chr, range(0x20)), "\x7f", *map(chr, range(0x80, 0xA0)), "\u2028", "\u2029",
    "<", ">", "&", "'", '"', "\\", "/", "\\u0041", "\\n", "\ufeff", "\ufffe", "\uffff", "\u200d",
    "\ue000", "\uf8ff", "\U0001f600", "\U00010000", "\U0010ffff", "\u00e9", "e\u0301", "\u00c5",
    "\u212b", "\uac00", "\u1100\u1161", "\ufb01", "\uff21", "\u2460", "\u017f", "\u0130",
    " ", "\u00a0", "\u3000", "\t", "A", "Z", "aB", "s", "0", "\u0660", "\u65e5", "\u00ff",
)  # fmt: skip
SURROGATES: Final = ("\ud800", "\udbff", "\udc00", "\udfff", "\ud83d", "\ude00")
FILLERS: Final = ("a", "\u00e9", "\u65e5", "\U0001f600")


def text(draw: Draw) -> str:
    """Draw a text of some atoms, now and then one at the bound of the length."""
    atoms = "".join(draw.pick(ATOMS) for _ in range(1 + draw.below(5)))
    if draw.one_in(4):
        return draw.pick(ATOMS)
    if draw.one_in(10):
        return at_bound(draw, draw.pick(FILLERS))
    if draw.one_in(40):
        return ""
    if draw.one_in(8):
        where = draw.below(len(atoms) + 1)
        return whole_pairs(atoms[:where]) + draw.pick(SURROGATES) + whole_pairs(atoms[where:])
    return f"{draw.pick(ATOMS)}{atoms}"


def whole_pairs(atoms: str) -> str:
    """Leave out what would complete a surrogate that is meant to be alone."""
    return "".join(char for char in atoms if char < "\ud800" or char > "\udfff")


def at_bound(draw: Draw, filler: str) -> str:
    """Fill up to 255, 256 or 257 bytes, or that many code points."""
    size = 255 + draw.below(3)
    if draw.one_in(3):
        return filler * (1 + draw.below(size))
    count, rest = divmod(size, len(filler.encode()))
    return filler * count + "a" * rest


def utf16(value: str) -> str:
    return value.encode("utf-16-be", "surrogatepass").hex()


HEX_FAULTS: Final[tuple[Callable[[str], str], ...]] = (
    lambda value: value.upper(),
    lambda value: value[:-1],
    lambda value: value + "a",
    lambda value: value + "\n",
    lambda value: value[:-1] + "\uff11",
    lambda value: value[:-1] + "\u0661",
    lambda value: value[:-1] + "g",
    lambda value: " " + value[1:],
    lambda value: "0x" + value[2:],
    lambda _: "",
    lambda value: value[:10] + "A" + value[11:],
    lambda value: value[::-1],
)  # fmt: skip


def hexes(draw: Draw) -> Question:
    """Digests that are none, and some that are."""
    name = draw.pick(TEXTS[:2])
    value = draw.pick(HEX_FAULTS)(draw.data(32).hex())
    if draw.one_in(2):
        return Question("canon.record", {"entry": "typed", "values": {**TYPED, name: utf16(value)}})
    data = record_text(draw, **{name: json_string(draw, value)})
    return Question("canon.record", {"entry": "json", "json": data.hex(), "sig_v": "1"})


def strings(draw: Draw) -> Question:
    """Texts that encoders escape, normalize, trim or count differently."""
    if draw.one_in(8):
        return hexes(draw)
    value = text(draw)
    way = draw.below(10)
    if way < 6:
        return Question("canon.string", {"utf16": utf16(value)})
    if way < 8:
        values = {**TYPED, "shard_id": utf16(value)}
        return Question("canon.record", {"entry": "typed", "values": values})
    return signing(draw, record_text(draw, shard_id=json_string(draw, value)))


# --- JSON texts -----------------------------------------------------------------------------

SHORT: Final = {
    "\b": "\\b", "\t": "\\t", "\n": "\\n", "\f": "\\f", "\r": "\\r", '"': '\\"', "\\": "\\\\",
    "/": "\\/",
}  # fmt: skip


def json_string(draw: Draw, value: str) -> str:
    """Write a JSON string in one of its spellings."""
    return f'"{"".join(json_char(draw, char) for char in value)}"'


def json_char(draw: Draw, char: str) -> str:
    if char in SHORT and (char != "/" or draw.one_in(2)) and not draw.one_in(4):
        return SHORT[char]
    if char < " " or char in '"\\' or "\ud800" <= char <= "\udfff" or draw.one_in(6):
        units = utf16(char)
        digits = [units[at : at + 4] for at in range(0, len(units), 4)]
        upper = draw.one_in(2)
        return "".join(f"\\u{part.upper() if upper else part}" for part in digits)
    return char


def written(members: Mapping[str, str] | list[tuple[str, str]], space: str = "") -> str:
    """Write an object of members in their order; names and values are JSON already."""
    pairs = members.items() if isinstance(members, Mapping) else members
    inner = f"{space},{space}".join(f'"{name}"{space}:{space}{value}' for name, value in pairs)
    return f"{{{space}{inner}{space}}}"


def record_text(draw: Draw, given: Mapping[str, str] = BASE, /, **changes: str) -> bytes:
    """Write a record with some members replaced, now and then in another order."""
    members = {**given, **changes}
    if draw.one_in(4):
        members = dict(draw.order(list(members.items())))
    space = draw.pick((" ", "\n", "\t ")) if draw.one_in(8) else ""
    return written(members, space).encode("utf-8", "surrogatepass")


KEY: Final = bytes(range(32)).hex()
TENANT: Final = "tenant-a"


def signing(draw: Draw, data: bytes) -> Question:
    """Ask for the payload of a JSON text, or for its signature."""
    way = draw.below(6)
    if way < 3:
        version = "2" if way == 2 else "1"
        return Question("canon.record", {"entry": "json", "json": data.hex(), "sig_v": version})
    if way == 3:
        return Question("id.derive", {"json": data.hex()})
    args = {"json": data.hex(), "key": KEY, "kid": "k1", "sig_v": "1"}
    if way == 4:
        args |= {"sig_v": "2", "tenant": TENANT}
    return Question("sign.hmac", args)


Fault = Callable[[Draw, dict[str, str]], bytes]


def plain(draw: Draw, members: dict[str, str]) -> bytes:
    return record_text(draw, members)


def duplicated(draw: Draw, members: dict[str, str]) -> bytes:
    pairs = list(members.items())
    name, value = draw.pick(pairs)
    other = draw.pick((value, value, "0.5", "null", '"x"'))
    escaped = f"\\u{ord(name[0]):04x}{name[1:]}" if draw.one_in(3) else name
    pairs.insert(draw.below(len(pairs) + 1), (escaped, other))
    return written(pairs).encode()


def duplicated_inside(draw: Draw, members: dict[str, str]) -> bytes:
    inner = draw.pick(('{"a":1,"a":1}', '[{"a":1,"b":2,"a":3}]', '{"b":{"":0,"":0}}'))
    return written({**members, "x": inner}).encode()


def with_bom(_: Draw, members: dict[str, str]) -> bytes:
    return b"\xef\xbb\xbf" + written(members).encode()


def encoded(draw: Draw, members: dict[str, str]) -> bytes:
    names = ("utf-16-le", "utf-16-be", "utf-16", "utf-32-le", "utf-32-be", "utf-32")
    return written(members).encode(draw.pick(names))


BAD_BYTES: Final = (
    b"\xff", b"\xfe", b"\x80", b"\xc0\x80", b"\xc3", b"\xe2\x82", b"\xed\xa0\x80",
    b"\xed\xa0\xbd\xed\xb8\x80", b"\xf0\x9f\x98", b"\xf4\x90\x80\x80", b"\xf5\x80\x80\x80", b"\xe9",
)  # fmt: skip


def bad_bytes(draw: Draw, members: dict[str, str]) -> bytes:
    marked = written({**members, "shard_id": '"a@b"'}).encode()
    return marked.replace(b"a@b", b"a" + draw.pick(BAD_BYTES) + b"b")


LONE: Final = (
    "\\ud800",
    "\\uDFFF",
    "\\ud83d",
    "\\ud83d\\ud83d",
    "\\ude00\\ud83d",
    "\\ud800x",
    "\\uDBFF\\n",
)


def lone_surrogate(draw: Draw, members: dict[str, str]) -> bytes:
    place = draw.below(3)
    lone = draw.pick(LONE)
    if place == 0:
        return written({**members, "shard_id": f'"a{lone}"'}).encode()
    if place == 1:
        return written({**members, "x": f'["{lone}"]'}).encode()
    return written({**members, "x": f'{{"{lone}":1}}'}).encode()


TAILS: Final = (
    b"x", b"}", b"]", b",", b"1", b"{}", b"null", b"\0", b"\xc2\xa0", b"\xe2\x80\xa8", b"\x0b",
    b"\x0c",
    b"\xef\xbb\xbf", b"//", b"/**/", b"\n{}", b'"',
)  # fmt: skip
SPACES: Final = (b" ", b"\n", b"\t", b"\r", b"\r\n \t")


def trailing(draw: Draw, members: dict[str, str]) -> bytes:
    data = written(members).encode()
    if draw.one_in(4):
        return draw.pick(SPACES) + data + draw.pick(SPACES)
    return data + draw.pick(TAILS) if draw.one_in(2) else draw.pick(TAILS[8:13]) + data


def nested(draw: Draw, members: dict[str, str]) -> bytes:
    """Nest around the bound; the record itself is one container."""
    depth = draw.pick((1, 30, 31, 31, 32, 32, 33, 40, 100, 300))
    opened, closed = draw.pick((("[", "]"), ('{"a":', "}")))
    core = "1" if opened != "[" or draw.one_in(2) else ""
    inner = opened * depth + core + closed * depth
    return written({**members, "x": inner}).encode()


EPOCHS: Final = (
    "1.0", "1e0", "1e3", "1E3", "10e-1", "-0", "-0", "-0", "-0", "-0.0", "0.0", "01", "+1", "1.",
    "1.5", "-1", "0",
    "9007199254740991", "9007199254740992", "9007199254740993.0", "18446744073709551616", "1e400",
    '"1"', "true", "null", "[1]", "9" * 400, "0x1", "1_0", "\uff11",
)  # fmt: skip


def epoch_spelled(draw: Draw, members: dict[str, str]) -> bytes:
    return written({**members, "epoch": draw.pick(EPOCHS)}).encode()


CONSTANTS: Final = (
    "NaN",
    "Infinity",
    "-Infinity",
    "nan",
    "-NaN",
    "undefined",
    "True",
    "None",
    "inf",
)


def constant(draw: Draw, members: dict[str, str]) -> bytes:
    name = draw.pick((*FLOATS, "x"))
    return written({**members, name: draw.pick(CONSTANTS)}).encode()


NUMBERS: Final = (
    "25e-2", "0.250", "2.5E-1", "25E-002", "0.25e+0", "-0", "-0.0", "-0e5", "0e999999", "1e-400",
    "1e400", "-1e400", "1e999999999", "1.7976931348623159e308", "-5e-324", "5e-324", "1e-10",
    ".25", "0.", "00.25", "+0.25", "0x1p-2", "1e", "1e+", "--1", "0,25", "0.2_5", "-", "1/4",
    "0.25f",
    "9" * 5000, "0." + "3" * 5000, "-" + "9" * 400, "0.0000000000000000000000000000000000000000001",
)  # fmt: skip


def number_spelled(draw: Draw, members: dict[str, str]) -> bytes:
    return written({**members, draw.pick(FLOATS): draw.pick(NUMBERS)}).encode()


EXTRAS: Final = (
    "9" * 5000, "-" + "9" * 5000, "1e400", "-0", "1.0", "1e21", "9007199254740993", "[1.50,{}]",
    "null",
    '"\\u00e9\\/"', "5e-324", '{"b":1,"a":[2]}', "123456789012345680000.0", "1e-7", "true", '""',
    "[]",
)  # fmt: skip


def extra_member(draw: Draw, members: dict[str, str]) -> bytes:
    name = draw.pick(("x", "R", "EPOCH", "d_hat", "D_HAT", "", "\u00e9", "_", "Sig", "shard_Id"))
    return record_text(draw, {**members, name: draw.pick(EXTRAS)})


WRONG: Final = (
    "true",
    "false",
    "null",
    '"0.5"',
    '"1"',
    '""',
    "[0.5]",
    "[]",
    '{"v":1}',
    "{}",
    "1",
    "0.5",
)


def wrong_type(draw: Draw, members: dict[str, str]) -> bytes:
    """Replace a member by a value of another type."""
    name = draw.pick((*FLOATS, "epoch", *TEXTS))
    fitting = {"epoch": ("1", "0.5"), **dict.fromkeys(FLOATS, ("1", "0.5"))}
    wrong = [token for token in WRONG if token not in fitting.get(name, ('"0.5"', '"1"', '""'))]
    return written({**members, name: draw.pick(wrong)}).encode()


def missing(draw: Draw, members: dict[str, str]) -> bytes:
    gone = draw.pick(tuple(members))
    return written({name: value for name, value in members.items() if name != gone}).encode()


def renamed(draw: Draw, members: dict[str, str]) -> bytes:
    """Write a name in another case, or with a space."""
    gone = draw.pick(tuple(members))
    name = draw.pick(
        (gone.lower(), gone.upper(), gone.title(), f"{gone} ", f" {gone}", gone.replace("_", "-"))
    )
    return written({name if old == gone else old: value for old, value in members.items()}).encode()


BYTES_MAX: Final = 65_536


def sized(draw: Draw, members: dict[str, str]) -> bytes:
    size = BYTES_MAX + draw.pick((-1, 0, 0, 1, 1, 100))
    if draw.one_in(4):  # an oracle that reads character by character is slow at white space
        return written(members).encode().ljust(size)
    rest = size - len(written({**members, "x": "0."}))
    return written({**members, "x": f"0.{'3' * rest}"}).encode()


BROKEN: Final[tuple[Callable[[bytes], bytes], ...]] = (
    lambda data: data[:-1],
    lambda data: data[:-1] + b",}",
    lambda data: data[:1] + b"," + data[1:],
    lambda data: data.replace(b":", b"", 1),
    lambda data: data.replace(b":", b"=", 1),
    lambda data: data.replace(b'"', b"'"),
    lambda data: data.replace(b'"r"', b"r"),
    lambda data: data.replace(b",", b";", 1),
    lambda data: data.replace(b",", b",,", 1),
    lambda data: data.replace(b",", b",/*x*/", 1),
    lambda data: data.replace(b",", b",#x\n", 1),
    lambda data: data.replace(b'"shard_id":"', b'"shard_id":"\n'),
    lambda data: data.replace(b'"shard_id":"', b'"shard_id":"\x00'),
    lambda data: data.replace(b'"shard_id":"', b'"shard_id":"\x1f'),
    lambda data: data.replace(b'"shard_id":"', b'"shard_id":"\\x41'),
    lambda data: data.replace(b'"shard_id":"', b'"shard_id":"\\u12'),
    lambda data: data.replace(b'"shard_id":"', b'"shard_id":"\\u00g0'),
    lambda data: data.replace(b'"shard_id":"', b'"shard_id":"\\'),
    lambda data: data.replace(b'"shard_id":"', b'"shard_id":"\\\''),
    lambda data: b"[" + data + b"]",
    lambda _: b"",
    lambda _: b" ",
    lambda data: b'"' + data.hex().encode() + b'"',
    lambda _: b"1",
    lambda _: b"null",
    lambda data: data[: len(data) // 2],
)  # fmt: skip


def broken(draw: Draw, members: dict[str, str]) -> bytes:
    return draw.pick(BROKEN)(written(members).encode())


def byte_changed(draw: Draw, members: dict[str, str]) -> bytes:
    """Change, drop or repeat one byte anywhere."""
    data = written(members).encode()
    at = draw.below(len(data))
    middle = draw.pick((bytes([draw.below(256)]), b"", data[at : at + 1] * 2))
    return data[:at] + middle + data[at + 1 :]


FAULTS: Final[tuple[Fault, ...]] = (
    plain, duplicated, duplicated, duplicated_inside, with_bom, encoded, bad_bytes, bad_bytes,
    lone_surrogate, lone_surrogate, trailing, trailing, nested, nested, epoch_spelled,
    epoch_spelled,
    constant, number_spelled, number_spelled, extra_member, extra_member, wrong_type, wrong_type,
    missing, missing, renamed, sized, broken, broken, byte_changed,
)  # fmt: skip
EIGHT_ONLY: Final = frozenset({renamed, byte_changed, extra_member, duplicated_inside, nested})
"""Faults that make a second one in a closed record."""


def structures(draw: Draw) -> Question:
    """JSON texts that stock parsers read differently."""
    fault = draw.pick(FAULTS)
    if draw.one_in(5) and fault not in EIGHT_ONLY:
        return Question("record.parse", {"json": fault(draw, dict(FULL)).hex()})
    members, version = dict(BASE), "2" if draw.one_in(5) else "1"
    if version == "1" and fault is not extra_member and draw.one_in(8):
        members["x"] = draw.pick(EXTRAS[6:])
    data = fault(draw, members)
    if draw.one_in(5) and data.startswith(b"{"):
        return Question("jcs.document", {"json": data.hex()})
    return Question("canon.record", {"entry": "json", "json": data.hex(), "sig_v": version})


def changed(members: Mapping[str, Any], **changes: str | None) -> dict[str, str]:
    """Replace, add or (None) leave out members."""
    return {name: value for name, value in {**members, **changes}.items() if value is not None}
