"""The text of the public surface says what a caller may use, the same in every run."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from tools import api


class _Hidden:
    def shared(self) -> int:
        return 1


class Shown(_Hidden):
    """A class with one of everything."""

    def __init__(self, *, marker: object = object, text: str = "a b") -> None:
        self.marker, self.text = marker, text

    @property
    def half(self) -> float:
        return 0.5

    @classmethod
    def made(cls, *parts: bytes, **more: Any) -> Shown:
        return cls(**more)

    async def wait(self, timeout_s: float | None = None) -> None:
        pass

    def _private(self) -> None:
        pass


@dataclasses.dataclass(frozen=True, slots=True)
class Value:
    number: int
    names: tuple[str, ...] = ()


class Special(ValueError, Shown):
    pass


def call_with_many_parameters(
    first: int, second: str = "x", *, third_of_them_all: bool
) -> list[int]:
    return []


def lines(value: Any) -> list[str]:
    return list(api.describe(value.__qualname__, value, {"Shown", "Value", "ValueError"}))


def test_class_shows_constructor_properties_methods_and_what_hidden_bases_give() -> None:
    assert lines(Shown) == [
        "class Shown(*, marker: object = <class 'object'>, text: str = 'a b')",
        "    property half: float",
        "    classmethod made(cls, *parts: bytes, **more: Any) -> Shown",
        "    def shared(self) -> int",
        "    async def wait(self, timeout_s: float | None = None) -> None",
    ]


def test_fields_are_told_once_by_the_constructor() -> None:
    assert lines(Value) == ["class Value(number: int, names: tuple[str, ...] = ())"]


def test_class_without_a_constructor_of_its_own_shows_its_bases_alone() -> None:
    assert lines(Special) == ["class Special(ValueError, Shown)"]


def test_long_signature_has_one_parameter_a_line() -> None:
    assert lines(call_with_many_parameters) == [
        "def call_with_many_parameters(",
        "    first: int,",
        "    second: str = 'x',",
        "    *,",
        "    third_of_them_all: bool,",
        ") -> list[int]",
    ]


def test_address_of_a_default_is_left_out() -> None:
    def call(marker: object = object()) -> None:
        pass

    found = list(api.describe("call", call, set()))
    assert found == ["def call(marker: object = <object object>) -> None"]


def test_stale_snapshot_is_shown_and_fails_until_it_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(api, "SNAPSHOT", tmp_path / "api.txt")
    assert api.main(["--check"]) == 1
    assert "+fractal_lba" in capsys.readouterr().out
    assert api.main(["--write"]) == 0
    assert api.main(["--check"]) == 0
    assert api.main([]) == 2
