"""Judge frames of other regions as the server does, and remember what was judged.

What `Replay.verify` says depends on the bytes of a frame, its origin, the directory and the
policies alone; the same frame is judged once for all regions that know the same.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Final

from fractal_lba_server.core.first_write import Origin
from fractal_lba_server.core.policy import Policy
from fractal_lba_server.core.replay import Replay, VerifiedFrame
from fractal_lba_server.core.segment import Frame
from fractal_lba_server.core.tenants import Directory

from .memory import MEMORY

JUDGED_MAX: Final = 1 << 16

_Judged = tuple[Directory, VerifiedFrame]
_judged: OrderedDict[tuple[object, ...], _Judged] = OrderedDict()


class MemoReplay(Replay):
    """The server's replay with a memory."""

    def __init__(
        self, *, directory: Callable[[], Directory], policy: Callable[[str], Policy | None]
    ) -> None:
        super().__init__(check=MEMORY.check, directory=directory, policy=policy)
        self._now_directory = directory

    def verify(self, frame: Frame, origin: Origin) -> VerifiedFrame:
        """Hold a frame against its own record; raises ReplayFault."""
        directory = self._now_directory()
        name = (frame.seq, frame.hlc, frame.meta, frame.body, frame.kind, origin, frame.offset)
        known = _judged.get(name)
        if known is not None and known[0] is directory and type(self) is MemoReplay:
            return known[1]
        judged = super().verify(frame, origin)
        if type(self) is MemoReplay:
            _judged[name] = (directory, judged)
            if len(_judged) > JUDGED_MAX:
                _judged.popitem(last=False)
        return judged
