"""One checker: probes every region, and gives the arbiter its opinion (core/health.py).

A probe asks the public listener for `/readyz`, whether it takes records, and for `/healthz`,
whether it lives; only 200 in time is good. Each has a thread, so that one that hangs delays no
other. A vote goes out when an opinion changes, and each interval: a probe changes its opinion at
most once an interval, and what changes while a vote is under way goes out in one.
"""

from __future__ import annotations

import signal
import socket
import ssl
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Final
from urllib.parse import SplitResult, urlsplit

from .core.health import NS_PER_MS, Probe, ProbeRule
from .core.regions import Registry
from .net.peers import PeerTls
from .net.region_client import CallRefusedError, UnreachableError, call
from .steady_clock import steady_ns

VOTE_S: Final = 1.0
"""How long the arbiter may take to hear a vote."""

STATUS_LINE_BYTES: Final = 13
"""`HTTP/1.1 200 ` is all that a probe reads."""


class Checker:
    """The probes of one checker."""

    def __init__(
        self,
        registry: Registry,
        name: str,
        arbiter_url: str,
        *,
        rule: ProbeRule,
        tls: PeerTls | None = None,
        region_ca: Path | None = None,
    ) -> None:
        self.regions = {
            code: info.endpoint for code, info in registry.regions.items() if not info.retired
        }
        self._name = name
        self._arbiter_url = arbiter_url
        self._rule = rule
        self._tls = tls
        self._context = ssl.create_default_context(cafile=region_ca)
        self._ready = {code: Probe(rule) for code in self.regions}
        self._alive = {code: Probe(rule) for code in self.regions}
        self._changed = threading.Event()
        """An opinion is not what the last vote said."""
        self._ended = threading.Event()

    def run(self, *, ready: Callable[[], None] = lambda: None) -> None:
        """Probe and vote until SIGTERM or SIGINT."""
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: self._ended.set())
        self.start()
        ready()
        self._ended.wait()

    def start(self) -> None:
        """Begin to probe and vote, in threads that last until `end`."""
        threads = [
            threading.Thread(target=self._watch, args=(code, path, probe), daemon=True)
            for path, probes in (("/readyz", self._ready), ("/healthz", self._alive))
            for code, probe in probes.items()
        ]
        for thread in [*threads, threading.Thread(target=self._tell, daemon=True)]:
            thread.start()

    def end(self) -> None:
        """Stop probing and voting."""
        self._ended.set()
        self._changed.set()

    def vote(self) -> bool:
        """Tell the arbiter what is up; false where it did not hear."""
        document = {
            "checker": self._name,
            "ready": {code: probe.up for code, probe in self._ready.items()},
            "alive": {code: probe.up for code, probe in self._alive.items()},
        }
        try:
            call(
                self._arbiter_url, "POST", "/arbiter/v1/vote", document,
                tls=self._tls, timeout_s=VOTE_S,
            )  # fmt: skip
        except (UnreachableError, CallRefusedError):
            return False
        return True

    def probe(self, code: str, path: str = "/readyz") -> bool:
        """Ask one region; one limit for all of it."""
        parts = urlsplit(self.regions[code])
        deadline = time.monotonic() + self._rule.timeout_ms / 1_000
        try:
            with self._connected(parts, deadline) as sock:
                head = f"GET {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nConnection: close\r\n\r\n"
                sock.sendall(head.encode())
                found = b""
                while len(found) < STATUS_LINE_BYTES:
                    sock.settimeout(max(deadline - time.monotonic(), 0.001))
                    more = sock.recv(STATUS_LINE_BYTES - len(found))
                    if not more or time.monotonic() > deadline:
                        return False
                    found += more
        except (OSError, ValueError):
            return False
        return found[:7] == b"HTTP/1." and found[8:] == b" 200 "

    def _connected(self, parts: SplitResult, deadline: float) -> socket.socket:
        host = parts.hostname or ""
        port = parts.port or (443 if parts.scheme == "https" else 80)
        sock = socket.create_connection((host, port), timeout=deadline - time.monotonic())
        if parts.scheme == "http":
            return sock
        sock.settimeout(max(deadline - time.monotonic(), 0.001))
        return self._context.wrap_socket(sock, server_hostname=host)

    def _watch(self, code: str, path: str, probe: Probe) -> None:
        interval_ns = self._rule.interval_ms * NS_PER_MS
        next_ns = steady_ns()
        while not self._ended.is_set():
            ok = self.probe(code, path)
            if probe.heard(ok, steady_ns()):
                self._changed.set()
            next_ns = max(next_ns + interval_ns, steady_ns())
            self._ended.wait((next_ns - steady_ns()) / 1e9)

    def _tell(self) -> None:
        while True:
            self._changed.wait(self._rule.interval_ms / 1_000)
            self._changed.clear()
            if self._ended.is_set():
                return
            self.vote()
