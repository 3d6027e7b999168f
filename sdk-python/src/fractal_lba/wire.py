"""One connection whose every wait has an end: connect, TLS, send and receive.

Sockets are non-blocking; whatever waits for one waits in `Guard.wait`, which knows the time
bound and the cancellation of the present attempt. So a server that trickles cannot stretch an
attempt, and a cancel is seen within 20 ms.
"""

# tidy: long because a reason stands beside what it excuses

from __future__ import annotations

import errno
import io
import select
import socket
import ssl
import threading
import time
from typing import Any, Final, Literal

from .clock import CANCEL_POLL_S
from .errors import CancelledError, FractalLBAError, error_for
from .http import Cancel

CONNECTING: Final = frozenset({errno.EINPROGRESS, errno.EWOULDBLOCK, errno.EALREADY})


class TimedOutError(Exception):
    """Say that the bound of the present phase has passed; the transport names the code."""


class Guard:
    """Hold the time bound and the cancellation of one attempt."""

    __slots__ = ("_cancel", "deadline")

    def __init__(self, timeout_s: float, cancel: Cancel | None) -> None:
        self.deadline = time.monotonic() + timeout_s
        self._cancel = cancel

    def within(self, timeout_s: float) -> Guard:
        """Give a guard that ends earlier, but not later than this one."""
        guard = Guard(timeout_s, self._cancel)
        guard.deadline = min(guard.deadline, self.deadline)
        return guard

    @property
    def left_s(self) -> float:
        """Say how much time is left."""
        return self.deadline - time.monotonic()

    def check(self) -> float:
        """Give the time left, at most until the next look; raise if it is over."""
        if self._cancel is not None and self._cancel.is_set():
            raise CancelledError("cancelled", "the caller cancelled, or closed the client")
        left_s = self.left_s
        if left_s <= 0:
            raise TimedOutError
        return left_s if self._cancel is None else min(left_s, CANCEL_POLL_S)

    def wait(self, sock: socket.socket, direction: Literal["read", "write"]) -> None:
        """Wait until a socket is ready."""
        while not is_ready(sock, direction, self.check()):
            continue


def is_ready(sock: socket.socket, direction: Literal["read", "write"], timeout_s: float) -> bool:
    """Say whether a socket can be read or written, or has failed, within this time."""
    if hasattr(select, "poll"):
        poll = select.poll()
        poll.register(sock, select.POLLIN if direction == "read" else select.POLLOUT)
        return bool(poll.poll(int(timeout_s * 1000) + 1 if timeout_s else 0))
    reads, writes = ([sock], []) if direction == "read" else ([], [sock])
    return any(select.select(reads, writes, [sock], timeout_s))


class Wire:
    """A connected socket with the face that `http.client` asks of one.

    `begin` starts an attempt. `close` does nothing: the pool decides, by `shut`.
    """

    def __init__(self, sock: socket.socket, guard: Guard) -> None:
        self._sock = sock
        self._guard = guard
        self._room = 0
        self.in_head = True
        self.sent_bytes = 0
        self.opened_at = time.monotonic()
        self.idle_since = self.opened_at

    def begin(self, guard: Guard, *, receive_max: int) -> None:
        """Start an attempt that may receive so many bytes, whatever they pretend to be."""
        self._guard, self._room, self.sent_bytes, self.in_head = guard, receive_max, 0, True

    def sendall(self, data: bytes) -> None:
        """Send all bytes."""
        view = memoryview(data)
        while view:
            try:
                sent = self._sock.send(view)
                view = view[sent:]
                self.sent_bytes += sent
            except (BlockingIOError, ssl.SSLWantWriteError):
                self._guard.wait(self._sock, "write")
            except ssl.SSLWantReadError:
                self._guard.wait(self._sock, "read")

    def recv_into(self, buffer: bytearray | memoryview) -> int:
        """Receive what is there, waiting for the first byte; 0 is the end.

        `http.client` takes an end inside the head for the end of the head, so here it is an error.
        """
        while True:
            try:
                count = self._sock.recv_into(buffer)
            except (BlockingIOError, ssl.SSLWantReadError):
                self._guard.wait(self._sock, "read")
            except ssl.SSLWantWriteError:
                self._guard.wait(self._sock, "write")
            else:
                self._room -= count
                if self._room < 0:
                    raise error_for("response_too_large", "the response does not end")
                if not count and self.in_head:
                    raise ConnectionResetError(errno.ECONNRESET, "the response broke off")
                return count

    def makefile(self, mode: str) -> io.BufferedReader:  # noqa: ARG002 - http.client asks for "rb"
        """Give a buffered reader."""
        return io.BufferedReader(_Reader(self))

    def close(self) -> None:
        """Leave the socket open."""

    def shut(self) -> None:
        """Close the socket."""
        self._sock.close()

    @property
    def is_quiet(self) -> bool:
        """Say whether nothing has arrived: an idle connection that speaks has ended."""
        return not is_ready(self._sock, "read", 0)


class _Reader(io.RawIOBase):
    def __init__(self, wire: Wire) -> None:
        self._wire = wire

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: bytearray | memoryview) -> int:  # type: ignore[override]  # io calls it so
        return self._wire.recv_into(buffer)


# --- connecting ----------------------------------------------------------------------------


def connect(host: str, port: int, context: ssl.SSLContext | None, guard: Guard) -> Wire:
    """Open a connection, with TLS if there is a context.

    Raises `connect_failed` or `tls_failed`; in both cases nothing of a request was sent.
    """
    try:
        sock = _connect_any(host, port, guard)
    except TimedOutError:
        raise _failed(f"no connection to {host} in time") from None
    except OSError as error:
        raise _failed(f"no connection to {host}: {_reason(error)}") from error
    try:
        return Wire(sock if context is None else _secured(sock, host, context, guard), guard)
    except TimedOutError:
        sock.close()
        raise _failed(f"no TLS handshake with {host} in time") from None
    except (ssl.SSLEOFError, ssl.SSLZeroReturnError, ssl.SSLSyscallError) as error:
        sock.close()
        raise _failed(f"{host} ended the TLS handshake") from error
    except ssl.SSLError as error:
        sock.close()
        raise error_for("tls_failed", f"TLS with {host}: {_reason(error)}") from error
    except OSError as error:
        sock.close()
        raise _failed(f"TLS with {host}: {_reason(error)}") from error
    except FractalLBAError:
        sock.close()
        raise


def _failed(message: str) -> FractalLBAError:
    return error_for("connect_failed", message)


def _reason(error: OSError) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return error.verify_message
    return error.strerror or type(error).__name__


def _connect_any(host: str, port: int, guard: Guard) -> socket.socket:
    """Try the addresses of a host in order; each gets an equal share of the time that is left."""
    addresses = _resolve(host, port, guard)
    failure: OSError | TimedOutError = OSError(errno.EHOSTUNREACH, "no address")
    for tried, (family, kind, protocol, _, address) in enumerate(addresses):
        sock = socket.socket(family, kind, protocol)
        try:
            _connect_one(sock, address, guard.within(guard.left_s / (len(addresses) - tried)))
        except (OSError, TimedOutError) as error:
            sock.close()
            failure = error
        except FractalLBAError:
            sock.close()
            raise
        else:
            return sock
    raise failure


def _connect_one(sock: socket.socket, address: tuple[object, ...], guard: Guard) -> None:
    sock.setblocking(False)
    sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    begun = sock.connect_ex(address)
    if begun not in CONNECTING and begun != 0:
        raise OSError(begun, errno.errorcode.get(begun, "connect failed"))
    guard.wait(sock, "write")
    failed = sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    if failed:
        raise OSError(failed, errno.errorcode.get(failed, "connect failed"))


_Address = Any  # (family, kind, protocol, name, address), as getaddrinfo gives it


def _resolve(host: str, port: int, guard: Guard) -> list[_Address]:
    """Look a host up; a name in a thread, because a resolver can neither be bounded nor woken."""
    try:
        return _look_up(host, port, socket.AI_NUMERICHOST)
    except socket.gaierror:
        pass
    found: list[list[_Address] | OSError] = []
    done = threading.Event()

    def look_up() -> None:
        try:
            found.append(_look_up(host, port, 0))
        except OSError as error:
            found.append(error)
        finally:
            done.set()

    threading.Thread(target=look_up, name="fractal-lba-resolver", daemon=True).start()
    while not done.wait(guard.check()):
        continue
    if isinstance(found[0], OSError):
        raise found[0]
    return found[0]


def _look_up(host: str, port: int, flags: int) -> list[_Address]:
    return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)


def _secured(
    sock: socket.socket, host: str, context: ssl.SSLContext, guard: Guard
) -> ssl.SSLSocket:
    secured = context.wrap_socket(sock, server_hostname=host, do_handshake_on_connect=False)
    try:
        while True:
            try:
                secured.do_handshake()
            except ssl.SSLWantReadError:
                guard.wait(secured, "read")
            except ssl.SSLWantWriteError:
                guard.wait(secured, "write")
            else:
                return secured
    except BaseException:
        secured.close()  # wrapping took the descriptor out of `sock`
        raise


def check_context(context: ssl.SSLContext) -> ssl.SSLContext:
    """Refuse a TLS context that does not verify the server."""
    if context.verify_mode != ssl.CERT_REQUIRED or not context.check_hostname:
        raise error_for("config_invalid", "ssl_context: expected one that verifies the server")
    return context
