"""Write the public surface of the SDK as text, so that a change of it is a reviewed diff.

    python -m tools.api --write | --check

What is listed is what is installed: `fractal_lba` and `fractal_lba.testing`, their names, and of
each class what a caller may use: bases, constructor, methods, properties.
"""

from __future__ import annotations

import importlib
import inspect
import re
import sys
from collections.abc import Iterator
from difflib import unified_diff
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
SNAPSHOT = ROOT / "sdk-python" / "api.txt"
MODULES = ("fractal_lba", "fractal_lba.testing")
OPERATIONS = ("__enter__", "__exit__", "__aenter__", "__aexit__", "__iter__", "__aiter__")
COLUMNS = 92
"""A signature that is longer has one parameter a line."""
ADDRESS = re.compile(r" at 0x[0-9a-f]+")


def surface() -> str:
    """Describe every public name of the SDK, one line each, in order."""
    lines = ["# The public surface of the Python SDK; `nox -s api` writes it."]
    for module_name in MODULES:
        module = importlib.import_module(module_name)
        lines += ["", module_name]
        for name in sorted(module.__all__):
            found = describe(name, getattr(module, name), set(module.__all__))
            lines += [f"    {line}" for line in found]
    return "\n".join(lines) + "\n"


def describe(name: str, value: Any, public: set[str]) -> Iterator[str]:
    """Yield the lines of one public name."""
    if inspect.isclass(value):
        yield from describe_class(name, value, public)
    elif callable(value):
        yield from call(f"def {name}", value)
    else:
        yield f"{name}: {type(value).__name__}"


def describe_class(name: str, value: type, public: set[str]) -> Iterator[str]:
    """Yield a class, its constructor if it has its own, and what a caller may use of it."""
    bases = [base.__qualname__ for base in value.__bases__ if base.__qualname__ in public]
    told = {k for base in value.__mro__[1:] if base.__qualname__ in public for k in base.__mro__}
    own = [kind for kind in value.__mro__ if kind is value or kind not in told]
    own = [k for k in own if k.__module__.partition(".")[0] not in sys.stdlib_module_names]
    start = f"class {name}({', '.join(bases)})" if bases else f"class {name}"
    built = any("__init__" in vars(kind) for kind in own) and not is_protocol(value)
    yield from call(start, value) if built else iter((start,))
    members = {key: found for kind in reversed(own) for key, found in vars(kind).items()}
    given = set(inspect.signature(value).parameters) if built else set[str]()
    for member, found in sorted(members.items()):
        field = member in given and inspect.ismemberdescriptor(found)
        if field or (member.startswith("_") and member not in OPERATIONS):
            continue
        for line in describe_member(member, found):
            yield f"    {line}"


def is_protocol(value: type) -> bool:
    """Say whether a class only describes what others have."""
    return bool(getattr(value, "_is_protocol", False))


def describe_member(name: str, found: Any) -> Iterator[str]:
    """Yield the lines of one member of a class."""
    if isinstance(found, property):
        yield f"property {name}: {annotation(found.fget)}"
    elif isinstance(found, classmethod | staticmethod):
        yield from call(f"{type(found).__name__} {name}", found.__func__)
    elif inspect.iscoroutinefunction(found):
        yield from call(f"async def {name}", found)
    elif inspect.isfunction(found):
        yield from call(f"def {name}", found)
    else:
        yield name


def annotation(function: Any) -> str:
    """Give what a function says it returns."""
    stated = getattr(function, "__annotations__", {}).get("return", "Any")
    return stated if isinstance(stated, str) else getattr(stated, "__qualname__", str(stated))


def call(start: str, value: Any) -> Iterator[str]:
    """Write a callable; if it is long, one parameter a line."""
    signature = inspect.signature(value)
    parts = parameters(signature)
    ending = f" -> {annotation(value)}" if not inspect.isclass(value) else ""
    line = f"{start}({', '.join(parts)}){ending}"
    if len(line) <= COLUMNS:
        yield line
        return
    yield f"{start}("
    yield from (f"    {part}," for part in parts)
    yield f"){ending}"


def parameters(signature: inspect.Signature) -> list[str]:
    """Write each parameter as its author did, with a default that is the same in every run."""
    parts: list[str] = []
    starred = False
    for found in signature.parameters.values():
        if found.kind is found.KEYWORD_ONLY and not starred:
            parts.append("*")
        starred = starred or found.kind in {found.KEYWORD_ONLY, found.VAR_POSITIONAL}
        text = str(found.replace(annotation=found.empty, default=found.empty))
        if found.annotation is not found.empty:
            kind = found.annotation
            text += f": {kind if isinstance(kind, str) else getattr(kind, '__name__', kind)}"
        if found.default is not found.empty:
            text += f" = {ADDRESS.sub('', repr(found.default))}"
        parts.append(text)
    return parts


def main(arguments: list[str]) -> int:
    """Write the snapshot, or print how it differs from what is installed."""
    if arguments == ["--write"]:
        SNAPSHOT.write_text(surface(), encoding="utf-8")
        return 0
    if arguments != ["--check"]:
        sys.stderr.write(__doc__ or "")
        return 2
    kept = SNAPSHOT.read_text(encoding="utf-8") if SNAPSHOT.is_file() else ""
    difference = list(
        unified_diff(kept.splitlines(), surface().splitlines(), "api.txt", "installed", lineterm="")
    )
    sys.stdout.write("\n".join(difference))
    if difference:
        sys.stdout.write("\nThe public surface changed: run `nox -s api` and review api.txt.\n")
    return 1 if difference else 0


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
