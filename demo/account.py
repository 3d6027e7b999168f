"""Keep the account of a run: steps with sentences, printed as they happen, and figures.

One rule is owned here: what the demo promises is checked by `expect`, and the first promise that
does not hold ends the run with the name of its step.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

Table = list[tuple[str, ...]]
"""Rows of cells; the first row is the head."""


class ExpectationError(Exception):
    """A promise of the demo did not hold in the step named."""

    def __init__(self, step: str, promise: str) -> None:
        super().__init__(f"{step}: this did not hold: {promise}")
        self.step = step


@dataclass(slots=True)
class Step:
    """One heading and what stands under it: paragraphs, and tables."""

    title: str
    parts: list[str | Table] = field(default_factory=list)


@dataclass(slots=True)
class Account:
    """What is printed, and what the page and results.json are made of."""

    steps: list[Step] = field(default_factory=list)
    figures: dict[str, Any] = field(default_factory=dict)
    promises_kept: int = 0

    def step(self, title: str) -> None:
        """Begin a step."""
        title = f"{len(self.steps) + 1}. {title}"
        self.steps.append(Step(title))
        print(f"\n{title}\n{'-' * len(title)}", flush=True)

    def say(self, *lines: str) -> None:
        """Add a paragraph to the step, broken into lines for the terminal."""
        self.steps[-1].parts.append(" ".join(lines))
        print("\n".join(lines), flush=True)

    def show(self, table: Table, *, printed_rows: int) -> None:
        """Add a table to the step; the terminal sees its first rows, the page all of them."""
        self.steps[-1].parts.append(table)
        widths = [max(len(row[i]) for row in table) for i in range(len(table[0]))]
        for row in table[: printed_rows + 1]:
            cells = [row[0].ljust(widths[0])]
            cells += [cell.rjust(width) for cell, width in zip(row[1:], widths[1:], strict=True)]
            print("  " + "  ".join(cells), flush=True)
        if len(table) > printed_rows + 1:
            print(f"  ... and {len(table) - printed_rows - 1} more on the page", flush=True)

    def expect(self, promise: str, *, holds: bool) -> None:
        """Go on if a promise holds; raise ExpectationError if not."""
        if not holds:
            raise ExpectationError(self.steps[-1].title, promise)
        self.promises_kept += 1
