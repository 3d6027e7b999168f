"""Carries out what the ingest machine decides, on one event loop.

Events go into `core/ingest.py`, effects come out and are carried out here: frames to the log,
look-ups to the index, signature checks to a thread pool, answers to whoever waits. No rule
about records stands in this file.
"""

from __future__ import annotations

import asyncio
import itertools
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from functools import partial
from typing import Any

from fractal_lba.errors import SignatureError
from fractal_lba.sign import check_signature

from .core import ingest_events as events
from .core.facts import Facts
from .core.first_write import Apply, Key
from .core.ingest import Ingest
from .core.streams import Refusal
from .lookups import IndexLookups, Lookups
from .store.ring import RingLog
from .store.sqlite import Index
from .store.view import View
from .store.wal import Wal, WalEvent, WalFailed

Result = events.Answer | events.Refuse
Reply = Callable[[Result], None]
Merged = Callable[[tuple[int, ...]], None]
Forget = Callable[[Sequence[Key]], Awaitable[None]]

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
        self.lookups: Lookups = IndexLookups(index, self.feed)
        """Where ids are looked up; another kind takes its place before the first request."""
        self._pool = pool
        self._on_failure = on_failure
        self._inbox = inbox
        self._rejects = rejects
        self._inbox_thread = ThreadPoolExecutor(1, thread_name_prefix="inbox") if inbox else None
        self._now_ns = now_ns
        self._loop = asyncio.get_running_loop()
        self._tokens = itertools.count(1)
        self._replies: dict[events.Token, Reply] = {}
        self._arrived: list[events.BodyReceived] = []
        self._frames: dict[str, list[tuple[int, bytes]]] = {}
        self._merges: dict[events.Token, Merged] = {}
        self._timer: asyncio.TimerHandle | None = None
        self.forget: Forget | None = None
        """Makes faster tiers forget ids; None where there are none."""
        self._replaced: list[Key] = []
        self._forgetting: deque[events.ViewApplied] = deque()
        self._idle = asyncio.Event()
        self._idle.set()
        self._failed = False
        self._carriers: dict[type, Callable[[Any], None]] = {
            events.Answer: self._answer,
            events.Refuse: self._answer,
            events.Append: self._append,
            events.Ask: self._ask,
            events.CheckSignature: self._check_signature,
            Apply: self._apply,
            events.OpenEpoch: self._open_epoch,
            events.Release: self._release,
            events.PeerMerged: self._peer_merged,
            events.SetTimer: self._set_timer,
        }

    def bind(self, core: Ingest, wals: Mapping[str, Wal], view: View) -> None:
        """Name the machine, and the logs and the view whose threads speak through `from_thread`."""
        self.core = core
        self._wals = wals
        self._view = view

    # --- in

    def from_thread(self, event: object) -> None:
        """Take an event from another thread."""
        self._loop.call_soon_threadsafe(self.feed, event)

    def fail_from_thread(self, reason: str) -> None:
        """End the process, from another thread: nothing is certain now."""
        self._loop.call_soon_threadsafe(self._fail, reason)

    def rows_replaced(self, keys: list[Key]) -> None:
        """Note, in the view's thread, whose outcomes the index has replaced."""
        if keys:
            self._replaced += keys

    def from_view(self, event: events.ViewApplied) -> None:
        """Take an event from the view's thread."""
        self._loop.call_soon_threadsafe(self._view_applied, event)

    def _view_applied(self, event: events.ViewApplied) -> None:
        """Say that rows are in the index, once no faster tier holds what they replaced."""
        if self.forget is None or not (self._replaced or self._forgetting):
            self.feed(event)
            return
        self._forgetting.append(event)
        if len(self._forgetting) == 1:
            self._forget_task = asyncio.ensure_future(self._forget_all(self.forget))

    async def _forget_all(self, forget: Forget) -> None:
        while self._forgetting:
            keys, self._replaced = self._replaced, []
            await forget(keys)
            self.feed(self._forgetting.popleft())

    def from_log(self, placement: str, event: WalEvent) -> None:
        """Take an event from the thread of one stream's log."""
        if not isinstance(event, WalFailed):
            event = event._replace(placement=placement)
        self._loop.call_soon_threadsafe(self.feed, event)

    def take_peer_frames(self, frames: tuple[Facts, ...], merged: Merged) -> None:
        """Let frames of another region meet what stands here; `merged` is told which lost."""
        token = next(self._tokens)
        self._merges[token] = merged
        self.feed(events.PeerFrames(token, frames))

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
            reply(events.Refuse(0, "unavailable", "the write-ahead log failed"))
            return
        if not self._arrived:
            self._loop.call_soon(self._take_arrived)
        if self._rejects is not None:
            reply = partial(self._keep_refused, reply, body)
        self._arrived.append(events.BodyReceived(self._token(reply), body, **facts))

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

    def _decide_all(self, arrived: list[events.BodyReceived]) -> None:
        undecided = iter(arrived)
        event = None
        try:
            for event in undecided:
                self.feed(event)
            event = None
        finally:
            if event is not None:  # a defect, which costs one record its answer and no other
                refusal = events.Refuse(event.token, "unavailable", "the record is undecided")
                self._answer(refusal)
                self._loop.call_soon(self._decide_all, list(undecided))

    def _keep_arrived(self, arrived: list[events.BodyReceived]) -> None:
        """Make raw bodies durable before anybody reads them (`wal.before_parse`)."""
        assert self._inbox is not None
        try:
            self._inbox.append(
                [event.body for event in arrived], received_ns=self._now_ns(), sync=True
            )
        except OSError as error:
            log.error("the inbox cannot be written: %s", error)
            for event in arrived:
                refusal = events.Refuse(event.token, "unavailable", "the inbox is not writable")
                self._loop.call_soon_threadsafe(self._answer, refusal)
            return
        self._loop.call_soon_threadsafe(self._decide_all, arrived)

    def _keep_refused(self, reply: Reply, body: bytes, result: Result) -> None:
        """Keep the body of a refused record, for people to look at (`wal.rejects_bytes`)."""
        assert self._rejects is not None
        if type(result) is events.Refuse and result.code != "unavailable":
            try:
                self._rejects.append([body], received_ns=self._now_ns(), sync=False)
            except OSError as error:
                log.warning("a refused body cannot be kept: %s", error)
        reply(result)

    def read(self, reply: Reply, tenant: str, pcs_id: str) -> None:
        """Ask for an outcome; `reply` is called once, now or later."""
        self.feed(events.ReadRequested(self._token(reply), tenant, pcs_id))

    def closed(self) -> str | None:
        """Say why no record is taken now, or None."""
        refusal = self.refusal()
        return None if refusal is None else refusal.message

    def refusal(self) -> Refusal | None:
        """Say with which code no record is taken now, or None."""
        reason = "the write-ahead log failed" if self._failed else self.lookups.closed()
        if reason is not None:
            return Refusal("unavailable", reason)
        return self.core.refusal(self._now_ns())

    @property
    def waiting(self) -> int:
        """Count the requests that have no answer yet."""
        return len(self._replies)

    async def finished(self) -> None:
        """Wait until every request that was taken has its answer."""
        await self._idle.wait()

    def _token(self, reply: Reply) -> int:
        token = next(self._tokens)
        self._replies[token] = reply
        self._idle.clear()
        return token

    # --- out

    def _answer(self, effect: Result) -> None:
        reply = self._replies.pop(effect.token, None)
        if reply is None:  # it had its answer when the log failed
            return
        if not self._replies:
            self._idle.set()
        reply(effect)

    def _append(self, effect: events.Append) -> None:
        if not self._frames:
            self._loop.call_soon(self._flush)
        self._frames.setdefault(effect.placement, []).append((effect.seq, effect.frame))

    def _flush(self) -> None:
        waiting, self._frames = self._frames, {}
        for placement, frames in waiting.items():
            self._wals[placement].append(frames)

    def _open_epoch(self, effect: events.OpenEpoch) -> None:
        self._flush()
        self._wals[effect.placement].open_epoch(effect.region_epoch)

    def _ask(self, effect: events.Ask) -> None:
        self.lookups.ask(effect)

    def _release(self, effect: events.Release) -> None:
        self.lookups.release(effect.key)

    def _peer_merged(self, effect: events.PeerMerged) -> None:
        self._merges.pop(effect.token)(effect.displaced)

    def _set_timer(self, effect: events.SetTimer) -> None:
        if self._timer is not None:
            self._timer.cancel()
        delay_s = max(effect.at_ns - self._now_ns(), 0) / 1e9
        self._timer = self._loop.call_later(delay_s, self.feed, events.TimerFired())

    def _apply(self, effect: Apply) -> None:
        self.lookups.applied(effect)
        self._view.put(effect)

    def _check_signature(self, effect: events.CheckSignature) -> None:
        def run() -> None:
            error = None
            try:
                check_signature(effect.alg, effect.key, effect.digest, effect.sig)
            except SignatureError as found:
                error = found
            self.from_thread(events.SignatureChecked(effect.token, error))

        self._pool.submit(run)

    def _fail(self, reason: str) -> None:
        """Answer 503 to everybody who waits, then end the process: nothing is certain now."""
        self._failed = True
        for token in list(self._replies):
            self._answer(events.Refuse(token, "unavailable", "the write-ahead log failed"))
        self._on_failure(reason)
