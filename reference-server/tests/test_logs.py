"""Log lines: what they hold, what they never hold, and what happens when nobody reads them."""

from __future__ import annotations

import io
import json
import logging
import os
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fractal_lba.errors import ConfigError
from fractal_lba.secret import Secret
from fractal_lba_server import logs
from fractal_lba_server.core.tenants import KeyRecord
from fractal_lba_server.logs import Log, LogHandler

NOON_NS = 1_767_268_800_123_456_789  # 2026-01-01T12:00:00.123Z
KEY = bytes(range(200, 232))
REQUEST: dict[str, Any] = {
    "request_id": "01890a5d-ac96-774b-bcce-b302099a8057",
    "method": "POST",
    "route": "/v1/pcs/submit",
    "status": 200,
    "duration_us": 1234,
}
RECORD: dict[str, Any] = {**REQUEST, "tenant": "acme", "pcs_id": "a" * 64, "replayed": False}
HEAD = {"ts": "2026-01-01T12:00:00.123Z", "level": "info", "event": "request"}


class Lines:
    """A log into memory, and the lines that reached it."""

    def __init__(self, **options: Any) -> None:
        self.stream = io.BytesIO()
        self.log = Log(self.stream, clock_ns=lambda: NOON_NS, **options)

    def read(self) -> list[dict[str, Any]]:
        self.log.flush()
        return [json.loads(line) for line in self.stream.getvalue().splitlines()]


@pytest.fixture
def lines() -> Iterator[Lines]:
    found = Lines()
    yield found
    found.log.close()


# --- what a line holds


def test_a_request_is_one_line_with_its_facts(lines: Lines) -> None:
    lines.log.request(**RECORD)
    assert lines.read() == [{**HEAD, **RECORD}]
    assert lines.stream.getvalue().endswith(b"}\n")


names = st.from_regex(r"[A-Za-z0-9._-]{1,64}", fullmatch=True)


@given(
    tenant=st.none() | names,
    pcs_id=st.none() | st.from_regex(r"[0-9a-f]{64}", fullmatch=True),
    kid=st.none() | names,
    code=st.none() | st.sampled_from(["rate_limited", "unavailable"]),
    replayed=st.none() | st.booleans(),
    client_request_id=st.none() | names,
    idempotency_key=st.none() | st.text(max_size=20) | names,
    status=st.sampled_from([200, 202, 401, 503]),
)
def test_every_way_to_write_a_request_gives_its_facts(**facts: Any) -> None:
    found = Lines()
    line = {**REQUEST, **facts}
    found.log.request(**line)
    level = "info" if facts["status"] < 500 else "warning"
    given_facts = {name: value for name, value in line.items() if value is not None}
    assert found.read() == [{**HEAD, "level": level, **given_facts}]
    found.log.close()


@given(st.text(max_size=30))
def test_what_a_stranger_sends_cannot_forge_a_line(text: str) -> None:
    found = Lines()
    found.log.request(**{**RECORD, "idempotency_key": text})
    found.log.request(**{**REQUEST, "pcs_id": text, "code": "not_found", "status": 404})
    first, second = found.read()
    assert first["idempotency_key"] == text
    assert (second["pcs_id"], second["code"]) == (text, "not_found")
    found.log.close()


def test_an_event_has_the_facts_it_is_given(lines: Lines) -> None:
    lines.log.event("listening", listen="127.0.0.1:1", count=3, ratio=0.5, ok=True, none=None)
    lines.log.event("refused", level="error", faults=["a", "b"])
    assert lines.read() == [
        {"ts": HEAD["ts"], "level": "info", "event": "listening", "listen": "127.0.0.1:1",
         "count": 3, "ratio": 0.5, "ok": True, "none": None},
        {"ts": HEAD["ts"], "level": "error", "event": "refused", "faults": ["a", "b"]},
    ]  # fmt: skip


def test_the_time_follows_the_clock() -> None:
    times = iter([0, 999_999_999, 1_000_000_000, NOON_NS, 999_000_000])
    stream = io.BytesIO()
    with Log(stream, clock_ns=lambda: next(times)) as log:
        for _ in range(5):
            log.event("tick")
    assert [json.loads(line)["ts"] for line in stream.getvalue().splitlines()] == [
        "1970-01-01T00:00:00.000Z",
        "1970-01-01T00:00:00.999Z",
        "1970-01-01T00:00:01.000Z",
        "2026-01-01T12:00:00.123Z",
        "1970-01-01T00:00:00.999Z",
    ]


@pytest.mark.parametrize(
    ("level", "written"),
    [("debug", 5), ("info", 4), ("warning", 3), ("error", 1)],
)
def test_a_level_leaves_out_what_is_below(level: Any, written: int) -> None:
    found = Lines(level=level)
    found.log.event("a", level="debug")
    found.log.request(**REQUEST)
    found.log.event("b", level="warning")
    found.log.request(**{**REQUEST, "status": 503})
    found.log.event("c", level="error")
    assert len(found.read()) == written
    found.log.close()


# --- what a line never holds


@dataclass(frozen=True)
class Holder:
    key: str


class HiddenText(str):
    """Text of a class of its own, which may have a reason."""

    __slots__ = ()


@pytest.mark.parametrize(
    "value",
    [
        KEY,
        Secret(KEY),
        KeyRecord("k", "acme", "HMAC", KEY, "active", None, None),
        Holder(KEY.hex()),
        [Secret(KEY)],
        {"key": KEY},
        HiddenText(KEY.hex()),
        bytearray(KEY),
    ],
    ids=lambda value: type(value).__name__,
)
@pytest.mark.parametrize("beside", [1, 2**80], ids=["plain", "odd"])
def test_what_is_not_a_plain_fact_is_masked(lines: Lines, value: Any, beside: int) -> None:
    lines.log.event("mistake", fact=value, beside=beside)
    text = lines.stream.getvalue() if lines.read() else b""
    assert b"***" in text
    for form in (KEY, KEY.hex().encode(), repr(KEY)[2:-1].encode()):
        assert form not in text


@pytest.mark.parametrize(
    ("value", "written"),
    [
        ("\ud800x", "\\ud800x"),
        (2**64, str(2**64)),
        (-(2**70), str(-(2**70))),
        (["a", "\udfff", 2**64], ["a", "\\udfff", str(2**64)]),
    ],
)
def test_what_json_cannot_hold_is_still_a_line(lines: Lines, value: Any, written: Any) -> None:
    lines.log.event("odd", fact=value, other="x", none=None)
    assert lines.read() == [
        {"ts": HEAD["ts"], "level": "info", "event": "odd", "fact": written, "other": "x",
         "none": None}
    ]  # fmt: skip


def raised(error: Exception) -> Exception:
    with pytest.raises(type(error)) as caught:
        raise error
    return caught.value


@pytest.mark.parametrize(
    ("error", "text"),
    [
        (ValueError(f"cannot read {KEY.hex()}"), None),
        (ConfigError("config_invalid", "bad"), "config_invalid: bad"),
        (FileNotFoundError(2, "No such file", "x"), "[Errno 2] No such file: 'x'"),
    ],
)
def test_a_failure_says_where_but_quotes_only_errors_that_are_safe(
    lines: Lines, error: Exception, text: str | None
) -> None:
    lines.log.failure("crashed", raised(error), route="/x")
    (line,) = lines.read()
    assert (line["error"], line["text"], line["level"]) == (type(error).__name__, text, "error")
    assert line["route"] == "/x"
    assert line["at"][-1].startswith("test_logs.py:")
    assert line["at"][-1].endswith(" raised")
    assert KEY.hex() not in lines.stream.getvalue().decode()


# --- libraries


def test_lines_of_libraries_come_out_as_lines(lines: Lines) -> None:
    library = logging.getLogger("test_logs.library")
    library.setLevel(logging.INFO)
    library.addHandler(handler := LogHandler(lines.log))
    library.warning("Invalid HTTP request received from %s", "::1")
    library.info("hello")
    library.debug("noise")
    library.error("went wrong", exc_info=raised(ValueError(KEY.hex())))
    library.critical("gone")
    library.removeHandler(handler)
    assert [(line["level"], line.get("message")) for line in lines.read()] == [
        ("warning", "Invalid HTTP request received from ::1"),
        ("info", "hello"),
        ("error", "went wrong"),
        ("error", "gone"),
    ]
    assert KEY.hex() not in lines.stream.getvalue().decode()


# --- when nobody reads


class Blocked(io.BytesIO):
    """A stream whose reader hangs until it is let go."""

    def __init__(self) -> None:
        super().__init__()
        self.entered = threading.Event()
        self.free = threading.Event()

    def write(self, data: Any) -> int:
        self.entered.set()
        assert self.free.wait(30)
        return super().write(data)


def test_a_reader_that_hangs_holds_up_nobody_and_lost_lines_are_counted(monkeypatch: Any) -> None:
    monkeypatch.setattr(logs, "WAITING_LINES_MAX", 10)
    stream = Blocked()
    log = Log(stream, clock_ns=lambda: NOON_NS)
    log.event("first", level="error")  # wakes the writer
    assert stream.entered.wait(30)
    for number in range(14):
        log.event("next", number=number)
    log.request(**RECORD)
    assert log.dropped_lines == 5
    stream.free.set()
    log.close()
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    assert [line["event"] for line in found] == ["first", "log_dropped", *["next"] * 10]
    assert found[1]["lines"] == 5
    assert [line["number"] for line in found[2:]] == list(range(10))


def test_a_flush_gives_up_on_a_reader_that_hangs(monkeypatch: Any) -> None:
    monkeypatch.setattr(logs, "CLOSE_TIMEOUT_S", 0.01)
    stream = Blocked()
    log = Log(stream)
    log.event("first", level="error")
    assert stream.entered.wait(30)
    log.flush()
    stream.free.set()
    log.close()


def test_a_broken_pipe_fails_no_request_and_is_counted() -> None:
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "wb", buffering=0) as stream:
        log = Log(stream)
        for _ in range(3):
            log.event("a")
        log.flush()
        log.event("b")
        log.close()
    assert log.dropped_lines == 4


def test_lines_come_out_without_a_flush(tmp_path: Path) -> None:
    path = tmp_path / "log"
    with path.open("wb") as stream, Log(stream) as log:
        for number in range(3000):
            log.event("a", number=number)
    numbers = [json.loads(line)["number"] for line in path.read_bytes().splitlines()]
    assert numbers == list(range(3000))


def test_threads_share_a_log_without_tearing_lines() -> None:
    stream = io.BytesIO()
    with Log(stream) as log:

        def write(name: str) -> None:
            for number in range(500):
                log.event("a", thread=name, number=number)

        threads = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    found = [json.loads(line) for line in stream.getvalue().splitlines()]
    for name in "abcd":
        assert [one["number"] for one in found if one["thread"] == name] == list(range(500))
