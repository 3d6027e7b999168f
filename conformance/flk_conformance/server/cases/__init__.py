"""The cases, by subject. Importing a module enters its cases into the list (`trial.CASES`)."""

from . import (
    batch,
    crash,
    gate,
    identity,
    methods,
    quota,
    reads,
    sockets,
    vectors,
    verdicts,
)

__all__ = [
    "batch", "crash", "gate", "identity", "methods", "quota", "reads", "sockets", "vectors",
    "verdicts",
]  # fmt: skip
