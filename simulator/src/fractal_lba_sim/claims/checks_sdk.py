"""Claims about the SDKs, asked of the Python one and of the golden vectors (C075 to C088).

Other languages are held against the same vectors by their own sessions; a rule that a source
lists, and that is wrong, is written here to be judged and is used nowhere else.
"""

from __future__ import annotations

import hmac
import json
import math
import struct
from base64 import b64encode
from collections.abc import Mapping
from hashlib import sha256
from random import Random
from typing import Any, Final

from fractal_lba.canonical import canonicalize, jcs, parse, payload
from fractal_lba.errors import FractalLBAError
from fractal_lba.http import RawResponse, join_headers, read_response, user_agent
from fractal_lba.record import check_record
from fractal_lba.retry import Result, RetryPolicy, Wait, parse_retry_after, parse_should_retry, plan
from fractal_lba.sign import HmacSigner, sign

from .. import formulas as f
from .checking import Run, checks
from .checkout import text_of, vectors
from .verdicts import (
    CONDITIONAL,
    HOLDS,
    REFUTED,
    DisagreementError,
    Finding,
    share_agrees,
    share_text,
)

EIGHT: Final[dict[str, Any]] = {
    "pcs_id": "abc123", "merkle_root": "a" * 64, "epoch": 1, "shard_id": "shard-001",
    "D_hat": 1.41, "coh_star": 0.73, "r": 0.87, "budget": 0.42,
}  # fmt: skip
"""The example of the sources."""

SIGNATURE: Final = "V+is/RT6zwdMHd3Z1Ae8dPdhVTN9VYkZu/vR8eBN548="
"""Its signature with the key "supersecret", by three programs that were run for the register."""

BILLION: Final = 1e9
SPECIFIED: Final = 2.0**52 / BILLION
"""Above this a product with 10^9 has no fraction left."""


def _double(bits: str) -> float:
    (value,) = struct.unpack(">d", bytes.fromhex(bits))
    return float(value)


def _listed_rounding(x: float) -> float:
    """Round as the Go listing does: half away from zero, through a product."""
    product = x * BILLION
    whole = math.trunc(product)
    if abs(product - whole) >= 0.5:
        whole += 1 if product > 0 else -1
    return whole / BILLION


@checks("C075")
def eight_members(run: Run) -> Finding:
    """Write the payload of the sources' example."""
    text = payload(_VALID_EIGHT).decode()
    members = list(json.loads(text))
    good = members == sorted(EIGHT) and len(members) == 8
    return Finding(
        HOLDS if good else REFUTED,
        f"signature version 1 is over {', '.join(members)}, in the order of their bytes; version 2 "
        "also binds the whole record",
        "exact",
        facts={"members": len(members)},
    )


@checks("C076")
def nine_decimals(run: Run) -> Finding:
    """Round every golden number, and compare Python's own rounding on drawn ones."""
    cases = wrong = 0
    for case in vectors("number", "number"):
        if case["result"] != "valid":
            continue
        cases += 1
        wrong += _number(case["args"]) != case["expect"]
    chance, count = Random(9), run.trials(200_000, 20_000)
    drawn = [round(chance.random(), 10) for _ in range(count)]
    differ = sum(round(x, 9) != _listed_rounding(x) for x in drawn)
    share_agrees("differs from Python", hits=differ, of=count, exact=0.0487, sigmas=5)
    return Finding(
        CONDITIONAL if wrong == 0 else REFUTED,
        f"the SDK gives all {cases:,} golden numbers; Python's round(x, 9) differs from the "
        f"listings on {share_text(differ, count)} of ten-decimal numbers, Go and TypeScript differ "
        "from each other at negative ties",
        share_text(wrong, cases) + " of vectors wrong",
        "one algorithm, written out: spec/canonical.md 3.2",
        {"vectors": cases, "wrong": wrong, "differ": round(differ / count, 4)},
    )


def _number(args: Mapping[str, str]) -> dict[str, str]:
    seen = canonicalize({**_VALID_EIGHT, args["member"]: _double(args["f64"])}, sig_v=1)
    _, _, rest = seen.payload.partition(b'"%b":' % args["member"].encode())
    return {"text": rest.partition(b",")[0].decode(), "nano": str(seen.nanos[args["member"]])}


_VALID_EIGHT: Final[dict[str, Any]] = {
    "pcs_id": "a" * 64, "merkle_root": "b" * 64, "epoch": 1, "shard_id": "s",
    "D_hat": 1.25, "coh_star": 0.5, "r": 0.25, "budget": 0.125,
}  # fmt: skip


@checks("C077")
def stable_rounding(run: Run) -> Finding:
    """Round twice, below and above 2^52 / 10^9."""
    chance, count = Random(52), run.trials(200_000, 50_000)
    below = sum(_changes(chance.uniform(0, 4e6)) for _ in range(count))
    above = sum(_changes(chance.uniform(0, 9e6)) for _ in range(count))
    return Finding(
        REFUTED if above else HOLDS,
        f"a second rounding changes {share_text(above, count)} of numbers up to 9,000,000",
        f"up to 4,000,000: {share_text(below, count)}",
        f"bound the numbers below 2^52 / 10^9 = {SPECIFIED:,.0f}; here D_hat is at most 3",
        {"below": below, "above": above},
    )


def _changes(x: float) -> bool:
    once = _listed_rounding(x)
    return _listed_rounding(once) != once


@checks("C078")
def equal_bytes(run: Run) -> Finding:
    """Sign the example and every golden record; then write what the listings write differently."""
    digest = sha256(jcs(EIGHT)).digest()
    made = b64encode(hmac.new(b"supersecret", digest, sha256).digest()).decode()
    signed = wrong = 0
    for case in vectors("hmac", "hmac"):
        if case["result"] == "valid":
            signed += 1
            wrong += _signature(case["args"]) != case["expect"]["sig"]
    naive = [json.dumps(x) for x in (1.0, 1e-5, 1e16)]
    ecma = ["1", "0.00001", "10000000000000000"]
    differ = sum(one != other for one, other in zip(naive, ecma, strict=True))
    if made != SIGNATURE or wrong:
        message = f"the example gives {made}, and {wrong} golden signatures differ"
        raise DisagreementError(message)
    return Finding(
        REFUTED if differ else HOLDS,
        f"the sources' example has the signature {made[:12]}... in all three languages, but the "
        f"listings write {', '.join(naive)} in Python where Go and TypeScript write "
        f"{', '.join(ecma)}: a record with r = 1 is refused",
        f"golden signatures wrong here: {share_text(wrong, signed)}; three languages are compared "
        "by nox -s conformance",
        "RFC 8785 numbers and texts in every language: spec/canonical.md",
        {"signed": signed, "differ": differ},
    )


def _signature(args: Mapping[str, str]) -> str:
    signer = HmacSigner(
        bytes.fromhex(args["key"]), kid=args.get("kid"),
        allow_short_key=args.get("allow_short_key") == "true",
    )  # fmt: skip
    members = parse(bytes.fromhex(args["json"]))
    made = sign(members, signer, sig_version=int(args["sig_v"]), tenant=args.get("tenant"))
    return str(made.record["sig"])


@checks("C079")
def bounds(run: Run) -> Finding:
    """Put bounds, neighbours of bounds, NaN and infinity into a golden record."""
    base = parse(bytes.fromhex(vectors("submit", "submit")[0]["args"]["body"]))
    highest = {"coh_star": 1.05, "r": 1.0, "budget": 1.0}
    cases = wrong = 0
    for member, high in highest.items():
        for value, expected in (
            (0.0, True), (high, True), (math.nextafter(high, 2), False),
            (math.nextafter(0.0, -1), False), (math.nan, False), (math.inf, False),
        ):  # fmt: skip
            cases += 1
            wrong += _is_taken({**base, member: value}) != expected
    return Finding(
        HOLDS if wrong == 0 else REFUTED,
        f"{cases - wrong} of {cases} edges as promised: 1.05 is taken, its next double and NaN are "
        "refused; 'x < 0 or x > 1.05', as listed, lets NaN pass",
        f"every bound and its neighbours; {len(vectors('reject', 'record'))} golden vectors more",
        facts={"wrong": wrong},
    )


def _is_taken(record: Mapping[str, Any]) -> bool:
    try:
        check_record(record, typed=True)
    except FractalLBAError:
        return False
    return True


@checks("C080")
def time_limit(run: Run) -> Finding:
    """Add up what a call with a limit of 30 s for each attempt may take."""
    waits = f.retry_span(1, 3, 1)
    most_s = f.hold_s_max(4, 30, waits)
    return Finding(
        CONDITIONAL,
        f"30 s bound an attempt, not a call: with three retries of the TypeScript listing a caller "
        f"waits up to {most_s:g} s. Here an attempt has 10 s and a call 60 s, waits included "
        "(spec/retry.md 17)",
        f"4 x 30 + ({waits.above_s:g} to {waits.to_s:g}) s",
        "bound the whole call",
        {"most_s": most_s},
    )


@checks("C081")
def retries(run: Run) -> Finding:
    """Add up the listed waits, and hold the SDK's plan against the golden ones."""
    waits = f.retry_span(1, 3, 1)
    cases = vectors("retry", "plan")
    wrong = sum(_planned(case["args"]) != case["expect"] for case in cases)
    policy = RetryPolicy.default
    return Finding(
        CONDITIONAL if wrong == 0 else REFUTED,
        f"the TypeScript listing waits {waits.above_s:g} to {waits.to_s:g} s, {waits.mean_s:g} in "
        f"the mean; the Go listing never retries. Here all three make {policy.max_attempts} "
        f"attempts with waits of up to {policy.wait_base_ms} and {2 * policy.wait_base_ms} ms",
        f"of {len(cases)} golden plans {share_text(wrong, len(cases))} wrong",
        "one plan for all languages, as vectors",
        {"wrong": wrong, "mean_s": waits.mean_s},
    )


def _planned(args: Mapping[str, Any]) -> dict[str, str]:
    outcome, now_ms = args["outcome"], int(args["now_ms"])
    headers = join_headers([(name, value) for name, value in outcome["headers"]])
    after = [value for name, value in outcome["headers"] if name.lower() == "retry-after"]
    named = args["policy"]
    policies = {"default": RetryPolicy.default, "none": RetryPolicy.none}
    policy = (
        policies[named]
        if isinstance(named, str)
        else RetryPolicy(**{name: int(value) for name, value in named.items()})
    )
    result = Result(
        status=int(outcome["status"]) or None,
        code=outcome.get("error"),
        retry_after_ms=parse_retry_after(after, headers.get("date"), now_ms),
        should_retry=parse_should_retry(headers.get("x-should-retry")),
    )
    followed = plan(
        policy, result, int(args["attempt"]), _double(args["u"]), now_ms,
        int(args["deadline_ms"]), int(args["quota"]), args["alternate"] == "true",
    )  # fmt: skip
    if isinstance(followed, Wait):
        return {"wait_ms": str(followed.wait_ms), "quota": str(followed.quota)}
    return {"stop": followed.reason, "quota": str(followed.quota)}


@checks("C082")
def statuses(run: Run) -> Finding:
    """Read every golden answer with an error status."""
    cases = vectors("errors", "errors")
    wrong = sum(_error(case["args"]) != _named(case["expect"]) for case in cases)
    by_status = {
        status: _error({"status": status, "headers": [], "body": "", "now_ms": "0"})
        for status in ("401", "429")
    }
    good = wrong == 0 and by_status["401"][2] == "false" and by_status["429"][2] == "true"
    return Finding(
        HOLDS if good else REFUTED,
        f"401 is {by_status['401'][0]} and not tried again, 429 is {by_status['429'][0]} and is, "
        "with Retry-After as a floor; 200 and 202 carry an outcome",
        f"of {len(cases)} golden answers {share_text(wrong, len(cases))} wrong",
        facts={"wrong": wrong},
    )


def _named(expect: Mapping[str, str]) -> tuple[str, str, str]:
    return expect["class"], expect.get("code", ""), expect.get("retryable", "")


def _error(args: Mapping[str, Any]) -> tuple[str, str, str]:
    fields = [(name, value) for name, value in args["headers"]]
    raw = RawResponse(int(args["status"]), fields, bytes.fromhex(args["body"]))
    try:
        read_response(raw, now_ms=int(args["now_ms"]))
    except FractalLBAError as error:
        again = "true" if Result.of_error(error).retryable else "false"
        return type(error).__name__, error.code, again
    return "none", "", ""


@checks("C085")
def node_versions(run: Run) -> Finding:
    """Compare what the listing calls with the release that has it."""
    needs = {"fetch without a flag": 18.0, "AbortSignal.timeout": 16.14}
    claimed = 16.0
    missing = [name for name, since in needs.items() if since > claimed]
    return Finding(
        REFUTED if missing else HOLDS,
        f"Node 16.0 lacks {' and '.join(missing)}; 'crypto' of Node is in no browser",
        f"needs Node >= {max(needs.values()):g}",
        "engines: node >= 18 at least; sdk-ts says >= 20 and has no Node import outside its outbox",
        {"missing": len(missing)},
    )


@checks("C088")
def agent(run: Run) -> Finding:
    """Read the product that the SDK sends."""
    product, _, version = user_agent().partition("/")
    cases = vectors("http", "request")
    named = sum(
        any(name == "user-agent" for name, _ in case["expect"]["headers"]) for case in cases
    )
    good = product == "fractal-lba-python-sdk" and version in {"0.4.0", "0"} and named == len(cases)
    return Finding(
        HOLDS if good else REFUTED,
        "User-Agent is fractal-lba-<python, go or ts>-sdk/<version of the package>, 0.4.0; the "
        f"version is read from the package, not typed. {named} golden requests carry it",
        "exact",
        facts={"requests": named},
    )


PERFORMANCE: Final = "docs/performance-sdks.md"
CLAIMED_US: Final = {"Go": 500.0, "TypeScript": 1_000.0}


@checks("C083")
def signing_go(run: Run) -> Finding:
    """Compare the claimed cost in Go with the committed measurement."""
    return _signing("Go")


@checks("C084")
def signing_typescript(run: Run) -> Finding:
    """Compare the claimed cost in TypeScript with the committed measurement."""
    return _signing("TypeScript")


def _signing(language: str) -> Finding:
    measured_us = _measured_us(language)
    claimed_us = CLAIMED_US[language]
    ratio = claimed_us / measured_us
    return Finding(
        REFUTED if ratio > 10 else HOLDS,
        f"{claimed_us:g} us claimed, {measured_us:g} us in the committed measurement "
        f"({PERFORMANCE}; not measured in this run): {ratio:.0f} times less",
        "far outside any noise" if ratio > 10 else "",
        f"say 'about {measured_us / 1000:.2g} ms'",
        {"measured_us": measured_us},
    )


def _measured_us(language: str) -> float:
    """Read the row of signatures of version 1 from the committed page."""
    rows = [line.split("|") for line in text_of(PERFORMANCE).splitlines() if "|" in line]
    head = next(row for row in rows if row[2:3] and row[2].strip() == "Python")
    line = next(row for row in rows if row[1].startswith(" sign, version 1"))
    place = [cell.strip() for cell in head].index(language)
    return float(line[place].split()[0])
