"""The package as it is imported: lazy, light, and with an explicit surface."""

from __future__ import annotations

import ast
import importlib
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

import fractal_lba

SOURCE = Path(fractal_lba.__file__).parent

PURE = (
    "errors", "secret", "ids", "record", "sign", "retry", "endpoints", "http", "outcome", "ring",
)  # fmt: skip
# Modules that a pure module must not import: clocks, chance, sockets, files.
BANNED = {
    "asyncio", "datetime.datetime.now", "http.client", "io", "pathlib", "random", "secrets",
    "select", "shutil", "socket", "ssl", "subprocess", "tempfile", "threading", "time",
    "urllib.request",
}  # fmt: skip


def imported(module: str) -> set[str]:
    tree = ast.parse((SOURCE / f"{module}.py").read_text())
    names: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.level == 0 and node.module:
            names.add(node.module)
    return names


def fresh(program: str) -> str:
    """Run a program in a new interpreter that has no site-packages in its way."""
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True, timeout=60
    )
    return done.stdout.strip()


@pytest.mark.parametrize("name", fractal_lba.__all__)
def test_every_public_name_is_there(name: str) -> None:
    value = getattr(fractal_lba, name)
    assert not isinstance(value, ModuleType)
    assert name in dir(fractal_lba)


def test_the_types_say_the_same_as_the_names() -> None:
    tree = ast.parse((SOURCE / "__init__.py").read_text())
    typed = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and node.level == 1
        for alias in node.names
    }
    assert typed == set(fractal_lba.__all__)


def test_another_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="no_such_name"):
        importlib.import_module("fractal_lba").no_such_name  # noqa: B018 - the access is the test


def test_importing_the_package_loads_none_of_its_modules() -> None:
    listed = "import fractal_lba, sys; print([m for m in sys.modules if 'fractal_lba.' in m])"
    assert fresh(listed) == "[]"


def test_the_package_needs_nothing_but_the_standard_library() -> None:
    program = (
        "import sys; before = set(sys.modules); import fractal_lba;"
        "print(sorted({m.partition('.')[0] for m in set(sys.modules) - before}"
        " - sys.stdlib_module_names))"
    )
    assert fresh(program) == "['fractal_lba']"


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_reach_neither_clock_nor_chance_nor_the_world(module: str) -> None:
    assert imported(module) & BANNED == set()


@pytest.mark.parametrize("module", PURE)
def test_pure_modules_import_third_parties_only_when_they_are_needed(module: str) -> None:
    program = (
        "import sys; sys.modules['orjson'] = None;"
        f"import fractal_lba.{module};"
        "print(sorted({m.partition('.')[0] for m in sys.modules}"
        " & {'cryptography', 'numpy', 'httpx', 'click', 'rich', 'attr'}))"
    )
    assert fresh(program) == "[]"
