"""Fill an outbox, or finish what another one left: the Python part of `test_outbox_interchange`.

`outbox_child.py DIR URL [LEVEL]` opens the outbox in DIR, says what it found there as `found
ENTRIES DEAD` and `dead ID STATUS CODE BODY`, then reads lines: a record is kept and answered by
`kept ID`, `flush MS` is a flush and answered by `flushed ENTRIES DEAD`. Acknowledged entries are
told as `acknowledged ID`. With a level there is a read token, and counts of what is held stand
behind those of what is dead. If the outbox cannot be opened, the code of the error is all it says.
"""

from __future__ import annotations

import sys
from typing import Any

from fractal_lba import Client, HmacSigner
from fractal_lba.canonical import parse
from fractal_lba.errors import FractalLBAError
from fractal_lba.hooks import Hooks, OutboxEvent
from fractal_lba.spool import OutboxStats, open_outbox


def say(*words: Any) -> None:
    """Write one line at once."""
    sys.stdout.write(" ".join(map(str, words)) + "\n")
    sys.stdout.flush()


def hear(event: OutboxEvent) -> None:
    """Tell which entries are acknowledged."""
    if event.kind == "acknowledged":
        say("acknowledged", event.id)


def held(stats: OutboxStats, level: str) -> list[int]:
    """Count what is held, where a level asks for it."""
    return [stats.held] if level else []


def main(directory: str, url: str, level: str = "") -> None:
    """Open the outbox and do what the lines say."""
    options: dict[str, Any] = {"durability": level, "token": "t"} if level else {}
    try:
        box = open_outbox(directory, background=False)
    except FractalLBAError as error:
        say(error.code)
        return
    stats = box.stats()
    say("found", stats.entries, stats.dead, *held(stats, level))
    for letter in box.dead():
        say("dead", letter.id, letter.status, letter.code, letter.letter.body.hex())
    signer = HmacSigner(bytes(range(32)), kid="k1")
    with (
        box,
        Client(
            url,
            signer=signer,
            tenant="acme",
            outbox=box,
            hooks=Hooks(on_outbox=hear),
            **options,
        ) as c,
    ):
        for line in sys.stdin:
            if line.startswith("flush"):
                stats = c.flush(int(line.split()[1]) / 1000)
                say("flushed", stats.entries, stats.dead, *held(stats, level))
            else:
                say("kept", c.enqueue(parse(line.encode())))


if __name__ == "__main__":
    main(*sys.argv[1:])
