"""Run workers of the fuzzer in processes of their own."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator
from multiprocessing.connection import Connection
from typing import TypeVar

from .testee import StartError

T = TypeVar("T")


def spread(work: Callable[[int], T], jobs: int) -> Iterator[T]:
    """Do a numbered piece of work in each of several children. Raises what a child raised."""
    context = multiprocessing.get_context("fork")
    running = []
    for number in range(jobs):
        mine, theirs = context.Pipe(duplex=False)
        process = context.Process(target=_tell, args=(theirs, work, number))
        process.start()
        theirs.close()
        running.append((mine, process))
    for mine, process in running:
        try:
            found = mine.recv()
        except EOFError:
            found = RuntimeError("a process of the fuzzer ended")
        process.join()
        if isinstance(found, Exception):
            raise found
        yield found


def _tell(pipe: Connection, work: Callable[[int], T], number: int) -> None:
    try:
        pipe.send(work(number))
    except StartError as error:
        pipe.send(error)
