"""Scripted faults: what the proxy does to some requests besides forwarding them.

A file holds a list of rules; the first one that matches a request decides. A rule has `do`, one of

    delay   wait `ms` before the request is forwarded
    lost    forward the request, let the server answer, and close without that answer
    cut     forward the first `bytes` bytes of the answer's body, then close
    status  answer `status` without forwarding, with `retry_after` and `code` where they are given

and may have `operation` or `method` and `path` (a prefix), and `nth` (a list, from 1) or `every`,
which count the requests that the rule matches.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import yaml

ACTIONS: Final = ("delay", "lost", "cut", "status")
_MEMBERS: Final = {
    "do", "ms", "bytes", "status", "retry_after", "code", "operation", "method", "path", "nth",
    "every",
}  # fmt: skip


class FaultsError(Exception):
    """What is wrong with a file of faults."""


@dataclass(slots=True)
class Rule:
    """One rule and how often it has matched."""

    do: str
    ms: int = 0
    kept_bytes: int = 0
    status: int = 503
    retry_after: int | None = None
    code: str = "unavailable"
    operation: str | None = None
    method: str | None = None
    path: str = ""
    nth: tuple[int, ...] = ()
    every: int = 1
    seen: int = field(default=0, repr=False)

    def applies(self, method: str, target: str, operation: str | None) -> bool:
        """Tell whether this request is one that the rule is for; counts it."""
        matches = (
            self.operation in (None, operation)
            and self.method in (None, method)
            and target.startswith(self.path)
        )
        if not matches:
            return False
        self.seen += 1
        return self.seen in self.nth if self.nth else self.seen % self.every == 0

    def answer(self) -> bytes:
        """Write the answer of a `status` rule, as a server would: problem+json."""
        phrase = HTTPStatus(self.status).phrase
        request_id = f"proxy-{self.seen}"
        problem: dict[str, Any] = {
            "type": f"https://fractal-lba.example/problems/{self.code}",
            "title": phrase,
            "status": self.status,
            "detail": "a scripted fault of the proxy",
            "code": self.code,
            "request_id": request_id,
        }
        lines = [f"HTTP/1.1 {self.status} {phrase}", "content-type: application/problem+json"]
        lines.append(f"x-request-id: {request_id}")
        if self.retry_after is not None:
            problem["retry_after_ms"] = 1000 * self.retry_after
            lines.append(f"retry-after: {self.retry_after}")
        body = json.dumps(problem, separators=(",", ":")).encode()
        lines.append(f"content-length: {len(body)}")
        return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Faults:
    """The rules of one run."""

    def __init__(self, rules: list[Rule]) -> None:
        self._rules = rules

    def choose(self, method: str, target: str, operation: str | None) -> Rule | None:
        """Give the rule that decides about a request, or None."""
        for rule in self._rules:
            if rule.applies(method, target, operation):
                return rule
        return None


def load_faults(path: Path) -> Faults:
    """Read a file of faults, YAML or JSON; raises FaultsError."""
    try:
        document = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise FaultsError(f"{path.name}: {error}") from error
    return read_faults(document)


def read_faults(document: object) -> Faults:
    """Read rules from a value; raises FaultsError."""
    if not isinstance(document, list):
        raise FaultsError("expected a list of rules")
    return Faults([_rule(index, row) for index, row in enumerate(document)])


def _rule(index: int, row: object) -> Rule:
    if not isinstance(row, Mapping) or not set(row) <= _MEMBERS:
        raise FaultsError(f"rule {index}: expected members of {', '.join(sorted(_MEMBERS))}")
    if row.get("do") not in ACTIONS:
        raise FaultsError(f"rule {index}: do is one of {', '.join(ACTIONS)}")
    values = {name: value for name, value in row.items() if name != "nth"}
    for name in ("ms", "bytes", "status", "retry_after", "every"):
        if name in values and (type(values[name]) is not int or values[name] < 0):
            raise FaultsError(f"rule {index}: {name} is a whole number")
    kept_bytes = values.pop("bytes", 0)
    rule = Rule(**values, kept_bytes=kept_bytes, nth=tuple(row.get("nth", ())))
    if rule.every < 1 or rule.status not in set(HTTPStatus):
        raise FaultsError(f"rule {index}: every is at least 1, status one of HTTP")
    return rule
