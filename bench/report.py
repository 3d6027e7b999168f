"""Write the figures of a run as docs/performance.md."""

# tidy: long because sentences with figures in them do not break well
from __future__ import annotations

from typing import Any

TITLE_SDKS = """# Performance of the SDKs

Written by `nox -s bench-sdks` (`python -m bench.sdks --write docs/performance-sdks.md`). Each SDK
signs the same record in its own program; what is compared is measured in turns in one run. A
ratio counts; an absolute time says little about another machine. *Cases* are those of the number
suite, the start of the program included."""

TARGETS = {
    "v2": ("single submit, HMAC, version 2", 0.22, "22 % (goal 30 %)"),
    "v1": ("single submit, HMAC, version 1", 0.27, "27 %"),
}


def _met(value: bool) -> str:
    return "met" if value else "**not met**"


def render(figures: dict[str, Any]) -> str:
    """Give the whole page."""
    where = figures["environment"]
    parts = [
        "# Performance",
        "",
        (
            "Written by `nox -s bench` (`python -m bench --write docs/performance.md`); nothing on "
            "this page is typed by hand below the first table of contents. Ratios compare what ran "
            "in one run; absolute rates say little about another machine."
        ),
        "",
        (
            f"Measured {where['date']}: {where['processor']}, {where['cores']} cores, CPython "
            f"{where['python']}; server pinned to one core, load to another, "
            f"{figures['settings']['connections']} connections, rounds of "
            f"{figures['settings']['seconds']:.0f} s, median of {figures['settings']['rounds']}."
        ),
        "",
    ]
    for name, section in _SECTIONS.items():
        if name in figures:
            parts += section(figures)
    return "\n".join(parts).rstrip() + "\n"


def _shares(figures: dict[str, Any]) -> list[str]:
    rates = figures["rates"]
    echo = rates["echo"]
    lines = [
        "## Durable submits as a share of a bare echo application on the same HTTP server",
        "",
        "| what | per second | share of echo | asked | |",
        "| --- | --- | --- | --- | --- |",
        f"| echo (plain ASGI) | {echo:,.0f} | 100 % | | |",
    ]
    for name, (text, least, asked) in TARGETS.items():
        share = rates[name] / echo
        lines.append(
            f"| {text} | {rates[name]:,.0f} | {share:.1%} | {asked} | {_met(share >= least)} |"
        )
    ratio = rates["batch"] / rates["v2"]
    lines += [
        (
            f"| batch of 100, version 2 | {rates['batch']:,.0f} | {ratio:.2f} x the single rate | "
            f"1.8 x (goal 2.5 x) | {_met(ratio >= 1.8)} |"
        ),
        "",
        "Rounds, per second: "
        + "; ".join(
            f"{name} {', '.join(f'{value:,.0f}' for value in values)}"
            for name, values in figures["rounds"].items()
        )
        + ".",
        "",
    ]
    return lines


def _stages(figures: dict[str, Any]) -> list[str]:
    stages = figures["stages"]
    total = sum(stages["steps_us"].values())
    measured = stages["cpu_us"]
    off = total / measured - 1
    rows = [f"| {step} | {us:.1f} |" for step, us in stages["steps_us"].items()]
    return [
        "## Where a record's time goes",
        "",
        (
            "Processor time per record (version 2, HMAC) in microseconds, from a run in which each "
            "step measures itself; the whole is that of the process by the system's clock."
        ),
        "",
        "| step | us |",
        "| --- | --- |",
        *rows,
        f"| sum of the steps | {total:.1f} |",
        f"| measured, less the cost of measuring | {measured:.1f} |",
        "",
        (
            f"The sum is {off:+.1%} off the measured cost (asked: within 10 %; "
            f"{_met(abs(off) <= 0.10)})."
        ),
        "",
    ]


def _ed25519(figures: dict[str, Any]) -> list[str]:
    ed = figures["ed25519"]
    share = ed["served_per_s"] / ed["raw_per_s"]
    return [
        "## Ed25519",
        "",
        (
            f"{ed['served_per_s']:,.0f} durable submits per second on two cores (which also carry the "
            f"load), {share:.1%} of the {ed['raw_per_s']:,.0f} bare verifications per second of one "
            f"core (asked: 45 %; {_met(share >= 0.45)})."
        ),
        "",
    ]


def _resident(figures: dict[str, Any]) -> list[str]:
    large = figures["resident"]
    ratio = large["large_per_s"] / large["small_per_s"]
    filled = large["fill"]
    return [
        "## Many resident ids",
        "",
        (
            f"With {large['ids']:,} ids: {large['large_per_s']:,.0f} per second, {ratio:.1%} of the "
            f"{large['small_per_s']:,.0f} with 10,000 (asked: 70 %; {_met(ratio >= 0.70)}); peak "
            f"resident memory {large['peak_rss_mb']:,.0f} MB (asked: at most 512; "
            f"{_met(large['peak_rss_mb'] <= 512)}). The index was filled offline at "
            f"{filled['per_s']:,.0f} ids per second and takes {filled['bytes'] / 1e9:.2f} GB, "
            f"{filled['bytes'] / filled['ids']:,.0f} bytes per id."
        ),
        "",
    ]


def _latency(figures: dict[str, Any]) -> list[str]:
    latency = figures["latency"]
    before, after = latency["commit_p99_ms"]
    bound = 4 * max(before, after)
    return [
        "## Latency",
        "",
        (
            f"Open loop at {latency['rate_per_s']:,.0f} per second (70 % of the peak of "
            f"{latency['peak_per_s']:,.0f}), from the scheduled time: p50 {latency['p50_ms']:.2f} ms, "
            f"p99 {latency['p99_ms']:.2f} ms. A bare group-commit loop (32 frames, pwrite and "
            f"fdatasync) just before and after: p99 {before:.2f} and {after:.2f} ms; four times the "
            f"larger is {bound:.2f} ms ({_met(latency['p99_ms'] <= bound)})."
        ),
        "",
    ]


_SECTIONS = {
    "rates": _shares,
    "stages": _stages,
    "ed25519": _ed25519,
    "resident": _resident,
    "latency": _latency,
}
