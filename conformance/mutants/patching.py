"""Change one rule of the Python SDK in this process: the table of mutants, and how one is applied.

A mutation is a function that gets a `Patch`. It replaces functions of `fractal_lba` as a wrong
implementation would have written them; what a testee answers then comes from the real SDK.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable, Mapping
from types import ModuleType
from typing import Any, Final

from fractal_lba import canonical

Mutation = Callable[["Patch"], None]

MUTATIONS: Final[dict[str, Mutation]] = {}
"""Every mutation by id."""

FAMILIES: Final = (
    "rounding", "number_texts", "strings", "structure", "domains", "macs", "readers",
    "verifiers", "bodies", "retries", "requests", "clients", "outboxes", "rings",
)  # fmt: skip
"""The modules that hold mutations."""

SDK: Final = "fractal_lba"


class Patch:
    """Replace functions and attributes, and put them back."""

    def __init__(self, modules: tuple[ModuleType, ...] = ()) -> None:
        self._modules = modules
        self._undo: list[Callable[[], object]] = []

    def set(self, owner: Any, name: str, value: Any) -> None:
        """Set an attribute that exists."""
        old = owner.__dict__[name]
        self._undo.append(lambda: setattr(owner, name, old))
        setattr(owner, name, value)

    def put(self, table: Mapping[Any, Any], key: Any, value: Any) -> None:
        """Replace an item of a dictionary, whatever its type says about it."""
        assert isinstance(table, dict)
        old = table[key]
        self._undo.append(lambda: table.__setitem__(key, old))
        table[key] = value

    def swap(self, old: Any, new: Any) -> None:
        """Replace a function wherever a module of the SDK or of the testee names it."""
        found = 0
        for module in (*_sdk_modules(), *self._modules):
            for name, value in list(vars(module).items()):
                if value is old:
                    self.set(module, name, new)
                    found += 1
        if not found:
            raise LookupError(f"nobody names {old!r}")

    def undo(self) -> None:
        """Put everything back, the last change first."""
        while self._undo:
            self._undo.pop()()


def _sdk_modules() -> list[ModuleType]:
    return [m for name, m in list(sys.modules.items()) if name.partition(".")[0] == SDK]


def mutation(id: str) -> Callable[[Mutation], Mutation]:
    """Register a mutation."""

    def keep(function: Mutation) -> Mutation:
        if id in MUTATIONS:
            raise AssertionError(f"{id}: twice")
        MUTATIONS[id] = function
        return function

    return keep


def load() -> dict[str, Mutation]:
    """Import every family and give the table."""
    for family in FAMILIES:
        importlib.import_module(f"{__package__}.{family}")
    return MUTATIONS


def apply(id: str, modules: tuple[ModuleType, ...] = ()) -> Patch:
    """Make this process the mutant `id`; `modules` are those of the testee.

    The text back end is that of the standard library: the other one skips the functions that
    mutations replace.
    """
    patch = Patch(modules)
    patch.set(canonical, "orjson", None)
    if id:
        load()[id](patch)
    return patch
