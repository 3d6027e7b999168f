"""Where runs are played: in this process, in processes of this machine, or on a Dask cluster.

The invariant of this file: it moves chunks and gives back what they gave, in any order; no
outcome depends on where it was made. An executor that is left by an interrupt leaves nothing
running behind.
"""

from __future__ import annotations

import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from importlib import import_module
from types import TracebackType
from typing import Any, Final, Protocol, Self

from .playing import Chunk, Refusal, play_chunk
from .versions import all_versions

QUEUED_PER_JOB: Final = 2
"""Chunks handed out before they can start: enough that no worker waits, few enough to stop."""

CONNECT_S: Final = 10
"""How long a scheduler may take to answer."""


Played = list[str] | Refusal
"""The outcomes of a chunk in the order of its seeds, or why there are none."""


class ExecutorError(Exception):
    """Runs could not be played there; the message says where and why."""


class Executor(Protocol):
    """Plays chunks."""

    jobs: int
    """How many chunks are played at once."""

    def __enter__(self) -> Self:
        """Start; leaving stops, and after an exception at once."""
        ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None: ...

    def play(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Played]]:
        """Give each chunk with its outcomes, as they are ready."""
        ...


class Serial:
    """Plays in this process."""

    jobs = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Nothing was started."""

    def play(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Played]]:
        """Play one chunk after the other."""
        for chunk in chunks:
            yield chunk, play_chunk(chunk)


@contextmanager
def _deaf_to_interrupts() -> Iterator[None]:
    """Start processes that an interrupt of the terminal does not reach: the parent ends them."""
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


class Processes:
    """Plays in processes of this machine, which start clean and share no state."""

    def __init__(self, jobs: int, *, preload: Sequence[str] = ()) -> None:
        self.jobs = jobs
        # A fork of a process with threads may lock up; the fork server has none when it forks.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["fractal_lba_sim.playing", *preload])
        self._others = set(multiprocessing.active_children())
        self._pool = ProcessPoolExecutor(jobs, mp_context=context)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None:
            for process in set(multiprocessing.active_children()) - self._others:
                process.terminate()
        self._pool.shutdown(wait=True, cancel_futures=True)

    def play(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Played]]:
        """Keep every worker busy; a worker that dies is an ExecutorError."""
        waiting = iter(chunks)
        pending: dict[Future[Played], Chunk] = {}
        while True:
            while len(pending) < self.jobs * QUEUED_PER_JOB:
                chunk = next(waiting, None)
                if chunk is None:
                    break
                with _deaf_to_interrupts():
                    pending[self._pool.submit(play_chunk, chunk)] = chunk
            if not pending:
                return
            done, _ = wait(pending, return_when=FIRST_COMPLETED)
            for future in done:
                chunk = pending.pop(future)
                try:
                    made = future.result()
                except BrokenProcessPool:
                    first, last = chunk.seeds[0], chunk.seeds[-1]
                    message = f"a worker died while it played the seeds {first} to {last}"
                    raise ExecutorError(message) from None
                yield chunk, made


class Dask:
    """Plays on a Dask cluster whose workers have the same versions as this process."""

    def __init__(self, address: str, *, versions: dict[str, str]) -> None:
        try:
            self._distributed: Any = import_module("distributed")
        except ImportError:
            message = "--executor dask needs the extra dask: pip install 'fractal-lba-sim[dask]'"
            raise ExecutorError(message) from None
        try:
            self._client: Any = self._distributed.Client(
                address, timeout=CONNECT_S, set_as_default=False
            )
        except (OSError, ValueError) as error:
            message = f"no Dask scheduler answers at {address}: {error or type(error).__name__}"
            raise ExecutorError(message) from None
        self.jobs = sum(self._client.nthreads().values())
        if not self.jobs:
            self._client.close()
            message = f"the Dask scheduler at {address} has no workers"
            raise ExecutorError(message)
        self._refuse_other(versions)

    def _refuse_other(self, here: dict[str, str]) -> None:
        for worker, there in self._client.run(all_versions).items():
            for name, version in here.items():
                if there.get(name) != version:
                    self._client.close()
                    message = f"worker {worker} has {name} {there.get(name)}, here is {version}"
                    raise ExecutorError(message)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()

    def play(self, chunks: Sequence[Chunk]) -> Iterator[tuple[Chunk, Played]]:
        """Submit all chunks; the scheduler places them."""
        # Not pure: a worker that is asked again must play again, not remember.
        futures = {self._client.submit(play_chunk, chunk, pure=False): chunk for chunk in chunks}
        try:
            for future in self._distributed.as_completed(futures, loop=self._client.loop):
                yield futures[future], self._result_of(future, futures[future])
        finally:
            self._client.cancel([future for future in futures if not future.done()])

    def _result_of(self, future: Any, chunk: Chunk) -> Played:
        try:
            made: Played = future.result()
        except (self._distributed.KilledWorker, CancelledError) as error:
            first, last = chunk.seeds[0], chunk.seeds[-1]
            message = f"the cluster lost the seeds {first} to {last}: {type(error).__name__}"
            raise ExecutorError(message) from None
        return made


def executor(
    name: str, *, jobs: int = 1, scheduler: str | None = None, preload: Sequence[str] = ()
) -> Executor:
    """Make an executor by its name. Raises ExecutorError."""
    if name == "dask":
        if scheduler is None:
            message = "--executor dask needs --scheduler ADDRESS"
            raise ExecutorError(message)
        return Dask(scheduler, versions=all_versions())
    return Serial() if jobs == 1 else Processes(jobs, preload=preload)
