"""Carries out what the ingest machine decides, on one event loop.

Events go into `core/ingest.py`, effects come out and are carried out here: frames to the log,
look-ups to the index, signature checks to a thread pool, answers to whoever waits. No rule
about records stands in this file.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any

from fractal_lba.errors import SignatureError
from fractal_lba.sign import check_signature

from .core import ingest as machine
from .store.ring import RingLog
from .store.sqlite import Index
from .store.view import View
from .store.wal import Wal, WalFailed

Reply = Callable[[machine.Answer | machine.Refuse], None]

log = logging.getLogger("fractal_lba_server.ingest")


class Driver:
    """Binds one machine to one log, one index and one event loop; `bind` comes before all else."""

    def __init__(
        self,
        *,
        index: Index,
        pool: Executor,
        on_failure: Callable[[str], None],
        inbox: RingLog | None = None,
        rejects: RingLog | None = None,
        now_ns: Callable[[], int] = time.time_ns,
    ) -> None:
        self._index = index
        self._pool = pool
        self._on_failure = on_failure
        self._inbox = inbox
        self._rejects = rejects
        self._inbox_thread = ThreadPoolExecutor(1, thread_name_prefix="inbox") if inbox else None
        self._now_ns = now_ns
        self._loop = asyncio.get_running_loop()
        self._tokens = itertools.count(1)
        self._replies: dict[machine.Token, Reply] = {}
        self._arrived: list[machine.BodyReceived] = []
        self._frames: list[tuple[int, bytes]] = []
        self._idle = asyncio.Event()
        self._idle.set()
        self._failed = False
        self._carriers: dict[type, Callable[[Any], None]] = {
            machine.Answer: self._answer,
            machine.Refuse: self._answer,
            machine.Append: self._append,
            machine.Ask: self._ask,
            machine.CheckSignature: self._check_signature,
            machine.Apply: self._apply,
        }

    def bind(self, core: machine.Ingest, wal: Wal, view: View) -> None:
        """Name the machine, and the log and the view whose threads speak through `from_thread`."""
        self.core = core
        self._wal = wal
        self._view = view

    # --- in

    def from_thread(self, event: object) -> None:
        """Take an event from another thread."""
        self._loop.call_soon_threadsafe(self.feed, event)

    def feed(self, event: object) -> None:
        """Give the machine an event, and carry out what it says."""
        if type(event) is WalFailed:
            self._fail(event.reason)
            return
        for effect in self.core.on_event(event, self._now_ns()):
            self._carriers[type(effect)](effect)

    def submit(self, reply: Reply, body: bytes, **facts: Any) -> None:
        """Submit one record; `reply` is called once, now or later."""
        if self._failed:
            reply(machine.Refuse(0, "unavailable", "the write-ahead log failed"))
            return
        if not self._arrived:
            self._loop.call_soon(self._take_arrived)
        if self._rejects is not None:
            reply = partial(self._keep_refused, reply, body)
        self._arrived.append(machine.BodyReceived(self._token(reply), body, **facts))

    def _take_arrived(self) -> None:
        """Decide about all that one turn of the loop has read.

        One after the other they find the machine's code and data in the processor's caches; each
        by itself, between the work of two connections, takes a third longer.
        """
        arrived, self._arrived = self._arrived, []
        if self._inbox_thread is not None:
            self._inbox_thread.submit(self._keep_arrived, arrived)
            return
        self._decide_all(arrived)

    def _decide_all(self, arrived: list[machine.BodyReceived]) -> None:
        undecided = iter(arrived)
        event = None
        try:
            for event in undecided:
                self.feed(event)
            event = None
        finally:
            if event is not None:  # a defect, which costs one record its answer and no other
                refusal = machine.Refuse(event.token, "unavailable", "the record is undecided")
                self._answer(refusal)
                self._loop.call_soon(self._decide_all, list(undecided))

    def _keep_arrived(self, arrived: list[machine.BodyReceived]) -> None:
        """Make raw bodies durable before anybody reads them (`wal.before_parse`)."""
        assert self._inbox is not None
        try:
            self._inbox.append(
                [event.body for event in arrived], received_ns=self._now_ns(), sync=True
            )
        except OSError as error:
            log.error("the inbox cannot be written: %s", error)
            for event in arrived:
                refusal = machine.Refuse(event.token, "unavailable", "the inbox is not writable")
                self._loop.call_soon_threadsafe(self._answer, refusal)
            return
        self._loop.call_soon_threadsafe(self._decide_all, arrived)

    def _keep_refused(
        self, reply: Reply, body: bytes, result: machine.Answer | machine.Refuse
    ) -> None:
        """Keep the body of a refused record, for people to look at (`wal.rejects_bytes`)."""
        assert self._rejects is not None
        if type(result) is machine.Refuse and result.code != "unavailable":
            try:
                self._rejects.append([body], received_ns=self._now_ns(), sync=False)
            except OSError as error:
                log.warning("a refused body cannot be kept: %s", error)
        reply(result)

    def read(self, reply: Reply, tenant: str, pcs_id: str) -> None:
        """Ask for an outcome; `reply` is called once, now or later."""
        self.feed(machine.ReadRequested(self._token(reply), tenant, pcs_id))

    def closed(self) -> str | None:
        """Say why no record is taken now, or None."""
        if self._failed:
            return "the write-ahead log failed"
        return self.core.closed(self._now_ns())

    async def finished(self) -> None:
        """Wait until every request that was taken has its answer."""
        await self._idle.wait()

    def _token(self, reply: Reply) -> int:
        token = next(self._tokens)
        self._replies[token] = reply
        self._idle.clear()
        return token

    # --- out

    def _answer(self, effect: machine.Answer | machine.Refuse) -> None:
        reply = self._replies.pop(effect.token, None)
        if reply is None:  # it had its answer when the log failed
            return
        if not self._replies:
            self._idle.set()
        reply(effect)

    def _append(self, effect: machine.Append) -> None:
        if not self._frames:
            self._loop.call_soon(self._flush)
        self._frames.append((effect.seq, effect.frame))

    def _flush(self) -> None:
        frames, self._frames = self._frames, []
        self._wal.append(frames)

    def _ask(self, effect: machine.Ask) -> None:
        try:
            stored = self._index.lookup(effect.key)
        except sqlite3.Error as error:
            log.error("the index cannot answer: %s", error)
            self.feed(machine.StoreFailed(effect.key))
            return
        self.feed(machine.StoreAnswered(effect.key, stored))

    def _apply(self, effect: machine.Apply) -> None:
        self._view.put(effect)

    def _check_signature(self, effect: machine.CheckSignature) -> None:
        def run() -> None:
            error = None
            try:
                check_signature(effect.alg, effect.key, effect.digest, effect.sig)
            except SignatureError as found:
                error = found
            self.from_thread(machine.SignatureChecked(effect.token, error))

        self._pool.submit(run)

    def _fail(self, reason: str) -> None:
        """Answer 503 to everybody who waits, then end the process: nothing is certain now."""
        self._failed = True
        for token in list(self._replies):
            self._answer(machine.Refuse(token, "unavailable", "the write-ahead log failed"))
        self._on_failure(reason)
