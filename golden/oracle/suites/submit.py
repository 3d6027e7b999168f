"""Suites `submit` and `reject-http`: whole requests to a server and what it must answer."""

from __future__ import annotations

from typing import Any

from golden.oracle import canon, server, verdict
from golden.oracle.base import FULL, MERKLE_ROOT, TENANT, record
from golden.oracle.emit import Case, Flag, Stream, Suite
from golden.oracle.fault import Fault
from golden.oracle.suites import verify as keys
from golden.oracle.suites.reject import full_faults

SUBMIT_FLAGS = {
    "Accepted": Flag("Everything agrees.", ("formats 2.9", "formats 2.10")),
    "Budget": Flag("The budget within its tolerance.", ("formats 2.7",)),
    "DHat": Flag("The upper median of the slopes, and its tolerance.", ("formats 2.2", "formats 2.3")),
    "Plausible": Flag("Counts that boxes can give.", ("formats 2.5",)),
    "Reason": Flag("The first reason that applies.", ("formats 2.8", "formats 2.9")),
    "Regime": Flag("The regime and its thresholds.", ("formats 2.6",)),
    "Signed": Flag("Each way to sign.", ("canonical 3.10(3)", "canonical 4.3")),
}
REJECT_FLAGS = {
    "Identity": Flag("The pcs_id is recomputed.", ("canonical 5.5", "formats 9.4")),
    "Key": Flag("Key, version, tenant.", ("canonical 3.10(2)", "formats 9.5", "formats 10.4")),
    "Media": Flag("Media type and encoding.", ("formats 9.3",)),
    "Record": Flag("One fault in a full record.", ("formats 1.1", "formats 9.4")),
    "Signature": Flag("One fault in the signature.", ("canonical 3.8(3)", "formats 9.5")),
    "Text": Flag("Text outside the profile.", ("canonical 3.9(2)", "formats 9.3")),
}
REJECT_PARTS = {"record": ("Record",), "text": ("Text",), "signature": ("Identity", "Key", "Media", "Signature")}
HEADERS = [["Content-Type", "application/json"]]
TENANTS: list[dict[str, Any]] = [
    {"id": TENANT, "min_version": "1", "v1_default_kid": "k1", "keys": [{k: e[k] for k in ("kid", "alg", "key")} for e in keys.KEYRING if e["tenant"] == TENANT]
     + [{"kid": "k5", "alg": "HMAC", "key": keys.REVOKED_KEY.hex(), "status": "revoked"}]},
    {"id": "tenant-b", "min_version": "2", "keys": [{k: e[k] for k in ("kid", "alg", "key")} for e in keys.KEYRING if e["tenant"] != TENANT]},
]


def arguments(body: bytes, headers: list[list[str]] = HEADERS) -> dict[str, Any]:
    return {"headers": headers, "body": body.hex(), "tenants": TENANTS}


def members_of(epoch: int, scales: list[int], counts: list[int], dimension: int, coh: int, r: int) -> tuple[dict[str, str], int, int]:
    """Write a record whose claims are what a verifier finds, and give D_hat and budget."""
    d = verdict.d_hat(scales, counts)
    try:
        b = verdict.budget(d, coh, r)
    except ArithmeticError:  # a tie; the next r has none, because it moves the sum by 0.3
        r += 1 if r < canon.GIGA else -1
        b = verdict.budget(d, coh, r)
    v_star = {1: "[1]", 2: "[0.6,0.8]"}.get(dimension, "[1" + ",0" * (dimension - 1) + "]")
    changes = {
        "epoch": str(epoch), "pcs_id": f'"{canon.derive_pcs_id(MERKLE_ROOT, epoch, "shard-001")}"', "scales": "[" + ",".join(map(str, scales)) + "]",
        "N_j": "{" + ",".join(f'"{s}":{n}' for s, n in zip(scales, counts, strict=True)) + "}", "v_star": v_star, "D_hat": canon.number_text(d),
        "coh_star": canon.number_text(coh), "r": canon.number_text(r), "regime": f'"{verdict.regime(d, coh)}"', "budget": canon.number_text(b),
    }
    return {**FULL, **changes}, d, b


class Submits:
    def __init__(self) -> None:
        self.suite = Suite("submit/submit.json", "http.submit", "suites/submit.py", SUBMIT_FLAGS, server.submit)
        self.epoch = 1000

    def add(self, name: str, flag: str, scales: list[int], counts: list[int], dimension: int = 2, coh: int = 500_000_000, r: int = 500_000_000,
            *, d: int = 0, b: int = 0, claim: str | None = None, kid: str = "k1", sig_v: int = 2, named: bool = True, **members: str) -> None:
        """Add a record whose claims are off by d and b (in 10^-9), or whose regime is `claim`."""
        self.epoch += 1
        base, found_d, found_b = members_of(self.epoch, scales, counts, dimension, coh, r)
        claimed_d = min(max(found_d + d, 0), 3_500_000_000)
        claimed_b = min(max(found_b + b, 0), canon.GIGA)
        base |= {"D_hat": canon.number_text(claimed_d), "budget": canon.number_text(claimed_b)}
        base |= members
        if claim is not None:
            base["regime"] = f'"{claim}"'
        signed = keys.signed(kid, base, sig_v, named=named, tenant="tenant-b" if kid == "k3" else TENANT)
        headers = HEADERS if named else [*HEADERS, ["X-Tenant-Id", TENANT]]
        self.suite.add(f"submit/{name}", flag, arguments(record(signed), headers))


SQUARE = ([2, 4, 8, 16], [4, 16, 64, 256])
LINE = ([2, 4, 8], [2, 4, 8])


def submits() -> Suite:
    s = Submits()
    for name, (scales, counts, dimension) in {
        "square": (*SQUARE, 2), "line": (*LINE, 1), "point": ([2, 4, 8], [1, 1, 1], 3), "cube": ([2, 4, 8], [8, 64, 512], 3), "two-scales": ([2, 3], [2, 3], 1),
        "half": ([4, 16], [8, 64], 2), "five-dimensions": ([2, 4], [32, 1024], 5), "default-scales": ([2, 4, 8, 16, 32, 64], [3, 9, 27, 80, 241, 700], 2),
        "falling": ([2, 3], [2, 1], 1), "32-scales": (list(range(1, 33)), [k * k for k in range(1, 33)], 2), "one": ([1, 2], [1, 2], 1),
        "large": ([2**30, 2**31 - 1], [2**30, 2**31 - 1], 1), "large-counts": ([1000, 1000000], [10**6, 10**12], 2), "primes": ([2, 3, 5, 7, 11], [2, 3, 5, 7, 11], 1),
        "2048-dimensions": ([2, 4], [4, 16], 2048), "weather": ([2, 4, 8, 16, 32], [12, 60, 200, 480, 890], 3), "even-median": ([2, 4, 8], [2, 5, 20], 2),
        "odd-scales": ([3, 9, 27], [5, 20, 85], 2), "not-dividing": ([2, 3, 5], [3, 2, 9], 2), "count-max": ([1, 2**31 - 1], [1, 2**53 - 1], 2),
    }.items():
        s.add(f"accepted-{name}", "Accepted", scales, counts, dimension)
    for kid in ("k1", "k2", "k3", "k4"):
        s.add(f"signed-{kid}-v2", "Signed", *SQUARE, kid=kid)
        if kid != "k3":
            s.add(f"signed-{kid}-v1", "Signed", *SQUARE, kid=kid, sig_v=1)
    s.add("signed-v1-default-kid", "Signed", *SQUARE, sig_v=1, named=False)
    for step in (-150_000_001, -150_000_000, -149_999_999, -1, 1, 149_999_999, 150_000_000, 150_000_001, 10**9):
        slug = str(step).replace("-", "minus.")
        s.add(f"d-hat-{slug}", "DHat", *SQUARE, d=step)
        s.add(f"d-hat-line-{slug}", "DHat", *LINE, 1, d=step if step > -(10**9) else 0)
        s.add(f"d-hat-fraction-{slug}", "DHat", [2, 4, 8], [3, 9, 25], d=step)
    s.add("d-hat-clamped-claim", "DHat", [2, 4], [32, 1024], 5, d=-150_000_000)
    s.add("d-hat-clamped-claim-over", "DHat", [2, 4], [32, 1024], 5, d=-150_000_001)
    s.add("d-hat-zero-claim", "DHat", [2, 3], [2, 1], 1, d=150_000_000)
    s.add("d-hat-zero-claim-over", "DHat", [2, 3], [2, 1], 1, d=150_000_001)
    plausible(s)
    regimes(s)
    budgets(s)
    reasons(s)
    draw = Stream("submit/drawn")
    made = 0
    while made < 40:
        scales = sorted({1 + draw.below(60) for _ in range(2 + draw.below(6))})
        counts = [1 + draw.below(min(s_**2, 3000)) for s_ in scales]
        try:
            s.add(f"drawn-{made:02d}", "Reason", scales, counts, 2, draw.below(1_050_000_000), draw.below(10**9),
                  d=draw.pick((0, 0, 0, -1, 1)), b=draw.pick((0, 0, 9_999_999, 10_000_001)) if made % 2 else 0)
            made += 1
        except ArithmeticError:
            continue  # near a rounding tie
    return s.suite


def plausible(s: Submits) -> None:
    for name, (scales, counts, dimension) in {
        "falls": ([2, 4], [3, 2], 2), "equal": ([2, 4], [3, 3], 2), "not-dividing-falls": ([4, 6], [9, 8], 2), "top": ([2, 4], [4, 16], 2), "over-cells": ([2, 4], [5, 16], 2),
        "over-cells-last": ([3, 4], [9, 17], 2), "at-cells-last": ([3, 4], [9, 16], 2), "refines": ([2, 4], [2, 8], 2), "over-refines": ([2, 4], [2, 9], 2), "one-dimension": ([2, 4], [2, 4], 1),
        "over-one-dimension": ([2, 4], [2, 5], 1), "three-dimensions": ([2, 4], [8, 64], 3), "over-three": ([2, 4], [9, 64], 3), "scale-one": ([1, 2], [1, 4], 2), "over-scale-one": ([1, 2], [2, 4], 2),
        "far-pair": ([2, 3, 4], [2, 3, 9], 2), "far-pair-falls": ([2, 3, 4], [3, 9, 2], 2), "large-power": ([2, 2**30], [2, 2**53 - 1], 2048), "large-power-2": ([2**30, 2**31 - 1], [2**53 - 1, 2**53 - 1], 64),
        "53-bits": ([2, 4], [2, 2**53 - 1], 53), "52-bits": ([2, 4], [1, 2**52], 52), "over-52-bits": ([2, 4], [1, 2**52 + 1], 52), "26-cells": ([4, 5], [2**52, 5], 26), "over-26-cells": ([4, 5], [2**52 + 1, 5], 26),
    }.items():
        s.add(f"plausible-{name}", "Plausible", scales, counts, dimension)


def regimes(s: Submits) -> None:
    half, step = ([4, 16], [8, 64]), ([1, 32], [1, 8192])
    for coh in (699_999_999, 700_000_000, 700_000_001):
        s.add(f"regime-coh-{coh}", "Regime", *half, coh=coh)
        for claim in ("sticky", "mixed", "non_sticky"):
            s.add(f"regime-coh-{coh}-{claim.replace('_', '-')}", "Regime", *half, coh=coh, claim=claim)
    for name, (scales, counts) in {"1.5": half, "2.6": step, "1.0": LINE, "3.0": ([2, 4, 8], [8, 64, 512])}.items():
        for claim in ("sticky", "mixed", "non_sticky"):
            s.add(f"regime-d-{name}-{claim.replace('_', '-')}", "Regime", scales, counts, 3, 800_000_000, claim=claim)
    s.add("regime-from-recomputed", "Regime", *half, 2, 900_000_000, d=100_000_000)
    s.add("regime-from-claimed", "Regime", *half, 2, 900_000_000, d=100_000_000, claim="mixed")


def budgets(s: Submits) -> None:
    for step in (-10_000_001, -10_000_000, -9_999_999, 1, 9_999_999, 10_000_000, 10_000_001, 300_000_000):
        slug = str(step).replace("-", "minus.")
        s.add(f"budget-{slug}", "Budget", *SQUARE, b=step)
        s.add(f"budget-uneven-{slug}", "Budget", [2, 4, 8], [3, 9, 25], 2, 123_456_789, 234_567_890, b=step)
    for name, coh, r in (("zero", 0, 10**9), ("all", 1_050_000_000, 0), ("coh", 10**9, 10**9), ("r", 0, 0), ("nano", 1, 999_999_999)):
        s.add(f"budget-terms-{name}", "Budget", *SQUARE, 2, coh, r)
        s.add(f"budget-terms-cube-{name}", "Budget", [2, 4, 8], [8, 64, 512], 3, coh, r)
    s.add("budget-clamped", "Budget", [2, 4], [32, 1024], 5, 1_050_000_000, 0)
    s.add("budget-clamped-claim", "Budget", [2, 4], [32, 1024], 5, 1_050_000_000, 0, b=-10_000_000)
    s.add("budget-clamped-claim-over", "Budget", [2, 4], [32, 1024], 5, 1_050_000_000, 0, b=-10_000_001)


def reasons(s: Submits) -> None:
    s.add("reason-d-hat-before-n-j", "Reason", [2, 4], [5, 16], d=200_000_000)
    s.add("reason-d-hat-before-regime", "Reason", *SQUARE, d=200_000_000, claim="sticky")
    s.add("reason-n-j-before-regime", "Reason", [2, 4], [5, 16], claim="sticky")
    s.add("reason-n-j-before-budget", "Reason", [2, 4], [5, 16], b=20_000_000)
    s.add("reason-regime-before-budget", "Reason", *SQUARE, claim="sticky", b=20_000_000)
    s.add("reason-all", "Reason", [2, 4], [5, 16], d=200_000_000, claim="sticky", b=20_000_000)


class Rejects:
    def __init__(self) -> None:
        # Three files, by what is at fault, because one would be large.
        self.suites = {
            part: Suite(f"reject-http/{part}.json", "http.submit", "suites/submit.py", {f: REJECT_FLAGS[f] for f in flags}, server.submit)
            for part, flags in REJECT_PARTS.items()
        }

    def add(self, name: str, flag: str, body: bytes, code: str, headers: list[list[str]] = HEADERS) -> None:
        args = arguments(body, headers)
        try:
            server.submit(args)
        except Fault as fault:
            if fault.code != code:
                raise AssertionError(f"{name}: meant {code}, found {fault.code}") from None
            status = server.status_of(code)
            pointer = fault.pointer if status == "422" and fault.pointer else None
        else:
            raise AssertionError(f"{name}: the oracle takes it")
        expect = {"code": code, "status": status} | ({} if pointer is None else {"pointer": pointer})
        part = next(p for p, flags in REJECT_PARTS.items() if flag in flags)
        self.suites[part].keep(Case(f"rejecthttp/{name}", (flag,), args, "invalid", expect))


def rejects() -> list[Suite]:
    r = Rejects()
    for name, (_, code, changes) in full_faults().items():
        if code is not None:
            r.add(f"record-{name}", "Record", faulty(changes), code)
    for member in canon.FLOATS:
        slug = member.lower().replace("_", "-")
        for name, text in {"above": "3.6", "minus": "-0.1", "least": "-5e-324", "overflow": "1e400"}.items():
            r.add(f"domain-{slug}-{name}", "Record", faulty({member: text}), "number_out_of_range")
    for name, text in {"point": "7.0", "exponent": "7e0", "minus": "-7", "above": "9007199254740992", "minus-zero": "-0"}.items():
        r.add(f"domain-epoch-{name}", "Record", faulty({"epoch": text}), "epoch_invalid")
    for name, text in {"empty": "", "257": "a" * 257, "86-cjk": "\u65e5" * 86}.items():
        r.add(f"domain-shard-id-{name}", "Record", faulty({"shard_id": f'"{text}"'}), "string_length")
    for member in ("merkle_root", "pcs_id"):
        for name, text in {"upper": "A" * 64, "short": "a" * 63, "newline": "a" * 64 + "\\n", "wide": "a" * 63 + "\uff11"}.items():
            r.add(f"domain-{member.replace('_', '-')}-{name}", "Record", faulty({member: f'"{text}"'}), "hex_invalid")
    texts(r)
    signatures(r)
    for i, text in enumerate(("0" * 64, "a" * 64, canon.derive_pcs_id(MERKLE_ROOT, 8, "shard-001"), canon.derive_pcs_id(MERKLE_ROOT, 7, "shard-002"))):
        members = {**FULL, "pcs_id": f'"{text}"'}
        r.add(f"pcs-id-{i}", "Identity", record(keys.signed("k1", members, 2)), "pcs_id_mismatch")
    good = record(keys.signed("k1", FULL, 2))
    for name, headers in {"none": [], "text": [["Content-Type", "text/plain"]], "ndjson": [["Content-Type", "application/x-ndjson"]], "xml": [["Content-Type", "application/xml"]],
                          "form": [["Content-Type", "application/x-www-form-urlencoded"]], "problem": [["Content-Type", "application/problem+json"]],
                          "gzip": [*HEADERS, ["Content-Encoding", "gzip"]], "br": [*HEADERS, ["Content-Encoding", "br"]]}.items():
        r.add(f"media-{name}", "Media", good, "unsupported_media_type", headers)
    return list(r.suites.values())


def faulty(changes: dict[str, str | None]) -> bytes:
    """Put a fault into the full record and sign what results, if it can be signed."""
    base = {k: v for k, v in {**FULL, **changes}.items() if v is not None}
    try:
        # The fault keeps its spelling: what is signed is the RFC 8785 form, where 1.0 is 1.
        return record({**keys.signed("k1", base, 2)}, **changes)
    except Fault:
        return record(keys.signed("k1", FULL, 2), **changes)


def texts(r: Rejects) -> None:
    members = keys.signed("k1", FULL, 2)
    good = record(members)
    rows: dict[str, tuple[bytes, str]] = {
        "empty": (b"", "json_malformed"), "cut": (good[:-1], "json_malformed"), "cut-half": (good[: len(good) // 2], "json_malformed"), "trailing": (good + b"x", "json_malformed"), "twice": (good + good, "json_malformed"),
        "array": (b"[" + good + b"]", "json_malformed"), "bom": (b"\xef\xbb\xbf" + good, "json_malformed"), "utf-16-le": (good.decode().encode("utf-16-le"), "json_malformed"), "utf-16-be": (good.decode().encode("utf-16-be"), "json_malformed"),
        "utf-32": (good.decode().encode("utf-32-le"), "json_malformed"), "comment": (b"/**/" + good, "json_malformed"), "trailing-comma": (good[:-1] + b",}", "json_malformed"), "single-quotes": (good.replace(b'"mixed"', b"'mixed'"), "json_malformed"),
        "nbsp": (b"\xc2\xa0" + good, "json_malformed"), "nul": (good + b"\0", "json_malformed"), "raw-newline": (good.replace(b"shard-001", b"shard\n001"), "json_malformed"), "latin-1": (good.replace(b"shard-001", b"shard-\xe9"), "json_malformed"),
        "overlong": (good.replace(b"shard-001", b"shard-\xc0\xaf"), "json_malformed"), "raw-surrogate": (good.replace(b"shard-001", b"shard-\xed\xa0\x80"), "json_malformed"), "escape-x": (good.replace(b"shard-001", b"shard-\\x41"), "json_malformed"),
        "duplicate-same": (good[:-1] + b',"epoch":7}', "member_duplicate"), "duplicate-other": (b'{"r":0.9,' + good[1:], "member_duplicate"), "duplicate-escaped": (good[:-1] + b',"\\u0072":0.5}', "member_duplicate"),
        "duplicate-nested": (good.replace(b'"outbox_seq":0', b'"outbox_seq":0,"outbox_seq":0'), "member_duplicate"), "duplicate-sig": (good[:-1] + b',"sig":"x"}', "member_duplicate"), "duplicate-count": (good.replace(b'"2":4,', b'"2":4,"2":4,'), "member_duplicate"),
        "depth-33": (record(members, ft="[" * 32 + "]" * 32), "json_limit"), "depth-5000": (record(members, ft="[" * 5000 + "]" * 5000), "json_limit"), "depth-objects": (record(members, ft='{"a":' * 32 + "1" + "}" * 32), "json_limit"),
        "size-65537": (good + b" " * (65_537 - len(good)), "payload_too_large"),
    }
    for name, text in {"nan": "NaN", "infinity": "Infinity", "minus-infinity": "-Infinity", "plus": "+0.5", "leading-zero": "00.5", "point-only": ".5", "point-end": "0.", "hex": "0x1", "none": "None", "minus": "-"}.items():
        rows[f"token-{name}"] = (record(members, r=text), "json_malformed")
    for name, text in {"high": "\\ud800", "low": "\\udc00", "reversed": "\\udc00\\ud800", "high-a": "\\ud83da"}.items():
        rows[f"surrogate-{name}"] = (record(members, shard_id=f'"{text}"'), "string_surrogate")
        rows[f"surrogate-fallback-{name}"] = (record(members, ft=f'{{"outbox_seq":0,"degraded":false,"fallbacks":["{text}"],"clock_skew_ms":0}}'), "string_surrogate")
    for name, (body, code) in rows.items():
        r.add(f"text-{name}", "Text", body, code)


def signatures(r: Rejects) -> None:
    for kid in ("k1", "k2"):
        members = keys.signed(kid, FULL, 2)
        text, pad = keys.sig_of(members), 1 if kid == "k1" else 2
        for name, changed in {"leading-space": " " + text, "trailing-lf": text + "\\n", "no-pad": text[:-pad], "extra-pad": text + "=", "empty": "", "stray-bits": keys.stray(text, pad), "hex": "ab" * 32, "bang": "!" + text[1:], "short": text[4:]}.items():
            r.add(f"sig-{kid}-{name}", "Signature", record(members, sig=f'"{changed}"'), "signature_malformed")
        for at in (0, 7, 30):
            r.add(f"sig-{kid}-flip-{at}", "Signature", record(members, sig=f'"{keys.flip(members, at)}"'), "signature_invalid")
        for member, text in {"attempt": "2", "seed": "1", "sent_at": '"2026-01-15T12:00:01Z"', "regime": '"sticky"', "v_star": "[0.8,0.6]", "budget": "0.36", "ft": '{"outbox_seq":1,"degraded":false,"fallbacks":[],"clock_skew_ms":0}', "r": "0.500000001"}.items():
            r.add(f"sig-{kid}-altered-{member.replace('_', '-')}", "Signature", record({**members, member: text}), "signature_invalid")
        r.add(f"sig-{kid}-missing", "Record", record(members, sig=None), "member_missing")
        for token, name in (("null", "null"), ("1", "number"), ("[]", "array")):
            r.add(f"sig-{kid}-{name}", "Record", record(members, sig=token), "member_type")
        for member in ("alg", "kid", "tenant_id"):
            r.add(f"key-{kid}-without-{member.replace('_', '-')}", "Record", record(members, **{member: None}), "member_missing")
        r.add(f"key-{kid}-unknown", "Key", record({**members, "kid": '"k9"'}), "kid_unknown")
        r.add(f"key-{kid}-tenant-id", "Key", record(keys.signed(kid, FULL, 2, tenant="tenant-b")), "tenant_mismatch")
        r.add(f"key-{kid}-tenant-header", "Key", record(members), "tenant_mismatch", [*HEADERS, ["X-Tenant-Id", "tenant-b"]])
        r.add(f"key-{kid}-tenant-header-unknown", "Key", record(members), "tenant_mismatch", [*HEADERS, ["X-Tenant-Id", "tenant-z"]])
        for name, alg in (("none", "none"), ("other", "Ed25519" if kid == "k1" else "HMAC"), ("hs256", "HS256"), ("lower", "hmac"), ("empty", "")):
            r.add(f"key-{kid}-alg-{name}", "Key", record({**members, "alg": f'"{alg}"'}), "alg_mismatch")
        for name, token in {"1": "1", "3": "3", "point": "2.0", "text": '"2"', "null": "null", "true": "true"}.items():
            r.add(f"key-{kid}-version-{name}", "Key", record({**members, "sig_v": token}), "sig_version_unsupported")
    r.add("key-foreign-signer", "Key", record(keys.signed("k3", FULL, 2, tenant=TENANT)), "tenant_mismatch")
    r.add("key-revoked", "Key", record(keys.signed("k5", FULL, 2)), "key_inactive")
    r.add("key-version-1-where-2", "Key", record(keys.signed("k3", FULL, 1)), "sig_version_unsupported")
    bare = record(keys.signed("k1", FULL, 1, named=False))
    r.add("key-no-kid-no-header", "Key", bare, "kid_unknown")
    r.add("key-no-kid-no-default", "Key", bare, "kid_unknown", [*HEADERS, ["X-Tenant-Id", "tenant-b"]])
    r.add("key-no-kid-unknown-tenant", "Key", bare, "kid_unknown", [*HEADERS, ["X-Tenant-Id", "tenant-z"]])
    r.add("key-v1-with-tenant-id", "Record", record(keys.signed("k1", FULL, 1), tenant_id=f'"{TENANT}"'), "member_unknown")
    r.add("key-no-kid-other-key", "Key", record(keys.signed("k4", FULL, 1, named=False)), "signature_malformed", [*HEADERS, ["X-Tenant-Id", TENANT]])


def suites() -> list[Suite]:
    return [submits(), *rejects()]
