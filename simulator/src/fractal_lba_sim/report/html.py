"""Write HTML: whatever comes from a scenario or a trace is escaped here, and only here.

The invariant of this file: a `Markup` is safe to stand in a page, plain text never is. Every
function takes plain text and escapes it, and leaves a `Markup` as it is.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from html import escape


class Markup(str):
    """Text that is HTML already."""

    __slots__ = ()


def safe(value: object) -> Markup:
    """Escape text; leave what is HTML already."""
    return value if isinstance(value, Markup) else Markup(escape(str(value)))


def element(tag: str, *parts: object, **attributes: str) -> Markup:
    """Write an element; `kind` stands for class, and `_` in other names for a hyphen."""
    named = {"class" if n == "kind" else n.replace("_", "-"): v for n, v in attributes.items()}
    inside = "".join(f' {name}="{escape(value)}"' for name, value in named.items())
    return Markup(f"<{tag}{inside}>{joined(parts)}</{tag}>")


def joined(parts: Iterable[object], between: str = "") -> Markup:
    """Join parts, each escaped unless it is HTML."""
    return Markup(between.join(safe(part) for part in parts))


def section(id: str, title: str, *parts: object) -> Markup:
    """Write a section under its heading; nothing if it has no content."""
    body = joined(part for part in parts if part)
    if not body:
        return Markup("")
    heading = element("h2", title, id=f"{id}-title")
    return element("section", heading, body, id=id, aria_labelledby=f"{id}-title")


def table(
    caption: str, heads: Sequence[str], rows: Sequence[Sequence[object]], *, kind: str = ""
) -> Markup:
    """Write a table with a caption; the first cell of a row is its heading. Nothing if empty."""
    if not rows:
        return Markup("")
    top = joined(element("th", head, scope="col") for head in heads)
    body = joined(
        element(
            "tr",
            element("th", row[0], scope="row"),
            *[
                element("td", cell, data_head=head)
                for head, cell in zip(heads[1:], row[1:], strict=True)
            ],
        )
        for row in rows
    )
    made = element(
        "table",
        element("caption", caption),
        element("thead", element("tr", top)),
        element("tbody", body),
        kind=kind,
    )
    return element("div", made, kind="scroll", tabindex="0", role="region", aria_label=caption)


def paragraph(*parts: object, kind: str = "") -> Markup:
    """Write a paragraph; nothing if it has no text."""
    body = joined(parts)
    if not body:
        return Markup("")
    return element("p", body, kind=kind) if kind else element("p", body)


def with_interval(value: str, interval: str) -> Markup:
    """Write a number with its interval below it."""
    if not interval:
        return safe(value)
    return joined([value, element("small", interval)])
