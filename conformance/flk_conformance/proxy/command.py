"""Command `proxy`: stand between a client and a server, record and judge what is exchanged."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from pathlib import Path

from ..places import MissingError, root_of
from .assertions import Expected, assess, grouped
from .faults import FaultsError, load_faults
from .service import Proxy, Settings

OK, VIOLATED, USAGE, NOT_STARTED = range(4)


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the options."""
    parser.add_argument("--upstream", required=True, metavar="URL")
    parser.add_argument("--spec", type=Path, metavar="openapi.yaml")
    parser.add_argument("--record", required=True, type=Path, metavar="run.ndjson")
    parser.add_argument("--listen", type=int, default=0, metavar="PORT", help="0 chooses one")
    parser.add_argument("--faults", type=Path, metavar="FILE", help="delay, lost, cut, status")
    parser.add_argument("--enforce", action="store_true", help="end at the first violation")
    parser.add_argument(
        "--secrets", type=Path, action="append", default=[], metavar="FILE",
        help="a key or a token that must be nowhere",
    )  # fmt: skip
    parser.add_argument(
        "--coverage", action="store_true", help="require each operation and documented status"
    )
    parser.add_argument(
        "--virtual-clock", action="store_true", help="clients do not wait in real time"
    )


def execute(options: argparse.Namespace) -> int:
    """Run until a signal, or the first violation with --enforce; then assess the record."""
    try:
        spec = options.spec or root_of("spec/openapi.yaml") / "spec" / "openapi.yaml"
        faults = load_faults(options.faults) if options.faults else None
    except (FaultsError, MissingError) as error:
        return _say(str(error), USAGE)
    clock = "virtual" if options.virtual_clock else "real"
    settings = Settings(
        options.upstream, spec, options.record, faults, tuple(options.secrets), clock
    )
    ended = threading.Event()

    def violated(text: str) -> None:
        sys.stderr.write(f"{text}\n")
        if options.enforce:
            ended.set()

    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: ended.set())
    proxy = Proxy(settings, on_violation=violated)
    try:
        proxy.start(options.listen)
    except (OSError, ValueError) as error:
        return _say(f"the proxy cannot start: {error}", NOT_STARTED)
    sys.stdout.write(f"listening on {proxy.url}, upstream {options.upstream}\n")
    sys.stdout.flush()
    ended.wait()
    proxy.stop()
    found = assess(options.record, spec, Expected(coverage=options.coverage))
    for text in grouped(found.violations):
        sys.stdout.write(f"{text}\n")
    sys.stdout.write(found.summary() + "\n")
    return VIOLATED if found.violations else OK


def _say(text: str, code: int) -> int:
    sys.stderr.write(f"flk-conformance: {text}\n")
    return code
