"""Measure the server against its baselines and write docs/performance.md.

    python -m bench [--quick] [--resident N] [--write docs/performance.md]

Every figure is a ratio to a baseline of the same run, on two cores: one for the server, one for
the load. The rounds of what is compared are interleaved, and the median of the rounds counts.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import shutil
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

from fractal_lba.keys import check_signature, signature_text
from fractal_lba.sign import Ed25519Signer

from . import processes, records, report
from .disk import commit_p99_ms
from .resident import fill

BATCH = 100
BASE_RESIDENT = 10_000


class Bench:
    """One run: bodies made once, figures collected by name."""

    def __init__(self, folder: Path, *, seconds: float, rounds: int, connections: int) -> None:
        self.folder = folder
        self.seconds = seconds
        self.rounds = rounds
        self.connections = connections
        self.figures: dict[str, Any] = {}
        self._made: dict[tuple[str, int], Path] = {}
        self._next = 1
        secret = folder / "hmac.hex"
        secret.write_text(records.HMAC_KEY.hex())
        secret.chmod(0o600)
        self.tenants = folder / "tenants.yaml"
        self.tenants.write_text(records.tenants_yaml(str(secret)))

    def say(self, text: str) -> None:
        print(text, file=sys.stderr, flush=True)

    def bodies(self, kind: str, count: int) -> Path:
        """Make records that were never sent before."""
        path = self.folder / f"{kind}-{self._next}.ndjson"
        with path.open("wb") as file:
            for body in records.bodies(self._next + 10**9, count, kind):
                file.write(body + b"\n")
        self._next += count
        return path

    def data(self, name: str, resident: int) -> Path:
        """Make a data directory that holds `resident` ids."""
        path = self.folder / name
        shutil.rmtree(path, ignore_errors=True)
        self.figures[f"{name}/fill"] = fill(path, resident)
        return path

    def rate(self, data: Path, kind: str, *, cores: str = "0", **job: Any) -> dict[str, Any]:
        """Submit records of one kind for a while; give the load's summary."""
        count = int(12_000 * job.get("seconds", self.seconds))
        bodies = self.bodies(kind, count)
        with processes.flk_server(data, self.tenants, cores=cores) as (port, pid):
            before = processes.cpu_s(pid)
            job = {"connections": self.connections, "seconds": self.seconds, **job}
            result = processes.load(port, bodies, **job)
            result["cpu_us"] = (processes.cpu_s(pid) - before) / result["requests"] * 1e6
            result["peak_rss_mb"] = processes.peak_rss_mb(pid)
        bodies.unlink()
        return result

    def echo_rate(self) -> float:
        bodies = self.bodies("v2", int(60_000 * self.seconds / 5))
        with processes.echo() as (port, _):
            result = processes.load(
                port, bodies, path="/", connections=self.connections, seconds=self.seconds
            )
        bodies.unlink()
        rate: float = result["per_s"]
        return rate

    # --- what is measured

    def shares_of_echo(self) -> None:
        """Measure single submits and batches as shares of the echo application."""
        data = self.data("base", BASE_RESIDENT)
        rounds: dict[str, list[float]] = {"echo": [], "v2": [], "v1": [], "batch": []}
        for number in range(self.rounds):
            self.say(f"round {number + 1} of {self.rounds}: echo, v2, v1, batch")
            rounds["echo"].append(self.echo_rate())
            rounds["v2"].append(self.rate(data, "v2")["per_s"])
            rounds["v1"].append(self.rate(data, "v1")["per_s"])
            batch = self.rate(
                data, "v2", path="/v1/pcs/batch", lines_per_request=BATCH, connections=4
            )
            rounds["batch"].append(batch["per_s"] * BATCH)
        self.figures["rounds"] = rounds
        self.figures["rates"] = {name: statistics.median(v) for name, v in rounds.items()}

    def ed25519(self) -> None:
        """Measure Ed25519 on two cores against the raw verify rate of one."""
        self.say("Ed25519")
        signer = Ed25519Signer(records.ED25519_SEED, kid="e1")
        digest = sha256(b"digest").digest()
        sig = signature_text(signer.sign(digest))
        start, count = time.perf_counter(), 0
        while time.perf_counter() - start < 2.0:
            check_signature("Ed25519", signer.public_key, digest, sig)
            count += 1
        raw = count / (time.perf_counter() - start)
        data = self.data("ed25519", BASE_RESIDENT)
        served = self.rate(data, "ed25519", cores="0,1")
        self.figures["ed25519"] = {"raw_per_s": raw, "served_per_s": served["per_s"]}

    def resident(self, ids: int) -> None:
        """Measure the rate and the memory with many ids resident."""
        self.say(f"{ids} resident ids (this fills an index first)")
        data = self.data("large", ids)
        small = [self.rate(self.folder / "base", "v2")["per_s"]]
        large = [self.rate(data, "v2")]
        small.append(self.rate(self.folder / "base", "v2")["per_s"])
        large.append(self.rate(data, "v2"))
        self.figures["resident"] = {
            "ids": ids,
            "small_per_s": statistics.mean(small),
            "large_per_s": statistics.mean(one["per_s"] for one in large),
            "peak_rss_mb": max(one["peak_rss_mb"] for one in large),
            "fill": self.figures["large/fill"],
        }
        shutil.rmtree(data)

    def latency(self) -> None:
        """Measure p99 at 70 % of the peak, open loop, against the bare commit loop."""
        self.say("latency at 70 % of the peak")
        data = self.data("latency", BASE_RESIDENT)
        peak = self.rate(data, "v2")["per_s"]
        before = commit_p99_ms(self.folder, frames_per_commit=32)
        result = self.rate(data, "v2", rate_per_s=0.7 * peak)
        after = commit_p99_ms(self.folder, frames_per_commit=32)
        self.figures["latency"] = {
            "peak_per_s": peak,
            "rate_per_s": 0.7 * peak,
            "p50_ms": result["p50_ms"],
            "p99_ms": result["p99_ms"],
            "commit_p99_ms": [before, after],
        }

    def stages(self) -> None:
        """Measure the steps of a record, and the whole by another clock."""
        self.say("stages")
        data = self.data("stages", BASE_RESIDENT)
        out = self.folder / "stages.json"
        bodies = self.bodies("v2", int(10_000 * self.seconds))
        with processes.flk_server(data, self.tenants, stages=out) as (port, pid):
            before = processes.cpu_s(pid)
            result = processes.load(
                port, bodies, connections=self.connections, seconds=self.seconds
            )
            time.sleep(1.5)  # the index follows within a second
            cpu_us = (processes.cpu_s(pid) - before) / result["requests"] * 1e6
        document = json.loads(out.read_text())
        count = result["requests"]
        self.figures["stages"] = {
            "steps_us": {step: ns / count / 1e3 for step, ns in document["steps_ns"].items()},
            "cpu_us": cpu_us - document["wrapping_ns"] / count / 1e3,
            "measured_with_wrapping_us": cpu_us,
            "records": count,
        }


def environment() -> dict[str, Any]:
    """Say what the figures were measured on."""
    model = next(
        (line.partition(":")[2].strip() for line in Path("/proc/cpuinfo").read_text().splitlines()
         if line.startswith("model name")), platform.machine(),
    )  # fmt: skip
    return {
        "cores": os.cpu_count(),
        "processor": model,
        "python": platform.python_version(),
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def main() -> None:
    """Run all benchmarks."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="short rounds; for trying it out")
    parser.add_argument("--resident", type=int, default=10**7, help="ids of the large index")
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--only", action="append", help="one benchmark by name; repeatable")
    parser.add_argument("--write", type=Path, help="write this Markdown page")
    args = parser.parse_args()
    if (os.cpu_count() or 1) < 2 or not shutil.which("taskset"):
        sys.exit("bench: needs two cores and taskset (Debian package util-linux)")
    seconds, rounds = (2.0, 1) if args.quick else (5.0, 3)
    with tempfile.TemporaryDirectory(prefix="flk-bench-", dir=".") as folder:
        bench = Bench(
            Path(folder).absolute(), seconds=seconds, rounds=rounds, connections=args.connections
        )
        runs: dict[str, Callable[[], None]] = {
            "shares": bench.shares_of_echo,
            "stages": bench.stages,
            "ed25519": bench.ed25519,
            "latency": bench.latency,
            "resident": lambda: bench.resident(args.resident),
        }
        for name, run in runs.items():
            if args.only is None or name in args.only:
                run()
        bench.figures["environment"] = environment()
        bench.figures["settings"] = {
            "connections": args.connections, "seconds": seconds, "rounds": rounds,
        }  # fmt: skip
    text = report.render(bench.figures)
    print(text)
    if args.write:
        args.write.write_text(text)


if __name__ == "__main__":
    main()
