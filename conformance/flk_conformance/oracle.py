"""Ask the oracle of `golden/oracle` what must come out; it shares no code with any SDK.

Needs a checkout: the oracle is no part of the published vectors.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any, Final

from .places import root_of

sys.path.insert(0, str(root_of("golden/oracle")))

from golden.oracle import answers, base, recovery, sign
from golden.oracle.fault import Fault
from golden.oracle.fleet import Fleet
from golden.oracle.suites import (
    endpoint,
    hmac,
    jcs,
    number,
    outbox,
    record,
    reject,
    retry,
    string,
    verify,
)
from golden.oracle.suites import id as identity

__all__ = ["RUNS", "Fleet", "base", "expectation", "record", "sign", "verify"]

Members = dict[str, Any]

RUNS: Final[Mapping[str, tuple[str, str, Callable[[Members], Members]]]] = {
    "canon.number": ("number", "canonical 3.2(4)", number.run),
    "canon.string": ("string", "canonical 3.4(4)", string.run),
    "canon.record": ("record", "canonical 3.5", record.run),
    "record.parse": ("reject", "formats 1.1", reject.run_parse),
    "jcs.document": ("jcs", "canonical 4.2", jcs.run),
    "sign.hmac": ("hmac", "canonical 3.6", hmac.run("HMAC")),
    "sign.ed25519": ("hmac", "canonical 3.6", hmac.run("Ed25519")),
    "verify": ("verify", "canonical 3.8", verify.run),
    "id.derive": ("id", "canonical 5.1", identity.run),
    "retry.plan": ("retry", "retry 9", retry.run),
    "retry.after": ("retry", "retry 21", retry.run_after),
    "endpoint.plan": ("endpoint", "retry 36", endpoint.run),
    "http.request": ("http", "formats 12.1", answers.request),
    "http.response": ("http", "formats 12.4", answers.response),
    "errors.map": ("http", "formats 12.7", answers.mapped),
    "outbox.recover": ("outbox", "formats 11.5", recovery.recover),
    "checksum.crc32": ("outbox", "formats 11.2", lambda args: outbox.checksum("crc32", args)),
}
"""Of each operation: the module of its suite, the sentence that a find cites, and the judge."""


def expectation(op: str, args: Members) -> Members:
    """Give what must come out: members of `ok`, or the one member `code` of an error."""
    try:
        return RUNS[op][2](args)
    except Fault as fault:
        return {"code": fault.code}
