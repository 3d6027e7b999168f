"""Both text back ends refuse the same types: what is signed does not depend on what is installed."""

from __future__ import annotations

import datetime as dt
from dataclasses import dataclass
from typing import Any

import pytest

from fractal_lba import canonical
from fractal_lba.errors import ValidationError


class Text(str):
    __slots__ = ()


class Number(int):
    pass


@dataclass
class Point:
    x: int = 1


@pytest.mark.parametrize("pure", [False, True])
@pytest.mark.parametrize(
    "value",
    [
        dt.datetime(2020, 1, 1), dt.date(2020, 1, 1), Text("a"), Number(1), Point(),
        b"a", {1: 2}, float("nan"),
    ],
)  # fmt: skip
def test_what_is_no_json_type_is_refused(
    value: Any, pure: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    if pure:
        monkeypatch.setattr(canonical, "orjson", None)
    for whole in (value, [value], {"x": value}, {"é": value}, {"x": [1.0, value]}):
        with pytest.raises(ValidationError):
            canonical.jcs(whole)
