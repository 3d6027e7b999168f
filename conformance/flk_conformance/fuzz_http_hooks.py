"""What schemathesis is told about this API: how lines are written, and how records are signed.

Loaded by schemathesis itself (fuzz_http.py names this module to it). A record that it makes up
obeys the schema, but hardly ever the rules that no schema states: a derived id, a signature. So of
the records for a submission every second one is completed here, and reaches the code behind the
gate; the others stay as they were made up.
"""

from __future__ import annotations

import itertools
import json
import os
from pathlib import Path
from typing import Any, Final

import schemathesis

from .server.features import load_features
from .server.records import OFF_D_HAT, UNSIGNABLE, Records

FEATURES: Final = "FLK_FUZZ_FEATURES"
"""Name of the variable that holds the path of server.yaml."""

_KEPT: Final = ("seed", "attempt", "shard_id", "epoch", "coh_star", "r", "budget")
"""Members of a made-up record that a completed one keeps."""

_features = load_features(Path(os.environ[FEATURES]))
_records = Records(f"fuzz {os.getpid()} {os.urandom(8).hex()}")
_numbers = itertools.count()


@schemathesis.serializer("application/x-ndjson")
def ndjson(ctx: Any, value: Any) -> bytes:
    """Write the body of a batch: text as it is, anything else as a line of JSON."""
    del ctx
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    return json.dumps(value).encode() + b"\n"


@schemathesis.hook
def before_call(ctx: Any, case: Any, kwargs: Any) -> None:
    """Complete every second record of a submission, and give batches lines that are records."""
    del ctx, kwargs
    number = next(_numbers)
    if number % 2 or case.method.upper() != "POST":
        return
    if case.path == "/v1/pcs/submit" and isinstance(case.body, dict):
        case.body = json.loads(_completed(case.body))
    elif case.path == "/v1/pcs/batch":
        case.body = "".join(_completed({}) + "\n" for _ in range(number % 7))
    for name in ("X-Tenant-Id", "PCS-Min-Ack"):  # another tenant, a level that is not reached
        case.headers.pop(name, None)


def _completed(made_up: dict[str, Any]) -> str:
    """Sign a record that keeps what it can of a made-up one."""
    kept = {name: json.dumps(made_up[name]) for name in _KEPT if name in made_up}
    changes = dict(OFF_D_HAT) if next(_numbers) % 5 == 0 else {}
    key = _features.ordinary[0].key("HMAC")
    assert key is not None
    try:
        return _records.fresh(key, kept | changes).body.decode()
    except UNSIGNABLE:  # what was made up cannot be signed or judged
        return _records.fresh(key).body.decode()
