"""Run every published vector through every public entry that can reach it.

The files say what to do (`op`), with what (`args`), and what must come out (`expect`). The entries
stand in `vector_signing`, `vector_exchange` and `vector_ring`: several per operation, so that the
same case goes through the typed and the JSON way. An operation without an entry fails, and so
does a suite without cases.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import vector_client
import vector_exchange
import vector_ring
import vector_signing
from vector_exchange import NotOurs
from vector_signing import Answer, Entry

from fractal_lba.errors import FractalLBAError

VECTORS = Path(__file__).parents[2] / "golden" / "vectors"
ENTRIES = (
    vector_signing.ENTRIES | vector_exchange.ENTRIES | vector_client.ENTRIES | vector_ring.ENTRIES
)

# What this SDK chose where the specification leaves a choice (flags with a policy axis).
POLICIES = {
    "verify.off_grid": "accept",
    "hmac.short_key": "reject",
    "ed25519.small_order_key": "reject",
    "ed25519.equation": "cofactorless",
}

OF_A_SERVER = {"http.submit", "http.batch", "checksum.crc32c"}

MEASURED: Counter[str] = Counter()
NOT_OURS: Counter[str] = Counter()


def files() -> list[Path]:
    return sorted(VECTORS.glob("*/*.json"))


def entry_cases() -> Iterator[Any]:
    for path in files():
        op = json.loads(path.read_bytes())["op"]
        for entry in ENTRIES.get(op, (None,)):
            name = "none" if entry is None else entry.__qualname__.partition(".")[0]
            yield pytest.param(path, op, entry, id=f"{path.parent.name}-{path.stem}-{name}")


def expected(case: dict[str, Any], flags: Mapping[str, Any]) -> Answer:
    """Give what must come out: of an acceptable case, what the declared policy says."""
    if case["result"] != "acceptable":
        return dict(case["expect"])
    axes = [flags[name]["axis"] for name in case["flags"] if "axis" in flags[name]]
    (axis,) = axes
    return dict(case["expect"][POLICIES[axis]])


def run(entry: Entry, args: dict[str, Any]) -> Answer | None:
    """Give the answer, the code of the error, or None for a case that is not an SDK's."""
    try:
        return entry(args)
    except NotOurs:
        return None
    except FractalLBAError as error:
        return {"code": error.code}


@pytest.mark.parametrize(("path", "op", "entry"), list(entry_cases()))
def test_every_vector_gives_what_it_says(path: Path, op: str, entry: Entry | None) -> None:
    assert entry is not None, f"no handler for the operation {op}"
    suite = json.loads(path.read_bytes())
    assert suite["cases"], "a suite without cases proves nothing"
    wrong = []
    for case in suite["cases"]:
        want = expected(case, suite["flags"])
        got = run(entry, case["args"])
        if got is None:
            NOT_OURS[op] += 1
        elif got != want and not vector_client.same(op, want, got):
            wrong.append(f"{case['id']}: expected {want}, got {got}")
        MEASURED[op] += 1
    assert not wrong, f"{len(wrong)} of {len(suite['cases'])}:\n" + "\n".join(wrong[:40])


def test_the_other_text_back_end_gives_the_same() -> None:
    """Both text back ends are held to all vectors; the other one is chosen at import."""
    pytest.importorskip("orjson", reason="the run above had the standard library already")
    program = (
        "import sys, pytest; sys.modules['orjson'] = None;"
        "sys.exit(pytest.main(['-q', '-p', 'no:cacheprovider', '-k', 'every_vector', sys.argv[1]]))"
    )
    run = subprocess.run(
        [sys.executable, "-c", program, __file__],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
    )
    assert run.returncode == 0, run.stdout[-2000:]


def test_vectors_were_found_for_every_operation() -> None:
    """Runs last: names are sorted by the file, and this one counts what ran before it."""
    if not files():
        pytest.fail(f"no vectors under {VECTORS.name}")
    there = {json.loads(path.read_bytes())["op"] for path in files()}
    assert there <= set(ENTRIES)
    assert set(ENTRIES) == there
    entries = {op: len(ENTRIES[op]) for op in there}
    cases = Counter[str]()
    for path in files():
        suite = json.loads(path.read_bytes())
        cases[suite["op"]] += len(suite["cases"])
    assert {op: cases[op] * entries[op] for op in there} == dict(MEASURED)
    assert {op for op in NOT_OURS if NOT_OURS[op] == MEASURED[op]} <= OF_A_SERVER
    assert set(NOT_OURS) <= OF_A_SERVER
