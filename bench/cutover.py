"""Cutovers of a ring as clients of a server see them: over HTTP, at a fixed rate.

    python -m bench.cutover [--cutovers N] [--rate PER_S]

A server on one core takes signed records one by one, on a schedule that does not wait for
answers; sender and commands share the other core, as an operator's machine is another one. A
*pause* is how long a record that was due from 0.2 s before a cutover until 0.2 s after it waited
for its answer. The same is measured around `status`, which changes nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from . import processes, records
from .migration import AROUND_S, Region, at, row

CYCLE_S = 20.0
"""Longest time that one migration takes on a busy machine."""

CONNECTIONS = 64
FIRST = 2 * 10**9


def server_files(folder: Path, control_url: str, port: int) -> Path:
    """Write what a server over dedup shards reads; give its configuration."""
    secret = folder / "hmac.hex"
    secret.write_text(records.HMAC_KEY.hex())
    secret.chmod(0o600)
    (folder / "tenants.yaml").write_text(records.tenants_yaml(str(secret)))
    file = folder / "flk.yaml"
    file.write_text(
        f"listen: 127.0.0.1:{port}\nadmin_listen: 127.0.0.1:{processes.free_port()}\n"
        f"data: {folder}/data\nregion: loc\ntenants_file: {folder}/tenants.yaml\n"
        f"dedup: {{control: '{control_url}'}}\n"
    )
    return file


async def migrations(region: Region, count: int) -> list[dict[str, Any]]:
    """Add a dedup shard and take it away again, so many times."""
    change = [f"--add=shard-3={region.url('shard-3')}", "--remove=shard-3"]
    done = []
    await asyncio.sleep(1)
    for number in range(count):
        done.append(await region.migrate([change[number % 2]]))
        sys.stderr.write(f"  {number + 1}: paused {done[-1]['paused_ms']:.1f} ms\n")
    return done


def around(waits: list[list[float]], began: float, ended: float) -> list[float]:
    """Give the waits, ms, of the records that were due around a time."""
    return [1000 * w for due, w in waits if began - AROUND_S <= due <= ended + AROUND_S]


def measure(folder: Path, count: int, rate_per_s: int) -> None:
    """Run server, sender and operator, and print the table."""
    region = Region(folder)
    names = [f"shard-{number}" for number in range(3)]
    asyncio.run(region.command("init", *(f"--shard={name}={region.url(name)}" for name in names)))
    bodies = folder / "bodies.ndjson"
    with bodies.open("wb") as file:
        for body in records.bodies(FIRST, int(count * CYCLE_S * rate_per_s), "v2"):
            file.write(body + b"\n")
    port = processes.free_port()
    command = ["-m", "fractal_lba_server", "serve", "--config"]
    command.append(str(server_files(folder, region.control_url, port)))
    job: dict[str, Any] = {
        "seconds": count * CYCLE_S, "rate_per_s": rate_per_s, "connections": CONNECTIONS,
        "keep_waits": True, "until": str(folder / "ended"),
    }  # fmt: skip
    with (
        processes.running(command, port, cores=processes.SERVER_CORE, path="/healthz"),
        ThreadPoolExecutor(1) as pool,
    ):
        sending = pool.submit(processes.load, port, bodies, **job)
        os.sched_setaffinity(0, {int(processes.LOAD_CORE)})
        done = asyncio.run(migrations(region, count))
        (folder / "ended").touch()
        found = sending.result()
    tell(found, done, rate_per_s)


def tell(found: dict[str, Any], done: list[dict[str, Any]], rate_per_s: int) -> None:
    """Print the table."""
    waits = found["waits"]
    cut = [w for one in done for w in around(waits, one["began"], one["ended"])]
    idle = [w for one in done for w in around(waits, one["idle_began"], one["idle_ended"])]
    worst = [max(around(waits, one["began"], one["ended"])) for one in done]
    row(f"cutovers 3 -> 4 and back over HTTP, at {rate_per_s}/s", f"{len(done)}")
    row("records, of them with an error", f"{found['requests']}, 0")
    row("wait of the records around a cutover, p50 / p99", _both(cut))
    row("the same around a command that changes nothing", _both(idle))
    row("longest wait per cutover, median / worst", f"{at(worst, 0.5):.1f} / {max(worst):.1f} ms")
    row("wait of every record, p50 / p99", f"{found['p50_ms']:.1f} / {found['p99_ms']:.1f} ms")


def _both(waits: list[float]) -> str:
    return f"{at(waits, 0.5):.1f} / {at(waits, 0.99):.1f} ms"


def main() -> None:
    """Measure in a folder of its own."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--cutovers", type=int, default=20)
    parser.add_argument("--rate", type=int, default=2_000)
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        measure(Path(folder), given.cutovers, given.rate)


if __name__ == "__main__":
    main()
