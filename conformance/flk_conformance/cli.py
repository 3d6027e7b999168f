"""The command `flk-conformance`: reads the command line and loads the one part that is asked for.

`run` and `smoke` need the standard library alone; `fuzz`, `server`, `proxy` and `mutate` may need
the packages of an extra, and are loaded only when they are asked for.
"""

from __future__ import annotations

import argparse
import importlib
import io
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Final

from . import TOOL
from .places import MissingError
from .run import BROKEN, USAGE, UsageError
from .vectors import SelectionError, VectorsError
from .xfail import ListError

COMMANDS: Final = {
    "run": ("run", "put the vectors to a testee"),
    "smoke": ("smoke", "six cases, every message explained; begin here"),
    "fuzz": ("fuzz", "put generated cases to testees, judged by the oracle"),
    "server": ("server", "judge a server by its URL"),
    "proxy": ("proxy", "record and judge what goes between an SDK and a server"),
    "mutate": ("mutate", "show that every wrong implementation is caught"),
    "vectors": ("vector_files", "check, hash, cover and compare vector files"),
    "report": ("report", "make JUnit, Markdown and HTML from results.ndjson"),
}
"""The commands, each with the module that offers `add_arguments(parser)` and `run(options)`."""

TEMPLATE: Final = "usage: flk-conformance COMMAND [OPTIONS] [-- TESTEE ...]\n\n{}\n\n{}\n"
CODES: Final = (
    "exit codes: 0 as expected, 1 something unexpected, 2 wrong use, 3 the testee or server did\n"
    "not start or speaks no common protocol, 4 wrong vectors or the harness failed"
)


def usage() -> str:
    """Give the text of `--help`."""
    rows = [f"  {name:8} {about}" for name, (_, about) in COMMANDS.items()]
    return TEMPLATE.format("\n".join(rows), CODES)


def main(argv: Sequence[str] | None = None) -> int:
    """Run a command and give its exit code."""
    words = list(sys.argv[1:] if argv is None else argv)
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a terminal may know ASCII alone
    if not words or words[0] in ("-h", "--help"):
        sys.stdout.write(usage())
        return 0 if words else USAGE
    if words[0] == "--version":
        sys.stdout.write(f"{TOOL}\n")
        return 0
    if words[0] not in COMMANDS:
        return fail(f"no command is called {words[0]!r}\n{usage()}", USAGE)
    try:
        return command(words[0], words[1:], words)
    except (UsageError, SelectionError, ListError, MissingError) as error:
        return fail(str(error), USAGE)
    except VectorsError as error:
        return fail(str(error), BROKEN)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader has left
        return BROKEN
    except Exception as error:  # noqa: BLE001 - the end of the program: it is no verdict
        traceback.print_exc()
        return fail(f"the harness failed: {error}", BROKEN)


def command(name: str, words: list[str], argv: list[str]) -> int:
    """Load the module of a command, read its options and run it."""
    module_name, about = COMMANDS[name]
    try:
        module = importlib.import_module(f".{module_name}", __package__)
    except ModuleNotFoundError as error:
        own = error.name == f"{__package__}.{module_name}"
        what = "is not part of this package" if own else f"needs the package {error.name}"
        raise UsageError(f"{name} {what}; install flk-conformance[{name}]") from error
    parser = argparse.ArgumentParser(f"flk-conformance {name}", description=about)
    module.add_arguments(parser)
    cut = words.index("--") if "--" in words else len(words)
    try:
        options = parser.parse_args(words[:cut])
    except SystemExit as error:
        return USAGE if error.code else 0
    options.testee = words[cut + 1 :]
    options.argv = argv
    code: int = module.run(options)
    return code


def fail(message: str, code: int) -> int:
    """Say what went wrong, and give the code."""
    sys.stderr.write(f"flk-conformance: {message.rstrip()}\n")
    return code
