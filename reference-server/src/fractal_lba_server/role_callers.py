"""Carry questions to the arbiter and to peers, one thread each, so that a slow one delays no other.

A caller has one question under way and keeps only the newest that waits: an older one would be
answered too late to be of use.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, Final, NamedTuple

from .core import lease, roles
from .core.lease import NotLeader, Promoted
from .net.arbiter_app import answer_of
from .net.peers import PeerTls
from .net.region_client import CallRefusedError, UnreachableError, call

CALL_S: Final = 1.0
"""How long one question may take; a lease outlasts several."""

Work = Callable[[], None]


class ArbiterAddress(NamedTuple):
    """Where the arbiter is, and what we show to it."""

    url: str
    tls: PeerTls | None = None


class Caller:
    """One thread that carries out the newest work of each kind."""

    def __init__(self, name: str) -> None:
        self._waiting: dict[str, Work] = {}
        self._wake = threading.Condition()
        self._ended = False
        self._thread = threading.Thread(target=self._run, name=f"role-{name}", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def put(self, kind: str, work: Work) -> None:
        """Let `work` be done, in place of older work of its kind that still waits."""
        with self._wake:
            self._waiting[kind] = work
            self._wake.notify()

    def end(self, wait_s: float) -> None:
        """Do nothing more."""
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._thread.join(wait_s)

    def _run(self) -> None:
        while True:
            with self._wake:
                self._wake.wait_for(lambda: self._waiting or self._ended)
                if self._ended:
                    return
                work = self._waiting.pop(next(iter(self._waiting)))
            work()


class Arbiter:
    """What a region asks of the arbiter."""

    def __init__(self, address: ArbiterAddress, region: str, process: str) -> None:
        self._address = address
        self._region = region
        self._process = process

    def ask(self, placement: str, asked: roles.AskArbiter) -> object | None:
        """Ask for a lease; give the event, or None where no answer came."""
        try:
            answer = self._post("lease", placement, asked.region_epoch, number=asked.number)
        except (UnreachableError, CallRefusedError, ValueError):
            return None
        return roles.ArbiterSaid(asked.number, answer)

    def give(self, placement: str, given: roles.GiveTo) -> object:
        """Release our lease and have another promoted; give the event."""
        try:
            answer = self._post(
                "hand-over", placement, given.region_epoch, number=given.number, to=given.region
            )
        except (UnreachableError, CallRefusedError, ValueError):
            return roles.HandOverFailed()
        if isinstance(answer, Promoted):
            return roles.ArbiterSaid(given.number, NotLeader(answer.region_epoch, None))
        return roles.HandOverFailed()

    def promote(self, placement: str, region: str | None, seen_epoch: int) -> lease.Answer:
        """Have us promoted, or with None whoever writes fenced; errors leave as they are."""
        document = {"region": region, "region_epoch": seen_epoch}
        path = f"/arbiter/v1/promote/{placement}"
        return answer_of(self._call(path, document))

    def _post(self, kind: str, placement: str, region_epoch: int, **more: Any) -> lease.Answer:
        document = {
            "region": self._region, "region_epoch": region_epoch, "process": self._process, **more,
        }  # fmt: skip
        return answer_of(self._call(f"/arbiter/v1/{kind}/{placement}", document))

    def _call(self, path: str, document: dict[str, Any]) -> dict[str, Any]:
        address = self._address
        return call(address.url, "POST", path, document, tls=address.tls, timeout_s=CALL_S)


class Peer:
    """What a region asks of another region of its placement."""

    def __init__(self, code: str, url: str, tls: PeerTls | None) -> None:
        self._code = code
        self._url = url
        self._tls = tls

    def ask(self, placement: str, asked: roles.AskPeer) -> object | None:
        """Tell our epoch, and hear what the peer is and holds."""
        document = {
            "placement": placement, "region_epoch": asked.region_epoch, "leader": asked.leader,
        }  # fmt: skip
        try:
            said = self._call(document)
            stored = {str(code): int(seq) for code, seq in dict(said["stored"]).items()}
            leader = said["leader"]
            return roles.PeerSaid(
                self._code, str(said["role"]), int(said["region_epoch"]),
                None if leader is None else str(leader), stored,
            )  # fmt: skip
        except (UnreachableError, CallRefusedError, KeyError, TypeError, ValueError):
            return None

    def give(self, placement: str, given: roles.GiveTo) -> object | None:
        """Ask the peer to take over; it will ask us to follow."""
        try:
            self._call({"placement": placement, "take": given.region_epoch})
        except (UnreachableError, CallRefusedError):
            return roles.HandOverFailed()
        return None

    def _call(self, document: dict[str, Any]) -> dict[str, Any]:
        names = self._code if self._tls is not None else None
        return call(
            self._url, "POST", "/peer/v1/role", document,
            tls=self._tls, names_region=names, timeout_s=CALL_S,
        )  # fmt: skip
