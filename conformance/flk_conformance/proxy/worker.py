"""The judging process: takes exchanges from a pipe, judges them, writes the record.

It is a process of its own so that a validation, which takes milliseconds, never stands in the way
of a byte. For each exchange it answers on its standard output with one line: the number of
violations, and the first of them.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
from pathlib import Path
from typing import BinaryIO

from .. import TOOL
from .contract import RAW, SIDES, Contract, Violation
from .record import Raw, encoded, got_of, line_of, sent_of, unpack
from .secrets_seen import Secrets, read_secrets


class Judge:
    """Judges exchanges one by one and writes them down."""

    def __init__(self, contract: Contract, secrets: Secrets, out: BinaryIO) -> None:
        self._contract = contract
        self._secrets = secrets
        self._out = out
        self.exchanges = self.violations = 0

    def take(self, raw: Raw) -> list[Violation]:
        """Judge one exchange and write its line."""
        sent, got = sent_of(raw), got_of(raw)
        number, _, case, fault = raw[:4]
        sides = SIDES[1:] if case.startswith(RAW) else SIDES
        found = self._contract.judge(sent, None if fault == "status" else got, sides=sides)
        found += [one for one in self._secrets.find(sent, got) if one.side in sides]
        rows = [{**one.members(), "case": case, "exchange": number} for one in found]
        self.exchanges += 1
        self.violations += len(rows)
        self._out.write(encoded(line_of(raw, rows)))
        self._out.flush()
        return found


def main() -> int:
    """Judge until the pipe ends."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--spec", type=Path, required=True)
    parser.add_argument("--record", type=Path, required=True)
    parser.add_argument("--upstream", default="")
    parser.add_argument("--clock", default="real")
    parser.add_argument("--secrets", type=Path, action="append", default=[])
    options = parser.parse_args()
    contract = Contract(options.spec)
    with options.record.open("wb") as out:
        header = {
            "type": "header",
            "tool": TOOL,
            "upstream": options.upstream,
            "spec_sha256": hashlib.sha256(options.spec.read_bytes()).hexdigest(),
            "clock": options.clock,
        }
        out.write(encoded(header))
        judge = Judge(contract, read_secrets(options.secrets), out)
        while (raw := unpack(sys.stdin.buffer)) is not None:
            found = judge.take(raw)
            first = str(found[0]) if found else ""
            sys.stdout.write(json.dumps([raw[0], len(found), first]) + "\n")
            sys.stdout.flush()
        totals = {"exchanges": judge.exchanges, "violations": judge.violations}
        out.write(encoded({"type": "footer", **totals}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
