"""Show a result to a person: what was asked, which sentence it breaks, where the bytes differ."""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from typing import Any, Final

from .judge import SKIP, at, differing
from .sentences import quoted

HEX: Final = re.compile(r"(?:[0-9a-f]{2})+", re.ASCII)
ROW: Final = 16
ROWS_AROUND: Final = 2
"""How many rows of equal bytes are shown before the first difference and after it."""

ROWS_MAX: Final = 6
PLACES_MAX: Final = 4
LINE: Final = 400
"""Characters of a line of standard error or traffic that are shown."""

WIDTH: Final = 98
Members = Mapping[str, Any]


def failure(found: Members) -> str:
    """Show one result in full."""
    lines = [f"--- {found['status']}: {found['id']} ({found['op']})"]
    if comment := found.get("comment"):
        lines.append(f"    {comment}")
    for flag, text in found.get("flag_texts", {}).items():
        lines.append(f"    {flag}: {text}")
    lines += wrapped(f"{found['message']}" if found.get("message") else "")
    for citation in (*filter(None, [found.get("sentence")]), *found.get("spec", ())):
        lines += wrapped(quoted(citation))
    if "expected" in found and "actual" in found and found["status"] != SKIP:
        lines += [f"    {line}" for line in difference(found["expected"], found["actual"])]
    elif found.get("expected") is not None:
        lines.append(f"    expected: {short(found['expected'])}")
    for name in ("stderr", "wire"):
        if text := found.get(name):
            shown = text if isinstance(text, str) else "\n".join(text)
            lines.append(f"    {name}:")
            lines += [f"      {middle_cut(line)}" for line in shown.rstrip("\n").split("\n")]
    if repeat := found.get("repeat"):
        lines.append(f"    repeat: {repeat}")
    return "\n".join(lines)


def middle_cut(line: str) -> str:
    """Shorten a long line in its middle: a reason often stands at its end."""
    return line if len(line) <= LINE else f"{line[: LINE // 2]} ... {line[-LINE // 2 :]}"


def wrapped(text: str) -> list[str]:
    """Break a text into indented lines."""
    if not text:
        return []
    return textwrap.wrap(
        text, WIDTH, initial_indent="    ", subsequent_indent="      ", break_on_hyphens=False
    )


def short(value: Any) -> str:
    """Show a value on one line."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    return text if len(text) <= 300 else f"{text[:300]}... ({len(text)} characters)"


def difference(expected: Any, actual: Any) -> Iterator[str]:
    """Show where two answers differ: bytes as a dump, anything else as text."""
    places = differing(expected, actual)
    for place in places[:PLACES_MAX]:
        one, other = at(expected, place), at(actual, place)
        if is_bytes(one) and is_bytes(other) and max(len(one), len(other)) > 32:
            yield f"{place}:"
            yield from dump(bytes.fromhex(one), bytes.fromhex(other))
        else:
            yield f"{place}: expected {shown(one)}, got {shown(other)}"
    if len(places) > PLACES_MAX:
        yield f"and {len(places) - PLACES_MAX} more places"


def is_bytes(value: Any) -> bool:
    """Say whether a value is bytes in hex."""
    return isinstance(value, str) and HEX.fullmatch(value) is not None


def shown(value: Any) -> str:
    """Show one value, or that there is none."""
    return "nothing" if value is None else short(value)


def dump(expected: bytes, actual: bytes) -> Iterator[str]:
    """Dump two byte strings around their first difference."""
    length = min(len(expected), len(actual))
    first = next((i for i in range(length) if expected[i] != actual[i]), length)
    yield f"  first difference at byte {first}; {len(expected)} bytes expected, {len(actual)} got"
    start = max(0, first // ROW - ROWS_AROUND)
    end = min(start + ROWS_MAX, (max(len(expected), len(actual)) + ROW - 1) // ROW)
    for row in range(start, max(end, start + 1)):
        one, other = (data[row * ROW : (row + 1) * ROW] for data in (expected, actual))
        if one == other:
            yield f"    {row * ROW:06x}  {dumped(one)}"
        else:
            yield f"  - {row * ROW:06x}  {dumped(one)}"
            yield f"  + {row * ROW:06x}  {dumped(other)}"


def dumped(data: bytes) -> str:
    """Write one row: hex and printable ASCII."""
    text = "".join(chr(byte) if 0x20 <= byte < 0x7F else "." for byte in data)
    return f"{data.hex(' '):<{3 * ROW - 1}}  |{text}|"
