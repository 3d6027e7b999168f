"""Decide about answers: what a case expects, and whether an answer is that.

Owner of verdicts (`PROTOCOL.md` section 8). Expectations come from the oracle's files alone. A
verdict names the sentence of the protocol that was broken, if one was; otherwise the sentences of
`spec/` are those of the case's flags.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from .places import error_codes
from .vectors import LEVELS, Case

Members = dict[str, Any]

PASS: Final = "pass"
FAIL: Final = "fail"
SKIP: Final = "skip"
CRASH: Final = "crash"
TIMEOUT: Final = "timeout"
ERR_PROTOCOL: Final = "err-protocol"
XFAIL: Final = "xfail"
XPASS: Final = "xpass"
FLAKY: Final = "flaky"
STATUSES: Final = (PASS, FAIL, ERR_PROTOCOL, CRASH, TIMEOUT, SKIP, XFAIL, XPASS, FLAKY)

OUTCOMES: Final = ("ok", "err", "skip")


class Verdict(NamedTuple):
    """What became of a case, and why. `required` says of a skip that it is a failure."""

    status: str
    message: str = ""
    sentence: str = ""
    expected: Any = None
    actual: Any = None
    required: bool = False


PASSED: Final = Verdict(PASS)


class Policies(NamedTuple):
    """What a testee declared: its levels, its operations and its choices."""

    levels: frozenset[str]
    ops: frozenset[str]
    choices: Mapping[str, str]

    def requires(self, case: Case) -> bool:
        """Say whether a skip of this case is a failure (tp.28)."""
        return case.suite.level == "core" or case.suite.level in self.levels

    def sends(self, case: Case) -> bool:
        """Say whether this case is sent at all (tp.28)."""
        return self.requires(case) or (case.op in self.ops and LEVELS.get(case.op) != "server")


def axis_of(case: Case) -> str:
    """Name the policy axis on which an acceptable case rests."""
    axes = [case.suite.flags[name].get("axis") for name in case.flags]
    return str(next(axis for axis in axes if axis is not None))


def expectation(case: Case, policies: Policies) -> Members | None:
    """Give what must come out; None if the testee declared no choice (tp.48)."""
    if case.result != "acceptable":
        return case.expect
    choice = policies.choices.get(axis_of(case), "")
    return case.expect.get(choice)


def equal(expected: Members, actual: object) -> bool:
    """Compare an answer with what must come out, byte for byte."""
    return expected == actual


def verdict(case: Case, answer: Members, policies: Policies) -> Verdict:
    """Judge an answer that carries the right `seq`."""
    if len(answer) != 2:
        return malformed(answer)
    expected = case.expect if case.result == "valid" else expectation(case, policies)
    if "ok" in answer:
        if expected is not None and equal(expected, answer["ok"]) and not is_error(expected):
            return PASSED
        return wrong_ok(case, expected, answer["ok"], policies)
    if "err" in answer:
        return judge_error(case, expected, answer["err"], policies)
    if "skip" in answer:
        return judge_skip(case, answer["skip"], policies)
    return malformed(answer)


def is_error(expected: Members) -> bool:
    """Say whether an expectation is that of an error: it has the one member `code` (tp.48)."""
    return len(expected) == 1 and "code" in expected


def malformed(answer: Members) -> Verdict:
    """Judge an answer that has not exactly `seq` and one of `ok`, `err`, `skip`."""
    message = f"expected seq and one of {', '.join(OUTCOMES)}, got {', '.join(sorted(answer))}"
    return Verdict(ERR_PROTOCOL, message, "tp.17", actual=answer)


def undeclared(case: Case, actual: object, policies: Policies) -> Verdict:
    """Judge a case whose policy axis the testee did not declare."""
    axis = axis_of(case)
    choices = " or ".join(sorted(case.expect))
    got = policies.choices.get(axis, "nothing")
    message = f"the testee must declare {axis}: {choices}; it declared {got}"
    return Verdict(FAIL, message, "tp.14", case.expect, actual)


def wrong_ok(case: Case, expected: Members | None, actual: object, policies: Policies) -> Verdict:
    """Judge an `ok` that is not what must come out."""
    place = without_text(actual, "")
    if place is not None or not isinstance(actual, dict):
        message = f"ok{place or ''}: only strings, arrays and objects are values"
        return Verdict(ERR_PROTOCOL, message, "tp.6", case.expect, actual)
    if expected is None:
        return undeclared(case, actual, policies)
    if is_error(expected):
        message = f"expected the error {expected['code']}, got an answer"
        return Verdict(FAIL, message, "", expected, actual)
    return Verdict(
        FAIL, f"differs in {', '.join(differing(expected, actual))}", "", expected, actual
    )


def without_text(value: object, pointer: str) -> str | None:
    """Find the first place that holds neither a string nor an array nor an object."""
    if isinstance(value, str):
        return None
    if isinstance(value, dict):
        parts = [(f"{pointer}/{name}", item) for name, item in value.items()]
    elif isinstance(value, list):
        parts = [(f"{pointer}/{index}", item) for index, item in enumerate(value)]
    else:
        return pointer
    places = (without_text(item, place) for place, item in parts)
    return next((place for place in places if place is not None), None)


def judge_error(case: Case, expected: Members | None, error: object, policies: Policies) -> Verdict:
    """Judge an `err`."""
    if (
        not isinstance(error, dict)
        or set(error) != {"code", "message"}
        or not all(isinstance(text, str) for text in error.values())
    ):
        message = "err: expected the members code and message, both texts"
        return Verdict(ERR_PROTOCOL, message, "tp.19", case.expect, error)
    if error["code"] not in error_codes():
        message = f"{error['code']!r} is no code of spec/errors.json"
        return Verdict(ERR_PROTOCOL, message, "tp.19", case.expect, error)
    if expected is None:
        return undeclared(case, error, policies)
    if equal(expected, {"code": error["code"]}):
        return PASSED
    wanted = f"the error {expected['code']}" if is_error(expected) else "an answer"
    message = f"expected {wanted}, got the error {error['code']}"
    return Verdict(FAIL, message, "", expected, error)


def judge_skip(case: Case, skip: object, policies: Policies) -> Verdict:
    """Judge a `skip`: a result, and a failure where the operation is required."""
    if (
        not isinstance(skip, dict)
        or not {"reason"} <= set(skip) <= {"reason", "issue"}
        or not all(isinstance(text, str) and text for text in skip.values())
    ):
        message = "skip: expected the member reason, a text, and at most issue"
        return Verdict(ERR_PROTOCOL, message, "tp.20", case.expect, skip)
    if policies.requires(case):
        message = f"{case.op} is required, level {case.suite.level}: {skip['reason']}"
        return Verdict(SKIP, message, "tp.28", case.expect, skip, required=True)
    return Verdict(SKIP, skip["reason"])


# --- what is written in a script -------------------------------------------------------------


def scripted(case: Case, answer: Members, policies: Policies, seen: Sequence[Members]) -> Verdict:
    """Judge a case whose servers saw these requests (tp.43)."""
    if case.op == "log.capture":
        return captured(case, answer, policies)
    if is_error(case.expect) or "ok" not in answer:
        return verdict(case, answer, policies)
    found = answer["ok"]
    if not isinstance(found, dict) or len(answer) != 2 or without_text(found, "") is not None:
        return verdict(case, answer, policies)
    requests = list(seen)
    if any("by_id" in server for server in case.args["script"]["servers"]):
        requests.sort(key=lambda request: str(request.get("key")))
    return verdict(case, {**answer, "ok": {**found, "requests": requests}}, policies)


def captured(case: Case, answer: Members, policies: Policies) -> Verdict:
    """Judge a log by what it must hold and what it must not (tp.45)."""
    found = answer.get("ok")
    if not isinstance(found, dict) or len(answer) != 2:
        return verdict(case, answer, policies)
    try:
        text = bytes.fromhex(found["log"])
    except (KeyError, TypeError, ValueError):
        message = "ok: expected the member log, bytes in hex"
        return Verdict(ERR_PROTOCOL, message, "tp.37", case.expect, found)
    missing = [word for word in case.expect["holds"] if word.encode() not in text]
    leaked = [secret for secret in case.expect["lacks"] if bytes.fromhex(secret) in text]
    if missing:
        message = f"the log does not hold {missing[0]!r}: nothing was captured"
        return Verdict(FAIL, message, "tp.45", case.expect, found)
    if leaked:
        message = f"the log holds a key, token or signature: {bytes.fromhex(leaked[0])!r}"
        return Verdict(FAIL, message, "", case.expect, found)
    return PASSED


# --- where two answers differ ----------------------------------------------------------------


def differing(expected: object, actual: object, pointer: str = "") -> list[str]:
    """Name the places where an answer differs, as JSON pointers."""
    if isinstance(expected, dict) and isinstance(actual, dict):
        names = [*expected, *(name for name in actual if name not in expected)]
        return [
            place
            for name in names
            if expected.get(name) != actual.get(name)
            for place in differing(expected.get(name), actual.get(name), f"{pointer}/{name}")
        ]
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [
            place
            for index, (one, other) in enumerate(zip(expected, actual, strict=True))
            if one != other
            for place in differing(one, other, f"{pointer}/{index}")
        ]
    return [pointer or "the whole answer"]


def at(value: Any, pointer: str) -> Any:
    """Give the part of a value at a place that `differing` named, or None."""
    for name in pointer.split("/")[1:] if pointer.startswith("/") else ():
        if isinstance(value, list):
            value = value[int(name)] if int(name) < len(value) else None
        elif isinstance(value, dict):
            value = value.get(name)
        else:
            return None
    return value
