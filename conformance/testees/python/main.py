"""The testee of the Python SDK: reads requests, asks `fractal_lba`, writes answers.

`signing`, `exchange`, `sending` and `rings` hold one function per operation, `client` those with
real sockets; each takes `args` and gives `ok`. An error of the SDK is an answer, anything else
ends this program.
"""

from __future__ import annotations

import json
import os
import platform
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

if find_spec("fractal_lba") is None:  # what is installed is tested, otherwise the checkout
    sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "sdk-python" / "src"))

import exchange
import rings
import sending
import signing

from fractal_lba.errors import FractalLBAError
from fractal_lba.http import user_agent

PROTOCOL = 1
NO_COMMON_PROTOCOL = 3
READ_BYTES = 1 << 20

OPS = {**signing.OPS, **exchange.OPS, **sending.OPS, **rings.OPS}
CLIENT_OPS = (
    "client.submit", "client.submit_many", "client.get", "client.cancel", "client.failover",
    "log.capture",
)  # fmt: skip
POLICIES = {
    "verify.off_grid": "accept",
    "hmac.short_key": "reject",
    "ed25519.small_order_key": "reject",
    "ed25519.equation": "cofactorless",
}


HAS_ED25519 = find_spec("cryptography") is not None
LEVELS = ["core", *(["ed25519"] if HAS_ED25519 else []), "client", "outbox", "ring"]


def greeting() -> dict[str, Any]:
    """Say who answers here."""
    system, machine = platform.system().lower(), platform.machine()
    return {
        "protocol": PROTOCOL,
        "testee": {
            "name": "sdk-python", "version": user_agent(None).partition("/")[2],
            "language": "python",
            "runtime": f"{platform.python_implementation()} {platform.python_version()}",
            "os": f"{system}/{machine}",
        },
        "ops": [*OPS, *CLIENT_OPS],
        "levels": LEVELS,
        "policies": POLICIES,
        "in_flight": 64,
    }  # fmt: skip


def answer(message: dict[str, Any]) -> dict[str, Any]:
    """Answer one request."""
    seq, op = message["seq"], message["op"]
    if op in CLIENT_OPS and op not in OPS:
        OPS.update(import_module("client").OPS)  # loads threads and sockets, so only when asked
    function = OPS.get(op)
    if function is None:
        return {"seq": seq, "skip": {"reason": f"{op} is not known here"}}
    try:
        return {"seq": seq, "ok": function(message["args"])}
    except FractalLBAError as error:
        if error.code == "ed25519_unavailable":
            return {"seq": seq, "skip": {"reason": error.message}}
        return {"seq": seq, "err": {"code": error.code, "message": error.message}}


def main() -> int:
    """Answer until bye or the end of the input; all that came together is answered together."""
    out = os.dup(1)
    os.dup2(2, 1)  # whatever prints must not spoil the protocol
    encode, begun = json.JSONEncoder(separators=(",", ":")).encode, b""
    while data := os.read(0, READ_BYTES):
        *lines, begun = (begun + data).split(b"\n")
        answers: list[str] = []
        is_over = False
        for line in lines:
            message = json.loads(line)
            if message["cmd"] == "run":
                answers.append(encode(answer(message)))
            elif message["cmd"] == "hello" and message["protocol"] >= PROTOCOL:
                answers.append(encode(greeting()))
            else:
                is_over = True
                break
        send(out, answers)
        if is_over:
            return 0 if message["cmd"] == "bye" else NO_COMMON_PROTOCOL
    return 0


def send(out: int, answers: list[str]) -> None:
    """Write answers, all of them."""
    data = "".join(f"{text}\n" for text in answers).encode()
    while data:
        data = data[os.write(out, data) :]


if __name__ == "__main__":
    sys.exit(main())
