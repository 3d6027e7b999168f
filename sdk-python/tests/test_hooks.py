"""What is told: events to hooks, lines to the log."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from fractal_lba.errors import error_for
from fractal_lba.hooks import (
    AttemptEvent,
    Event,
    FailoverEvent,
    Hooks,
    OutboxEvent,
    Reporter,
    RetryEvent,
    StopEvent,
    log,
)

ATTEMPT = AttemptEvent(
    call="submit", method="POST", url="https://a.example/v1/pcs/submit", attempt=2, elapsed_ms=12,
    status=503, code="unavailable", request_id="r1",
    request_headers={"x-retry-attempt": "1"}, response_headers={"retry-after": "1"},
)  # fmt: skip
RETRY = RetryEvent("submit", 2, 250, "unavailable")
FAILOVER = FailoverEvent("https://a.example", "https://b.example")
QUEUED = OutboxEvent("queued", "0000000000000001")
STOP = StopEvent("submit", error_for("pcs_id_conflict", "free text of a server", status=409))


@pytest.mark.parametrize(
    ("event", "level", "text"),
    [
        (ATTEMPT, "DEBUG",
         ("submit attempt 2 POST https://a.example/v1/pcs/submit -> 503 in 12 ms, "
          "sent {'x-retry-attempt': '1'}, got {'retry-after': '1'}")),
        (RETRY, "DEBUG", "submit attempt 2 failed with unavailable, waiting 250 ms"),
        (FAILOVER, "DEBUG", "failover from https://a.example to https://b.example"),
        (QUEUED, "DEBUG", "outbox queued: entry 0000000000000001, None"),
        (OutboxEvent("dead", "1", "pcs_id_conflict"), "WARNING",
         "outbox dead: entry 1, pcs_id_conflict"),
        (OutboxEvent("outbox_blocked", "1", "kid_unknown"), "WARNING",
         "outbox outbox_blocked: entry 1, kid_unknown"),
        (OutboxEvent("outbox_corrupt"), "WARNING", "outbox outbox_corrupt: entry None, None"),
        (STOP, "WARNING",
         "submit stopped: pcs_id_conflict after 0 attempts (None), status 409, request None"),
    ],
)  # fmt: skip
def test_each_event_is_one_line(
    caplog: pytest.LogCaptureFixture, event: Event, level: str, text: str
) -> None:
    caplog.set_level(logging.DEBUG)
    Reporter().tell(event)
    assert [(line.levelname, line.message) for line in caplog.records] == [(level, text)]


def test_an_attempt_without_an_answer_shows_its_code(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    Reporter().tell(AttemptEvent("get", "GET", "u", 1, 0, None, "connect_failed", None))
    assert "-> connect_failed in" in caplog.text


def test_each_hook_hears_its_own_events() -> None:
    heard: list[tuple[str, Event]] = []

    def hear(name: str) -> Any:
        return lambda event: heard.append((name, event))

    names = ("on_attempt", "on_retry", "on_failover", "on_outbox")
    reporter = Reporter(hooks=Hooks(**{name: hear(name) for name in names}))
    for event in (ATTEMPT, RETRY, FAILOVER, QUEUED, STOP):
        reporter.tell(event)
    assert heard == list(zip(names, (ATTEMPT, RETRY, FAILOVER, QUEUED), strict=True))


def test_no_hook_is_no_error() -> None:
    for event in (ATTEMPT, RETRY, FAILOVER, QUEUED, STOP):
        Reporter(hooks=Hooks()).tell(event)


def test_a_hook_that_raises_is_logged_once_without_its_text(
    caplog: pytest.LogCaptureFixture,
) -> None:
    def broken(_: object) -> None:
        raise LookupError("s3cret")

    reporter = Reporter(hooks=Hooks(on_retry=broken))
    for _ in range(3):
        reporter.tell(RETRY)
    assert caplog.text.count("a hook raised LookupError") == 1
    assert "s3cret" not in caplog.text


def test_an_interrupt_in_a_hook_passes() -> None:
    def interrupted(_: object) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        Reporter(hooks=Hooks(on_retry=interrupted)).tell(RETRY)


def test_an_own_logger_gets_the_lines_instead(caplog: pytest.LogCaptureFixture) -> None:
    lines: list[str] = []

    class Lines:
        def debug(self, msg: str, /, *args: Any) -> None:
            lines.append(msg % args)

        warning = debug

    caplog.set_level(logging.DEBUG)
    Reporter(logger=Lines()).tell(RETRY)
    assert (len(lines), caplog.records) == (1, [])


def test_the_library_says_nothing_unless_it_is_asked() -> None:
    assert log.name == "fractal_lba"
    assert [type(handler) for handler in log.handlers] == [logging.NullHandler]
