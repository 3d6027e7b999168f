"""Send requests over many connections from one process, closed loop or on a schedule.

A program of its own: `python -m bench.load` reads a job as JSON from standard input and prints
what it saw as JSON, so that it can be pinned to a core that the server does not use.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque
from pathlib import Path
from typing import Any

LOOK_EVERY = 50
"""Requests between two looks whether to end."""


class _Connection:
    __slots__ = ("buffer", "since", "sock")

    def __init__(self, port: int) -> None:
        self.sock = socket.create_connection(("127.0.0.1", port))
        self.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sock.setblocking(False)
        self.buffer = b""
        self.since = 0.0

    def send(self, data: bytes) -> None:
        while data:
            try:
                data = data[self.sock.send(data) :]
            except BlockingIOError:
                select.select([], [self.sock], [])

    def answer(self) -> bytes | None:
        """Read; give the status of an answer once it is whole."""
        try:
            data = self.sock.recv(1 << 20)
        except BlockingIOError:
            return None
        if not data:
            raise ConnectionError("the server closed a connection")
        buffer = self.buffer + data if self.buffer else data
        head = buffer.find(b"\r\n\r\n")
        if head >= 0:
            at = buffer.find(b"content-length: ") + 16
            size = int(buffer[at : buffer.find(b"\r", at)])
            if len(buffer) >= head + 4 + size:
                self.buffer = b""
                return buffer[9:12]
        self.buffer = buffer
        return None


def request(path: str, body: bytes, content_type: str) -> bytes:
    """Write one request; all that a client of the SDK sends that the server looks at."""
    return (
        f"POST {path} HTTP/1.1\r\nhost: 127.0.0.1\r\ncontent-type: {content_type}\r\n"
        f"x-tenant-id: bench\r\ncontent-length: {len(body)}\r\n\r\n"
    ).encode() + body


def _requests(job: dict[str, Any]) -> list[bytes]:
    lines = Path(job["bodies"]).read_bytes().split(b"\n")[:-1]
    size, path = job["lines_per_request"], job["path"]
    if size == 1:
        return [request(path, line, "application/json") for line in lines]
    return [
        request(path, b"\n".join(lines[i : i + size]) + b"\n", "application/x-ndjson")
        for i in range(0, len(lines) - size + 1, size)
    ]


def run(job: dict[str, Any]) -> dict[str, Any]:
    """Carry out a job; `rate_per_s` None is a closed loop."""
    requests = _requests(job)
    connections = {}
    poll = select.epoll()
    for _ in range(job["connections"]):
        connection = _Connection(job["port"])
        connections[connection.sock.fileno()] = connection
        poll.register(connection.sock, select.EPOLLIN)
    if job["rate_per_s"] is None:
        return _closed(requests, connections, poll, job["seconds"])
    until = Path(job["until"]) if "until" in job else None
    found = _open(requests, connections, poll, job["seconds"], job["rate_per_s"], until)
    if not job.get("keep_waits"):
        del found["waits"]
    return found


def _closed(
    requests: list[bytes], connections: dict[int, _Connection], poll: Any, seconds: float
) -> dict[str, Any]:
    """Send the next request when an answer has come."""
    clock = time.perf_counter
    statuses: dict[str, int] = {}
    latencies: list[float] = []
    sent = 0
    start = clock()
    end = start + seconds
    for connection in connections.values():
        connection.send(requests[sent % len(requests)])
        connection.since = start
        sent += 1
    open_requests = len(connections)
    while open_requests:
        for number, _ in poll.poll():
            connection = connections[number]
            status = connection.answer()
            if status is None:
                continue
            now = clock()
            latencies.append(now - connection.since)
            key = status.decode()
            statuses[key] = statuses.get(key, 0) + 1
            if now < end and sent < len(requests):
                connection.since = now
                connection.send(requests[sent])
                sent += 1
            else:
                open_requests -= 1
    return _summary(latencies, statuses, clock() - start)


def _open(
    requests: list[bytes],
    connections: dict[int, _Connection],
    poll: Any,
    seconds: float,
    rate_per_s: float,
    until: Path | None,
) -> dict[str, Any]:
    """Send on a fixed schedule; latency counts from the scheduled time, also while waiting.

    It ends early once the file `until` is there.
    """
    clock = time.perf_counter
    idle = deque(connections.values())
    statuses: dict[str, int] = {}
    latencies: list[float] = []
    waits: list[tuple[float, float]] = []
    total = min(int(seconds * rate_per_s), len(requests))
    due = done = 0
    start = clock()
    while done < total:
        now = clock()
        if until is not None and not due % LOOK_EVERY and until.exists():
            total = due
            if done == total:
                break
        while due < total and idle and start + due / rate_per_s <= now:
            connection = idle.popleft()
            connection.since = start + due / rate_per_s
            connection.send(requests[due])
            due += 1
        wait_s = 0.05
        if due < total and idle:
            wait_s = max(0.0, start + due / rate_per_s - clock())
        for number, _ in poll.poll(wait_s if wait_s >= 0.001 else 0):
            connection = connections[number]
            status = connection.answer()
            if status is not None:
                latencies.append(clock() - connection.since)
                waits.append((connection.since, latencies[-1]))
                key = status.decode()
                statuses[key] = statuses.get(key, 0) + 1
                done += 1
                idle.append(connection)
    return {**_summary(latencies, statuses, clock() - start), "waits": waits}


def _summary(latencies: list[float], statuses: dict[str, int], seconds: float) -> dict[str, Any]:
    latencies.sort()

    def quantile(share: float) -> float:
        return latencies[min(int(len(latencies) * share), len(latencies) - 1)] * 1e3

    return {
        "requests": len(latencies),
        "seconds": seconds,
        "per_s": len(latencies) / seconds,
        "p50_ms": quantile(0.5),
        "p99_ms": quantile(0.99),
        "statuses": statuses,
    }


if __name__ == "__main__":
    json.dump(run(json.load(sys.stdin)), sys.stdout)
