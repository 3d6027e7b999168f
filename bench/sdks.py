"""Measure the three SDKs and the harness, and write docs/performance-sdks.md.

    python -m bench.sdks [--write docs/performance-sdks.md]

Every language signs the same record with its own program; what a signature costs is a ratio to
plain JSON and HMAC of that record in the same run. Go, Node and the built packages must be there:
`nox -s bench-sdks` sees to it.
"""

from __future__ import annotations

import argparse
import hmac
import json
import os
import platform
import re
import subprocess
import sys
import time
from base64 import b64encode
from collections.abc import Callable
from pathlib import Path

from bench.report import TITLE_SDKS
from fractal_lba import HmacSigner, Record, RetryPolicy
from fractal_lba.retry import Result, plan
from fractal_lba.sign import sign

ROOT = Path(__file__).resolve().parents[1]
ROUNDS = 30
CALLS = 300
REPEATS = 40
"""How often each vector of the number suite is asked for a rate."""

RECORD = Record(
    shard_id="shard-001", epoch=7, sent_at="2026-01-15T12:00:00Z", merkle_root="c3" * 32,
    scales=(2, 4, 8, 16), N_j={"2": 4, "4": 16, "8": 64, "16": 256}, D_hat=2.0, coh_star=0.5,
    v_star=(0.6, 0.8), r=0.5, regime="mixed", budget=0.35,
)  # fmt: skip
KEY = bytes(range(32))
LANGUAGES = ("Python", "Go", "TypeScript")
WANTED: dict[str, dict[str, float]] = {
    "v1_us": {"Python": 15, "Go": 5, "TypeScript": 10},
    "ratio": {"Python": 2, "Go": 1.5, "TypeScript": 2.5},
    "v2_ratio": {"Python": 8, "Go": 5, "TypeScript": 5},
    "plans": {"Python": 1e5, "Go": 1e6, "TypeScript": 1e6},
    "pipelined": {"Python": 15e3, "Go": 50e3, "TypeScript": 50e3},
    "lock_step": {"Python": 20e3, "Go": 20e3, "TypeScript": 20e3},
}
BUDGETS = {
    "full client": 6_144, "./sign": 2_048, "./verify": 4_096, "./outbox-node": 3_072,
    "./otel": 1_024,
}  # fmt: skip
"""Bytes that were asked for; the last two are what they add to a client."""

Costs = dict[str, float]


def best_us(ways: dict[str, Callable[[], object]]) -> Costs:
    """Time what is compared in turns, and keep the best round of each."""
    best = dict.fromkeys(ways, float("inf"))
    for _ in range(ROUNDS):
        for name, way in ways.items():
            begun = time.perf_counter_ns()
            for _ in range(CALLS):
                way()
            best[name] = min(best[name], (time.perf_counter_ns() - begun) / CALLS / 1000)
    return best


def python_costs() -> Costs:
    signer, members = HmacSigner(KEY, kid="k1"), RECORD.to_dict()
    failed = Result(status=503)

    def plain() -> bytes:
        return b64encode(hmac.digest(KEY, json.dumps(members).encode(), "sha256"))

    return best_us(
        {
            "plain": plain,
            "v1": lambda: sign(RECORD, signer, sig_version=1),
            "v2": lambda: sign(RECORD, signer, tenant="acme"),
            "plan": lambda: plan(RetryPolicy.default, failed, 1, 0.5, 0, 60_000, 500, False),
        }
    )


def output(*command: str, folder: str) -> str:
    done = subprocess.run(
        command, cwd=ROOT / folder, capture_output=True, text=True, check=True,
        env={**os.environ, "GOWORK": "off", "PYTHON": sys.executable},
    )  # fmt: skip
    return done.stdout


def go_costs() -> Costs:
    bench = ("-bench", "SignV1$|PlainJSONHMAC$|SignV2$|Plan$", "-benchtime", "0.3s", "-count", "5")
    text = output("go", "test", "-run", "^$", *bench, ".", folder="sdk-go")
    best: Costs = {}
    names = {"SignV1": "v1", "PlainJSONHMAC": "plain", "SignV2": "v2", "Plan": "plan"}
    for name, ns in re.findall(
        r"^Benchmark(\w+?)(?:-\d+)?\s+\d+\s+([\d.]+) ns/op", text, re.MULTILINE
    ):
        key = names[name]
        best[key] = min(best.get(key, float("inf")), float(ns) / 1000)
    return best


def ts_costs() -> Costs:
    text = output("node", "bench.mjs", folder="sdk-ts")
    found = dict(re.findall(r"^(\S[\w, ]+?) +([\d.]+) us$", text, re.MULTILINE))
    names = {
        "JSON and HMAC of node": "plain", "sign, version 1": "v1", "sign, version 2": "v2",
        "retry plan": "plan",
    }  # fmt: skip
    return {key: float(found[name]) for name, key in names.items()}


def cases_per_s(testee: str, *options: str) -> float:
    """Ask every number vector many times; start-up counts."""
    path = f"conformance/testees/{testee}/run"
    command = ("run", "--suite", "number", "--repeat", str(REPEATS), *options, "--", path)
    text = output(sys.executable, "-m", "flk_conformance", *command, folder=".")
    found = re.search(r"([\d,]+) pass in ([\d.]+) s", text)
    assert found, text
    return int(found[1].replace(",", "")) / float(found[2])


def bundles() -> list[tuple[str, int, int]]:
    """Give entry, bytes and budget of each bundle, as the test of sizes measures them."""
    text = output("node", "--test", "build/tests/size.test.js", folder="sdk-ts")
    sizes = re.findall(r"^\S ([^:]+): (\d+) bytes$", text, re.MULTILINE)
    return [(name, int(size), BUDGETS[name.split(" beside")[0]]) for name, size in sizes]


def verdict(figure: float, wanted: float, *, least: bool) -> str:
    good = figure >= wanted if least else figure <= wanted
    return "met" if good else "**not met**"


def table(title: str, costs: dict[str, Costs], rates: dict[str, Costs]) -> list[str]:
    rows = [title, "", "| | " + " | ".join(LANGUAGES) + " |", "| --- | --- | --- | --- |"]

    def row(name: str, key: str, give: Callable[[str], float], text: str, *, least: bool) -> None:
        cells = []
        for language in LANGUAGES:
            figure, wanted = give(language), WANTED[key][language]
            state = verdict(figure, wanted, least=least)
            cells.append(f"{text.format(figure)} (asked {text.format(wanted)}, {state})")
        rows.append(f"| {name} | " + " | ".join(cells) + " |")

    row("sign, version 1, us", "v1_us", lambda n: costs[n]["v1"], "{:.1f}", least=False)
    row("the same by plain JSON and HMAC", "ratio", lambda n: costs[n]["v1"] / costs[n]["plain"],
        "{:.2f}", least=False)  # fmt: skip
    row("version 2 by version 1", "v2_ratio", lambda n: costs[n]["v2"] / costs[n]["v1"], "{:.2f}",
        least=False)  # fmt: skip
    row("plans per second", "plans", lambda n: 1e6 / costs[n]["plan"], "{:,.0f}", least=True)
    row("cases per second, pipelined", "pipelined", lambda n: rates[n]["pipelined"], "{:,.0f}",
        least=True)  # fmt: skip
    row("cases per second, one at a time", "lock_step", lambda n: rates[n]["lock_step"], "{:,.0f}",
        least=True)  # fmt: skip
    return rows


def page() -> str:
    """Measure, and give the whole page."""
    costs = {"Python": python_costs(), "Go": go_costs(), "TypeScript": ts_costs()}
    rates = {
        language: {
            "pipelined": cases_per_s(testee),
            "lock_step": cases_per_s(testee, "--lock-step"),
        }
        for language, testee in zip(LANGUAGES, ("python", "go", "ts"), strict=True)
    }
    where = (
        f"Measured {time.strftime('%Y-%m-%d')}: {os.cpu_count()} cores, CPython "
        f"{platform.python_version()}, {output('go', 'version', folder='.').split()[2]}, Node "
        f"{output('node', '--version', folder='.').strip()}; load average before "
        f"{os.getloadavg()[0]:.2f}."
    )
    lines = [TITLE_SDKS, "", where, "", *table("## Cost of a signature", costs, rates), ""]
    lines += ["## Bundles, gzip -9 of the minified bundle for browsers", ""]
    lines += ["| entry | bytes | budget | |", "| --- | --- | --- | --- |"]
    for name, size, budget in bundles():
        lines.append(f"| {name} | {size:,} | {budget:,} | {verdict(size, budget, least=False)} |")
    return "\n".join(lines) + "\n"


def main() -> int:
    parser = argparse.ArgumentParser(description="Measure the three SDKs and the harness.")
    parser.add_argument("--write", type=Path, help="where the page goes; default: standard output")
    options = parser.parse_args()
    text = page()
    if options.write is None:
        sys.stdout.write(text)
    else:
        options.write.write_text(text, encoding="utf-8")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
