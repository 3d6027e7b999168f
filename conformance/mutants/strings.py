"""Family S: other ways to write a JSON string (spec/canonical.md 3.4)."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable
from hashlib import sha256
from json.encoder import encode_basestring
from typing import Any, Final

from fractal_lba import canonical

from .patching import Patch, mutation

Writer = Callable[[str], str]

RIGHT: Final[Writer] = encode_basestring
SHORT: Final = {8: "\\b", 9: "\\t", 10: "\\n", 12: "\\f", 13: "\\r", 34: '\\"', 92: "\\\\"}


def quoted(text: str, special: Callable[[str], str | None]) -> str:
    """Quote as the rule says, but for characters that `special` writes."""
    out = []
    for char in text:
        code = ord(char)
        written = special(char)
        if written is None:
            written = SHORT.get(code) or (f"\\u{code:04x}" if code < 0x20 else char)
        out.append(written)
    return f'"{"".join(out)}"'


def writes(id: str, writer: Writer) -> None:
    """Register a mutant that writes every string by another rule."""

    @mutation(id)
    def change(patch: Patch) -> None:
        patch.swap(RIGHT, writer)


def units(char: str) -> str:
    """Escape each UTF-16 code unit."""
    raw = char.encode("utf-16-be").hex()
    return "".join(f"\\u{raw[i : i + 4]}" for i in range(0, len(raw), 4))


def escaping(*ranges: tuple[int, int]) -> Writer:
    def special(char: str) -> str | None:
        found = any(low <= ord(char) <= high for low, high in ranges)
        return f"\\u{ord(char):04x}" if found else None

    return lambda text: quoted(text, special)


def changing(change: Callable[[str], str]) -> Writer:
    return lambda text: RIGHT(change(text))


def form(name: Any) -> Writer:
    return changing(lambda text: unicodedata.normalize(name, text))


writes("S01", escaping((0x26, 0x26), (0x3C, 0x3C), (0x3E, 0x3E)))
writes("S02", escaping((0x2028, 0x2029)))
writes("S03", json.dumps)
writes("S04", lambda text: re.sub(r"\\u00..", lambda m: rf"\u{m[0][2:].upper()}", RIGHT(text)))
writes("S05", escaping((0x08, 0x08), (0x0C, 0x0C)))
writes("S06", escaping((0x08, 0x0A), (0x0C, 0x0D)))
writes("S07", lambda text: quoted(text, lambda char: "\\/" if char == "/" else None))
writes("S08", escaping((0x7F, 0x7F)))
writes("S09", escaping((0x80, 0x9F)))
writes("S10", form("NFC"))
writes("S11", form("NFD"))
writes("S12", form("NFKC"))
writes("S13", changing(str.strip))
writes("S14", changing(str.lower))
writes("S15", lambda text: quoted(text, lambda char: units(char) if char > "\uffff" else None))
writes("S17", changing(lambda text: text.partition("\0")[0]))
writes("S18", changing(lambda text: text.removeprefix("\ufeff")))
writes("S19", lambda text: f'"{text}"')
writes("S20", lambda text: quoted(text, lambda char: "\\'" if char == "'" else None))
writes("S21", changing(lambda text: text.encode().decode("latin-1")))


def cesu(text: str) -> bytes:
    """Encode UTF-16 code units one by one."""
    raw = text.encode("utf-16-be")
    chars = (chr(int.from_bytes(raw[i : i + 2], "big")) for i in range(0, len(raw), 2))
    return "".join(chars).encode("utf-8", "surrogatepass")


@mutation("S16")
def surrogates_one_by_one(patch: Patch) -> None:
    right = canonical.Canonical.__init__

    def built(self: canonical.Canonical, record: Any, sig_v: int) -> None:
        right(self, record, sig_v)
        self.payload = cesu(self.payload.decode())
        self.digest = sha256(self.payload).digest()

    patch.set(canonical.Canonical, "__init__", built)
