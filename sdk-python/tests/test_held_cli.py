"""`flk outbox` at the level `replicated`: what it says of held records, and what waits for them."""

from __future__ import annotations

import json
import os
from datetime import UTC, datetime
from pathlib import Path

import pytest
from clients import options, record
from flk_runner import Flk, runner
from scripted_server import ScriptedServer, Seen, Step

from fractal_lba.canonical import jcs
from fractal_lba.client import Client
from fractal_lba.spool import open_outbox
from fractal_lba.testing import FakeClock, outcome_body


@pytest.fixture
def flk(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfdbinary: pytest.CaptureFixture[bytes]
) -> Flk:
    return runner(tmp_path, monkeypatch, capfdbinary)


def answered(seen: Seen) -> bytes:
    return outcome_body(json.loads(seen.body)["pcs_id"])


RECORDED = Step(200, {"PCS-Position": "eu1/open/1/5"}, answered)


def region(replicated: int) -> Step:
    numbers = {"region_epoch": 1, "durable": 5, "replicated": replicated}
    stream = {"placement": "open", "closed": [], **numbers}
    return Step(200, {}, jcs({"region": "eu1", "streams": [stream]}))


def keep(server: ScriptedServer, *, durability: str = "replicated") -> None:
    """Leave one record behind in ./box: sent, where the script has an answer for it."""
    now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    with open_outbox("box", background=False) as box:
        clock = FakeClock(int(datetime.now(UTC).timestamp() * 1000))
        made = options(outbox=box, durability=durability, clock=clock)
        with Client(server.url, **made) as client:
            client.enqueue(record(1) | {"sent_at": now})


def test_status_counts_what_is_held(flk: Flk) -> None:
    with ScriptedServer([RECORDED]) as server:
        keep(server)
        done = flk("outbox", "flush", "box", "--endpoint", server.url, "--durability", "replicated")
    assert (done.code, done.out) == (1, flk("outbox", "status", "box").out)
    assert "0 waiting" in done.out
    assert "held: 1 recorded, and not yet replicated to another region" in done.out
    (status,) = flk("outbox", "status", "box", "--json").lines()
    assert (status["entries"], status["held"], status["in_flight"]) == (1, 1, 0)


def test_a_flush_with_a_token_waits_for_what_is_held(flk: Flk) -> None:
    Path("token").write_text("dGhpcy1pcy1hLXJlYWQtdG9rZW4tb2YtMzItYnl0ZXM\n")
    os.chmod("token", 0o600)
    with ScriptedServer([RECORDED, region(5)]) as server:
        keep(server)
        flush = ["outbox", "flush", "box", "--endpoint", server.url, "--token-file", "token"]
        done = flk(*flush, "--durability", "replicated", "--json")
        assert (done.code, done.lines()[0]["entries"]) == (0, 0)
        assert [seen.path for seen in server.seen] == ["/v1/pcs/submit", "/v1/region/status"]


def test_a_flush_lets_go_of_what_is_recorded_unless_it_is_told_to_hold(flk: Flk) -> None:
    with ScriptedServer([RECORDED]) as server:
        keep(server)
        done = flk("outbox", "flush", "box", "--endpoint", server.url, "--json")
    assert (done.code, done.lines()[0]["entries"], done.lines()[0]["held"]) == (0, 0, 0)


def test_what_a_lost_region_held_waits_again_and_goes_to_another(flk: Flk) -> None:
    with ScriptedServer([RECORDED]) as server:
        keep(server)
        flk("outbox", "flush", "box", "--endpoint", server.url, "--durability", "replicated")
        (first,) = server.seen
    (other,) = flk("outbox", "resend", "box", "--region", "us1", "--json").lines()
    assert other == {"region": "us1", "resent": 0}
    done = flk("outbox", "resend", "box", "--region", "eu1")
    assert (done.code, done.out) == (0, "1 wait again that were held in eu1\n")
    (status,) = flk("outbox", "status", "box", "--json").lines()
    assert (status["entries"], status["held"]) == (1, 0), "also in the next process"
    with ScriptedServer([RECORDED]) as survivor:
        sent = flk("outbox", "flush", "box", "--endpoint", survivor.url)
        (again,) = survivor.seen
    assert (sent.code, again.body) == (0, first.body)
    assert again.headers["idempotency-key"] == first.headers["idempotency-key"]


def test_a_level_that_no_outbox_has_is_refused(flk: Flk) -> None:
    Path("box").mkdir(mode=0o700)
    done = flk(
        "outbox", "flush", "box", "--endpoint", "http://127.0.0.1:9", "--durability", "witnessed"
    )
    assert done.code == 2
