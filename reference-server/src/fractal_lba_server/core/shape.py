"""Compile a JSON Schema into a Python function that says yes or no, fast.

A general validator turns the whole record into values of its own before it looks at it, and lets
go of the interpreter on the way; on the path of every record that costs more than all the rest
of the check. What is compiled here is the same schema, so no rule is written a second time; a
record that the function refuses is judged by the general validator, which also says why.

Lexical integers are asked for here already (spec/formats.md 1.4): the values come from
`fractal_lba.canonical.parse`, where `1.0` is a float.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

_IGNORED: Final = frozenset(
    {"$schema", "$id", "$defs", "title", "description", "default", "examples"}
)
_TYPES: Final[Mapping[str, str]] = {
    "object": "type({v}) is dict",
    "array": "type({v}) is list",
    "string": "type({v}) is str",
    "integer": "type({v}) is int",
    "number": "(type({v}) is float or type({v}) is int)",
    "boolean": "type({v}) is bool",
}
_BOUNDS: Final[Mapping[str, str]] = {
    "minimum": "{v} >= {limit}",
    "maximum": "{v} <= {limit}",
    "minLength": "len({v}) >= {limit}",
    "maxLength": "len({v}) <= {limit}",
    "minItems": "len({v}) >= {limit}",
    "maxItems": "len({v}) <= {limit}",
}


class _Writer:
    """Writes the body of one function; every check that fails returns False."""

    def __init__(self, root: Mapping[str, Any]) -> None:
        self._root = root
        self._names = 0
        self.lines: list[str] = []
        self.values: dict[str, Any] = {}

    def name(self, value: Any = None) -> str:
        self._names += 1
        name = f"x{self._names}"
        if value is not None:
            self.values[name] = value
        return name

    def line(self, depth: int, text: str) -> None:
        self.lines.append("    " * depth + text)

    def require(self, depth: int, condition: str) -> None:
        self.line(depth, f"if not ({condition}): return False")

    def schema(self, node: Any, v: str, depth: int) -> None:
        """Write the checks of `node` on the value named `v`."""
        if node is False:
            self.line(depth, "return False")
            return
        node = self._resolved(node)
        kind = node.get("type")
        if kind is not None:
            self.require(depth, _TYPES[kind].format(v=v))
        for keyword, value in node.items():
            self._keyword(node, keyword, value, v, depth)

    def _resolved(self, node: Mapping[str, Any]) -> Mapping[str, Any]:
        if "$ref" not in node:
            return node
        target = self._root["$defs"][node["$ref"].removeprefix("#/$defs/")]
        return {**target, **{name: value for name, value in node.items() if name != "$ref"}}

    def _keyword(
        self, node: Mapping[str, Any], keyword: str, value: Any, v: str, depth: int
    ) -> None:
        if keyword in _IGNORED or keyword.startswith("x-"):
            return
        if keyword in _BOUNDS:
            self.require(depth, _BOUNDS[keyword].format(v=v, limit=repr(value)))
        elif keyword == "const":
            self.require(depth, f"type({v}) is {type(value).__name__} and {v} == {value!r}")
        elif keyword == "enum":
            self.require(depth, f"type({v}) is str and {v} in {self.name(frozenset(value))}")
        elif keyword == "pattern":
            pattern = re.compile(value.removesuffix("$") + r"\Z" if value[-1] == "$" else value)
            self.require(depth, f"{self.name(pattern.search)}({v})")
        elif keyword == "items":
            self._each(value, v, depth)
        elif keyword == "properties":
            self._members(node, v, depth)
        elif keyword == "additionalProperties" and value is not False:
            assert "properties" not in node
            self._each(value, f"{v}.values()", depth)
        elif keyword == "if":
            self._choice(node, v, depth)
        elif keyword not in ("type", "required", "then", "else", "additionalProperties"):
            raise ValueError(f"the keyword {keyword} is not compiled")

    def _members(self, node: Mapping[str, Any], v: str, depth: int) -> None:
        required = frozenset(node.get("required", ()))
        closed = node.get("additionalProperties") is False
        missing = [name for name in required if name not in node["properties"]]
        assert not missing, f"required, but without a schema: {missing}"
        count = self.name()
        if closed:
            self.line(depth, f"{count} = {len(required)}")
        for name, below in node["properties"].items():
            member, inner = self.name(), depth
            if name not in required:
                self.line(depth, f"if {name!r} in {v}:")
                inner = depth + 1
                if closed:
                    self.line(inner, f"{count} += 1")
            self.line(inner, f"{member} = {v}[{name!r}]")
            self.schema(below, member, inner)
        if closed:
            self.require(depth, f"len({v}) == {count}")

    def _each(self, node: Mapping[str, Any], values: str, depth: int) -> None:
        """Check all values at once where their type and bounds allow it."""
        node = self._resolved(node)
        keywords = {k for k in node if k not in _IGNORED and not k.startswith("x-")}
        kind = node.get("type")
        if kind in ("integer", "number") and keywords <= {"type", "minimum", "maximum"}:
            types = {"integer": {int}, "number": {int, float}}[kind]
            self.line(depth, f"if {values}:")
            self.require(depth + 1, f"{self.name(types)}.issuperset(map(type, {values}))")
            if kind == "number":
                # A sum that overflows refuses too much, which only costs a second look.
                self.require(depth + 1, f"{self.name(math.isfinite)}(sum({values}))")
            if "minimum" in node:
                self.require(depth + 1, f"min({values}) >= {node['minimum']!r}")
            if "maximum" in node:
                self.require(depth + 1, f"max({values}) <= {node['maximum']!r}")
            return
        item = self.name()
        self.line(depth, f"for {item} in {values}:")
        self.schema(node, item, depth + 1)

    def _choice(self, node: Mapping[str, Any], v: str, depth: int) -> None:
        definitions = {"$defs": self._root.get("$defs", {})}
        test = self.name(compile_schema({**node["if"], **definitions}))
        then, otherwise = (
            self.name(compile_schema({**node.get(keyword, {}), **definitions}))
            for keyword in ("then", "else")
        )
        self.require(depth, f"{then}({v}) if {test}({v}) else {otherwise}({v})")


def compile_schema(schema: Mapping[str, Any]) -> Callable[[Any], bool]:
    """Make a function that says whether a value from `parse` fits the schema.

    Raises ValueError for a keyword that is not compiled.
    """
    writer = _Writer(schema)
    for name in schema.get("required", ()):
        if name not in schema.get("properties", {}):
            writer.require(2, f"{name!r} in v")
    properties = schema.get("properties", {})
    known = {**schema, "required": [n for n in schema.get("required", ()) if n in properties]}
    writer.schema(known, "v", 2)
    head = ["def check(v):", "    try:"]
    tail = ["        return True", "    except (KeyError, OverflowError):", "        return False"]
    source = "\n".join([*head, *writer.lines, *tail])
    scope = dict(writer.values)
    exec(compile(source, "<schema>", "exec"), scope)  # noqa: S102 - the text is made above
    check: Callable[[Any], bool] = scope["check"]
    return check
