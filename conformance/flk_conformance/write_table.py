"""Write `message_table.py` from `protocol.schema.json`: `python -m flk_conformance.write_table`.

The table is the schema as Python, without its references to itself as a document.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

from .messages import KEYWORDS

HERE = Path(__file__).resolve().parent
SCHEMA = HERE.parent / "protocol.schema.json"
TABLE = HERE / "message_table.py"
HEAD = '''"""What each message must be; written from `protocol.schema.json` by `write_table`."""

from __future__ import annotations

from typing import Any, Final

# fmt: off
'''


def rule_of(node: Any, place: str) -> Any:
    """Turn a part of the schema into a rule; refuse what `messages` would not hear."""
    if not isinstance(node, dict):
        return node
    unknown = sorted(set(node) - KEYWORDS)
    if unknown:
        raise ValueError(f"{place}: {unknown[0]} is not understood by flk_conformance.messages")
    rule = {name: value for name, value in node.items() if name != "$ref"}
    if "$ref" in node:
        rule["$ref"] = node["$ref"].removeprefix("#/$defs/")
    for name in ("items", "additionalProperties"):
        if name in node:
            rule[name] = rule_of(node[name], f"{place}/{name}")
    if "anyOf" in node:
        rule["anyOf"] = [rule_of(each, f"{place}/anyOf") for each in node["anyOf"]]
    if "properties" in node:
        rule["properties"] = {
            name: rule_of(each, f"{place}/{name}") for name, each in node["properties"].items()
        }
    return rule


def written(schema: dict[str, Any]) -> str:
    """Give the text of the module."""
    table = {name: rule_of(node, name) for name, node in schema["$defs"].items()}
    return f"{HEAD}RULES: Final[dict[str, dict[str, Any]]] = {literal(table)}\n"


def literal(value: Any, indent: str = "") -> str:
    """Write a value as Python, one member a line."""
    if isinstance(value, dict) and value:
        more = f"{indent}    "
        lines = [f"{more}{json.dumps(k)}: {literal(v, more)},\n" for k, v in value.items()]
        return f"{{\n{''.join(lines)}{indent}}}"
    if isinstance(value, list):
        return f"[{', '.join(literal(item, indent) for item in value)}]"
    return json.dumps(value) if isinstance(value, str) else repr(value)


def main() -> int:
    """Write the table."""
    TABLE.write_text(written(json.loads(SCHEMA.read_bytes())), encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
