"""Conditions of a policy in CEL: compiled and type-checked when a file is read.

The invariant of this file: a condition is true only if its value is the CEL boolean true. The
evaluator does not raise: an error is a value whose text is true to Python, so the type is asked
first. No other module imports the evaluator, which is younger than 1.0.
"""

from __future__ import annotations

from typing import Any, Final

from cel_expr_python import cel

from ...core.tiering import Access

_ENV: Final[Any] = cel.NewEnv(
    variables={
        "access_count": cel.Type.INT,
        "age_s": cel.Type.INT,
        "size_bytes": cel.Type.INT,
        "tier": cel.Type.STRING,
    }
)


class Condition:
    """One compiled condition; raises ValueError if the text is none."""

    def __init__(self, text: str) -> None:
        try:
            self._expression: Any = _ENV.compile(text)
        except RuntimeError as error:
            raise ValueError(_first_line(str(error))) from None
        kind = self._expression.return_type()
        if kind != cel.Type.BOOL:
            raise ValueError(f"gives {kind.name().lower()}, expected true or false")

    def holds(self, access: Access) -> bool | None:
        """Say whether the condition holds; None: its value is an error."""
        value = self._expression.eval(data=access._asdict())
        if value.type() != cel.Type.BOOL:
            return None
        return bool(value.value())


def problem_of(text: str) -> str | None:
    """Say what is wrong with the text of a condition, or None."""
    try:
        Condition(text)
    except ValueError as error:
        return f"no condition: {error}"
    return None


def _first_line(text: str) -> str:
    """Keep the evaluator's own words, without its drawing of the place."""
    line = text.partition("\n")[0].removeprefix("INVALID_ARGUMENT: ERROR: <input>:")
    return line.partition(" (in container")[0]
