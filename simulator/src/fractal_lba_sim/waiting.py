"""Own how anything waits in simulated time: moments, turns at one desk, and giving up.

The invariant of this file: time is whole nanoseconds, nothing polls, and who gave up waiting is
never served. All of SimPy that the engines use is used here: its queue, and the order in it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from typing import Any, Final

import simpy
from simpy.events import NORMAL

NS_PER_MS: Final = 1_000_000
NS_PER_S: Final = 1_000_000_000

Call = Callable[..., object]


class Moment:
    """A call that will be made; `cancel` takes it back. It stands in SimPy's queue as an event."""

    __slots__ = ("args", "call")

    def __init__(self, call: Call, args: tuple[Any, ...]) -> None:
        self.call: Call | None = call
        self.args = args

    def cancel(self) -> None:
        """Take the call back, if it was not made yet."""
        self.call = None
        self.args = ()


class Agenda(simpy.Environment):
    """What happens when, in nanoseconds since the start of the run.

    Calls are made from here: an event of SimPy for each of them would cost as much as the call.
    """

    def __init__(self) -> None:
        super().__init__()
        self._calls: list[Any] = self._queue
        self._lines: dict[int, deque[tuple[int, int, int, Moment]]] = {}
        """By length: those that `give_up_after` made, in order; the first stands in the queue."""
        self._is_over = False
        self.now_ns = 0
        """The time since the start."""

    def after(self, delay_ns: int, call: Call, *args: Any) -> Moment:
        """Make a call after a while; of two at one moment the first that was asked for is first."""
        at_ns = self.now_ns
        if delay_ns > 0:
            at_ns += int(delay_ns)
        moment = Moment(call, args)
        heappush(self._calls, (at_ns, NORMAL, next(self._eid), moment))
        return moment

    def at(self, at_ns: int, call: Call, *args: Any) -> Moment:
        """Make a call at a moment, or now if it is past."""
        return self.after(at_ns - self.now_ns, call, *args)

    def give_up_after(self, delay_ns: int, call: Call, *args: Any) -> Moment:
        """Do as `after` does, for a call that is nearly always taken back.

        Those of one length come in the order in which they were asked for, so that a queue of
        their own costs less than a place in that of all.
        """
        moment = Moment(call, args)
        entry = (self.now_ns + delay_ns, NORMAL, next(self._eid), moment)
        line = self._lines.get(delay_ns)
        if line is None:
            line = self._lines[delay_ns] = deque()
            self._show(delay_ns, line, entry)
        line.append(entry)
        return moment

    def _show(self, delay_ns: int, line: deque[Any], entry: tuple[int, int, int, Moment]) -> None:
        """Have the queue hold the first of a line, in its own place."""
        heappush(self._calls, (*entry[:3], Moment(self._head, (delay_ns, line))))

    def _head(self, delay_ns: int, line: deque[tuple[int, int, int, Moment]]) -> None:
        """Make the first call of a line; the next that was not taken back comes to its place."""
        first = line.popleft()[3]
        while line and line[0][3].call is None:
            line.popleft()
        if line:
            self._show(delay_ns, line, line[0])
        else:
            del self._lines[delay_ns]
        call, first.call = first.call, None
        if call is not None:
            call(*first.args)

    def run(self, until: Any = None) -> None:
        """Let time pass until `stop`, or until nothing more will happen."""
        assert until is None
        calls = self._calls
        while calls and not self._is_over:
            at_ns, _, _, moment = heappop(calls)
            call = moment.call
            if call is not None:
                moment.call = None
                self._now = self.now_ns = at_ns
                call(*moment.args)

    def stop(self) -> None:
        """End the run at this moment, behind what is to be done in it already."""
        self.after(0, self._end)

    def _end(self) -> None:
        self._is_over = True


class Lane:
    """One thing at a time, in the order in which it was asked for: a disk, a wire, a processor."""

    def __init__(self, agenda: Agenda) -> None:
        self._agenda = agenda
        self._free_ns = 0

    def use(self, use_ns: int, done: Call, *args: Any) -> Moment:
        """Use it for so long when all before are done; then call. Who cancels still took his turn.

        A turn that was begun cannot be given back: a sync goes on when nobody waits for it.
        """
        return self._agenda.after(self.book(use_ns) - self._agenda.now_ns, done, *args)

    def book(self, use_ns: int) -> int:
        """Take the next turn of this length; give its end."""
        begin_ns = max(self._agenda.now_ns, self._free_ns)
        self._free_ns = begin_ns + use_ns
        return self._free_ns

    def clear(self) -> None:
        """Forget every turn: what stood in line is gone."""
        self._free_ns = min(self._free_ns, self._agenda.now_ns)


class Places:
    """A number of places; who finds none waits in line, and may give up."""

    def __init__(self, agenda: Agenda, count: int) -> None:
        self._agenda = agenda
        self._free = count
        self._line: deque[Moment] = deque()

    def enter(self, call: Call, *args: Any) -> Moment | None:
        """Take a place and call, now or later; a waiting one is given back to be cancelled."""
        if self._free:
            self._free -= 1
            call(*args)
            return None
        moment = Moment(call, args)
        self._line.append(moment)
        return moment

    def leave(self) -> None:
        """Give a place to the next in line who has not given up."""
        while self._line:
            moment = self._line.popleft()
            if moment.call is not None:
                self._agenda.after(0, moment.call, *moment.args)
                return
        self._free += 1


class Life:
    """One process: nothing of it happens after its end, and nothing while it is paused."""

    __slots__ = ("_held", "agenda", "ended", "paused")

    def __init__(self, agenda: Agenda) -> None:
        self.agenda = agenda
        self.ended = False
        self.paused = False
        self._held: list[tuple[Call, tuple[Any, ...]]] = []

    def run(self, call: Call, *args: Any) -> None:
        """Make a call of this process now, when it goes on, or never."""
        if self.ended:
            return
        if self.paused:
            self._held.append((call, args))
            return
        call(*args)

    def after(self, delay_ns: int, call: Call, *args: Any) -> Moment:
        """Make a call of this process after a while."""
        return self.agenda.after(delay_ns, self.run, call, *args)

    def end(self) -> None:
        """End it."""
        self.ended = True
        self._held.clear()

    def resume(self) -> None:
        """Let it go on, with what came meanwhile in its order."""
        self.paused = False
        held, self._held = self._held, []
        for place, (call, args) in enumerate(held):
            if self.paused or self.ended:
                self._held = held[place:] + self._held
                return
            call(*args)
