"""Measure the judge of traces: seconds, memory, and the ratio of columns to objects.

    python -m bench.checker [--operations N] [--compare N] [--keep FOLDER]

A trace of N operations is written to a temporary folder: one first write, duplicates and reads of
each id, in two regions, one fault, and a census of both. It is judged as `flk-server drill check`
judges a file of that size, on one core, in a process of its own whose memory is its own.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

PER_ID = 10
"""Operations on one id: a first write, seven duplicates, two reads."""

READS = (4, 9)
STEP_NS = 10_000
REGIONS = ("euw", "use")
BUFFER_LINES = 20_000

PROMISES = {
    "no_loss_at_level": "replicated", "linearizable": "strict", "digests_equal": True,
    "stale_read_ms_max": 1000, "rpo_s": 1, "errors_max": 0, "displaced_max": 0, "canary": True,
    "hlc_ahead_ms_max": 500, "evidence": {"canaries": 1},
}  # fmt: skip


def lines(operations: int) -> Iterator[str]:
    """Give the lines of a right trace; the operations of an id lie far apart in it."""
    ids = max(1, operations // PER_ID)
    end_ns = 1_000_000_000 + operations * STEP_NS
    placements = {"open": {"regions": list(REGIONS)}}
    document = {"name": "checker", "promises": PROMISES, "topology": {"placements": placements}}
    run = {
        "event": "run", "at_ns": 0, "schema": 1, "engine": "exact", "seed": 1,
        "scenario": document, "scenario_digest": "0" * 64, "started_unix_ns": 0,
        "control": False, "versions": {},
    }  # fmt: skip
    yield json.dumps(run)
    fault = {"event": "fault", "at_ns": end_ns // 2, "id": "kill", "kind": "process-kill"}
    yield json.dumps(fault | {"state": "injected"})
    yield json.dumps(fault | {"state": "effect", "effects": {"killed": 1}})
    for number in range(ids * PER_ID):
        turn, id_number = divmod(number, ids)
        at = number * STEP_NS + 5_000_000
        named = (
            f'"client":"web","region":"{REGIONS[turn % 2]}","key":"tenant-1/{id_number:064x}",'
            f'"call_ns":{at - 3_000_000},"frame":"euw:{id_number + 1:016x}",'
            f'"outcome":"{id_number * 7:016x}"'
        )
        if turn in READS:
            yield f'{{"event":"get","at_ns":{at},{named},"result":"present","status":200}}'
            continue
        result = "duplicate" if turn else "new"
        canary = ',"canary":true' if turn == 1 and id_number < BUFFER_LINES else ""
        yield (
            f'{{"event":"put","at_ns":{at},{named},"content":"{id_number:016x}","bytes":813,'
            f'"result":"{result}","status":200,"position":"euw/open/1/{id_number + 1}",'
            f'"level":"replicated"{canary}}}'
        )
    for region in REGIONS:
        told = f'"at_ns":{end_ns},"census":"end","region":"{region}"'
        yield f'{{"event":"census",{told},"keys":{ids}}}'
        for id_number in range(ids):
            yield (
                f'{{"event":"held",{told},"key":"tenant-1/{id_number:064x}",'
                f'"frame":"euw:{id_number + 1:016x}","content":"{id_number:016x}",'
                f'"placement":"open","overridden":[]}}'
            )
        told = f'"at_ns":{end_ns},"region":"{region}","placement":"open"'
        yield f'{{"event":"digest",{told},"after":"end","digest":"d","keys":{ids}}}'
    yield f'{{"event":"end","at_ns":{end_ns}}}'


def write(path: Path, operations: int) -> None:
    """Write a trace to a file."""
    with path.open("w", encoding="ascii", buffering=1 << 20) as file:
        batch: list[str] = []
        for line in lines(operations):
            batch.append(line)
            if len(batch) == BUFFER_LINES:
                file.write("\n".join(batch) + "\n")
                batch.clear()
        file.write("\n".join(batch) + "\n")


def judge(path: Path, *, listed: bool) -> None:
    """Judge a file in this process and print what it took, as JSON."""
    # What they import is no part of what is measured.
    from fractal_lba_server.judge import files  # noqa: PLC0415 - see above
    from fractal_lba_server.judge.check import judged  # noqa: PLC0415 - see above
    from fractal_lba_server.judge.intake import read_columns  # noqa: PLC0415 - see above

    begun, cpu = time.perf_counter(), time.process_time()
    if listed:
        report = files.check_file(path, listed_bytes_max=1 << 62)
    else:
        with path.open("rb") as file:
            columns = read_columns(file)
        read_s = time.process_time() - cpu
        report = judged(files.ColumnTrace(columns))
    seconds, cpu_s = time.perf_counter() - begun, time.process_time() - cpu
    states = {verdict.name: verdict.state for verdict in report.verdicts}
    peak_mb = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    told = {"s": seconds, "cpu_s": cpu_s, "mb": peak_mb, "passed": report.passed, "states": states}
    print(json.dumps(told | {"read_s": cpu_s if listed else read_s}))


def measured(path: Path, *options: str) -> dict[str, object]:
    """Judge a file in a process of its own, on one core."""
    command = ["taskset", "-c", "0", sys.executable, "-m", "bench.checker", "--judge", str(path)]
    done = subprocess.run([*command, *options], check=True, capture_output=True, text=True)
    told: dict[str, object] = json.loads(done.stdout)
    return told


def main() -> None:
    """Write traces, judge them, and print the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--operations", type=int, default=10_000_000)
    parser.add_argument("--compare", type=int, default=100_000)
    parser.add_argument("--keep", type=Path)
    parser.add_argument("--judge", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--listed", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.judge is not None:
        judge(options.judge, listed=options.listed)
        return
    with tempfile.TemporaryDirectory(prefix="flk-checker-") as scratch:
        folder = options.keep or Path(scratch)
        small, large = folder / "small.jsonl", folder / "large.jsonl"
        write(small, options.compare)
        objects, columns = measured(small, "--listed"), measured(small)
        if objects["states"] != columns["states"]:
            sys.exit(f"the verdicts differ: {objects['states']} and {columns['states']}")
        say(options.compare, small, objects, "as objects")
        say(options.compare, small, columns, "as columns")
        ratio = float(str(objects["cpu_s"])) / float(str(columns["cpu_s"]))
        print(f"objects take {ratio:.1f} times as long as columns")
        write(large, options.operations)
        say(options.operations, large, measured(large), "as columns")


def say(operations: int, path: Path, told: dict[str, object], how: str) -> None:
    """Print one row of figures."""
    size_mb = path.stat().st_size / 1e6
    print(
        f"{operations:>10} operations {how}: {told['cpu_s']:.2f} s of one core, of which "
        f"reading {told['read_s']:.2f} s ({told['s']:.2f} s by the clock); "
        f"{told['mb']:.0f} MB of memory, file {size_mb:.0f} MB; "
        f"every verdict holds: {told['passed']}",
        flush=True,
    )


if __name__ == "__main__":
    main()
