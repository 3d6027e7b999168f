"""The servers that the harness plays: over real sockets, seen as a client sees them."""

from __future__ import annotations

import hashlib
import http.client
import socket
from collections.abc import Iterator
from typing import Any

import pytest

from flk_conformance import judge
from flk_conformance.judge import Policies
from flk_conformance.scripted import Play, Stage
from flk_conformance.vectors import Suite, case_of

GOOD = {"status": "200", "headers": [["X-A", "1"], ["X-A", "2"]], "body": b"{}".hex()}
BUSY = {"status": "503", "headers": [["Retry-After", "2"]], "body": ""}


@pytest.fixture(scope="module")
def stage() -> Iterator[Stage]:
    made = Stage()
    yield made
    made.close()


def args_of(*servers: Any, **more: Any) -> dict[str, Any]:
    endpoints = [{"url": f"server:{n}", "region": "eu1"} for n in range(len(servers) or 1)]
    return {"endpoints": endpoints, "u": "0", "script": {"servers": list(servers), **more}}


def connection(url: str) -> http.client.HTTPConnection:
    return http.client.HTTPConnection("127.0.0.1", int(url.rpartition(":")[2]), timeout=5)


def ask(
    play: Play, server: int = 0, method: str = "GET", path: str = "/v1/pcs/x", body: bytes = b"",
    **headers: str,
) -> tuple[int, dict[str, str], bytes]:  # fmt: skip
    link = connection(play.urls[server])
    link.request(method, path, body or None, {k.replace("_", "-"): v for k, v in headers.items()})
    answer = link.getresponse()
    found = answer.status, dict(answer.getheaders()), answer.read()
    link.close()
    return found


def test_a_testee_gets_addresses_and_no_script(stage: Stage) -> None:
    """tp.38: places become URLs, the closed one a port at which nobody listens."""
    args = args_of({"steps": []}, {"steps": []})
    args["endpoints"] += [{"url": "server:closed"}, {"url": "https://elsewhere.example"}]
    with stage.play(args) as play:
        given = play.args()
        urls = [each["url"] for each in given["endpoints"]]
        assert "script" not in given
        assert (given["u"], given["endpoints"][0]["region"]) == ("0", "eu1")
        assert urls[:2] == play.urls
        assert urls[3] == "https://elsewhere.example"
        with pytest.raises(ConnectionRefusedError):
            connection(urls[2]).connect()
    with pytest.raises(OSError, match=r"refused|reset"):
        ask(play)


def test_steps_answer_in_turn_and_then_fail_the_case(stage: Stage) -> None:
    """tp.39, tp.40: the server adds a length and nothing else."""
    with stage.play(args_of({"steps": [BUSY, GOOD]})) as play:
        assert ask(play) == (503, {"Retry-After": "2", "Content-Length": "0"}, b"")
        assert ask(play) == (200, {"X-A": "2", "Content-Length": "2"}, b"{}")
        assert play.problems() == []
        assert ask(play)[::2] == (500, b"script ended")
        assert "request 3 came after 2 steps" in play.problems()[0]


def test_a_last_step_may_repeat(stage: Stage) -> None:
    """tp.39."""
    with stage.play(args_of({"steps": [GOOD, {**BUSY, "repeat": "true"}]})) as play:
        assert [ask(play)[0] for _ in range(4)] == [200, 503, 503, 503]
        assert play.problems() == []


def test_a_step_belongs_to_its_record(stage: Stage) -> None:
    """tp.39: by the id in the body, or in the path."""
    with stage.play(args_of({"by_id": {"a": GOOD, "b": BUSY}})) as play:
        assert ask(play, method="POST", path="/v1/pcs/submit", body=b'{"pcs_id":"b"}')[0] == 503
        assert ask(play, path="/v1/pcs/a")[0] == 200
        assert play.problems() == []
        assert ask(play, method="POST", body=b"no json")[0] == 500
        assert "no step for the record" in play.problems()[0]


def test_a_connection_serves_many_requests_unless_it_is_closed(stage: Stage) -> None:
    """tp.40."""
    with stage.play(args_of({"steps": [GOOD, GOOD, {**GOOD, "close": "true"}, GOOD]})) as play:
        link = connection(play.urls[0])
        for closes in (None, None, "close"):
            link.request("GET", "/")
            answer = link.getresponse()
            assert (answer.read(), answer.getheader("Connection")) == (b"{}", closes)
        link.close()


def test_a_cut_response_breaks_off(stage: Stage) -> None:
    """tp.40: the length tells the whole body, so that a reader notices."""
    step = {**GOOD, "body": (b"x" * 100).hex(), "cut": "10"}
    short = pytest.raises(http.client.IncompleteRead)
    with stage.play(args_of({"steps": [step]})) as play, short as caught:
        ask(play)
    assert (caught.value.partial, caught.value.expected) == (b"x" * 10, 90)


def test_a_reset_comes_after_the_request_was_read(stage: Stage) -> None:
    """tp.40."""
    with stage.play(args_of({"steps": [{"reset": "true"}]})) as play:
        with pytest.raises(ConnectionResetError):
            ask(play, method="POST", body=b"whole")
        assert play.requests()[0]["body_sha256"] == hashlib.sha256(b"whole").hexdigest()


def test_a_server_that_hangs_says_nothing(stage: Stage) -> None:
    """tp.40: until the client leaves."""
    with stage.play(args_of({"steps": [{"hang": "true"}, GOOD]})) as play:
        link = http.client.HTTPConnection("127.0.0.1", int(play.urls[0][17:]), timeout=0.2)
        link.request("GET", "/")
        with pytest.raises(TimeoutError):
            link.getresponse()
        link.close()
        assert ask(play)[0] == 200
        assert len(play.requests()) == 2


def test_a_delay_and_a_status_without_a_body(stage: Stage) -> None:
    """tp.40."""
    slow = {"status": "204", "headers": [], "body": "", "delay_ms": "20"}
    with stage.play(args_of({"steps": [slow]})) as play:
        assert ask(play) == (204, {}, b"")


def test_places_are_filled_in(stage: Stage) -> None:
    """tp.41: in headers and bodies, before the length is counted."""
    step = {
        "status": "421",
        "headers": [["Location", "{server:1}/x"]],
        "body": b"<{server:1}>".hex(),
    }
    with stage.play(args_of({"steps": [step]}, {"steps": []})) as play:
        status, headers, body = ask(play)
        assert (status, headers["Location"], body.decode()) == (
            421, f"{play.urls[1]}/x", f"<{play.urls[1]}>",
        )  # fmt: skip


def test_health_takes_no_step_and_is_not_listed(stage: Stage) -> None:
    """tp.42."""
    with stage.play(args_of({"steps": [GOOD]}, health=["503", "200"])) as play:
        assert [ask(play, path="/health")[0] for _ in range(3)] == [503, 200, 200]
        assert ask(play)[0] == 200
        assert len(play.requests()) == 1
    with stage.play(args_of({"steps": []})) as play:
        assert ask(play, path="/health")[0] == 200


def test_a_request_is_listed_with_what_is_compared(stage: Stage) -> None:
    """tp.43."""
    with stage.play(args_of({"steps": [GOOD]}, {"steps": [GOOD]})) as play:
        ask(
            play, 1, "POST", "/v1/pcs/submit", b"{}", X_Retry_Attempt="1", Idempotency_Key="k",
            X_Tenant_Id="t", PCS_Min_Ack="replicated", Authorization="Bearer x", X_Other="o",
        )  # fmt: skip
        ask(play, 0)
        assert play.requests() == [
            {
                "server": "1", "method": "POST", "path": "/v1/pcs/submit", "attempt": "1", "key": "k",
                "tenant": "t", "min_ack": "replicated", "authorization": "Bearer x",
                "body_sha256": hashlib.sha256(b"{}").hexdigest(),
            },
            {"server": "0", "method": "GET", "path": "/v1/pcs/x"},
        ]  # fmt: skip
        assert any("POST /v1/pcs/submit" in line for line in play.wire())


BAD = {
    "no HTTP": b"hello\r\n\r\n",
    "HTTP/1.0": b"GET / HTTP/1.0\r\nHost: a\r\n\r\n",
    "no Host": b"GET / HTTP/1.1\r\n\r\n",
    "two lengths": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\nx",
    "a length and chunks": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n",
    "a length that is none": b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    "a bad chunk": b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n",
    "a bad field": b"GET / HTTP/1.1\r\nHost: a\r\nno colon\r\n\r\n",
    "half a head": b"GET / HTTP/1.1\r\nHo",
    "an endless head": b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"x" * 70_000,
}


@pytest.mark.parametrize("data", BAD.values(), ids=BAD)
def test_a_request_that_is_no_http_fails_the_case(stage: Stage, data: bytes) -> None:
    """tp.44."""
    with stage.play(args_of({"steps": [GOOD]})) as play:
        with socket.create_connection(("127.0.0.1", int(play.urls[0][17:])), 5) as link:
            link.sendall(data)
            link.shutdown(socket.SHUT_WR)
            while link.recv(65_536):
                pass
        assert "tp.44" in play.problems()[0]
        assert play.requests() == []


def test_a_body_in_chunks_is_read(stage: Stage) -> None:
    """tp.44."""
    with stage.play(args_of({"steps": [GOOD]})) as play:
        link = connection(play.urls[0])
        chunked = {"Transfer-Encoding": "chunked"}
        link.request("POST", "/", iter([b"ab", b"c"]), chunked, encode_chunked=True)
        assert link.getresponse().status == 200
        link.close()
        assert play.requests()[0]["body_sha256"] == hashlib.sha256(b"abc").hexdigest()


# --- judging ---------------------------------------------------------------------------------

ANY = Policies(frozenset({"core", "client"}), frozenset(), {})


def judged(op: str, args: Any, expect: Any, answer: Any, seen: Any) -> judge.Verdict:
    result = "invalid" if set(expect) == {"code"} else "valid"
    line = {"id": "a/b", "flags": [], "args": args, "result": result, "expect": expect}
    case = case_of(Suite("a/b", op, "client", {}), line)
    return judge.scripted(case, {"seq": "a/b", **answer}, ANY, seen)


def test_calls_and_requests_are_both_compared() -> None:
    """tp.35, tp.43: with `by_id` requests have no order of their own."""
    one, two = {"key": "1"}, {"key": "2"}
    expect = {"calls": [{}], "requests": [one, two]}
    right = {"ok": {"calls": [{}]}}
    in_order = args_of({"steps": []})
    assert judged("client.submit", in_order, expect, right, [one, two]).status == "pass"
    assert judged("client.submit", in_order, expect, right, [two, one]).status == "fail"
    assert judged("client.submit", in_order, expect, right, [one]).status == "fail"
    assert (
        judged("client.submit", in_order, expect, {"ok": {"calls": []}}, [one, two]).status
        == "fail"
    )
    by_id = args_of({"by_id": {}})
    assert judged("client.submit_many", by_id, expect, right, [two, one]).status == "pass"
    number = judged("client.submit", in_order, expect, {"ok": {"calls": [1]}}, [one, two])
    assert (number.status, number.sentence) == ("err-protocol", "tp.6")


def test_a_constructor_may_refuse() -> None:
    """tp.36."""
    refused = {"err": {"code": "config_invalid", "message": "any"}}
    expect = {"code": "config_invalid"}
    assert judged("client.submit", args_of(), expect, refused, []).status == "pass"
    assert judged("client.submit", args_of(), expect, {"ok": {"calls": []}}, []).status == "fail"
    calls = {"calls": [], "requests": []}
    assert judged("client.submit", args_of(), calls, refused, []).status == "fail"


def test_a_log_is_searched_for_secrets() -> None:
    """tp.37, tp.45: it must hold something, so an empty log is no way out."""
    expect = {"holds": ["submit"], "lacks": [b"key".hex(), b"\x00\x01".hex()]}

    def log(text: bytes) -> str:
        answer = {"ok": {"log": text.hex()}}
        return judged("log.capture", args_of(), expect, answer, []).status

    assert log(b"submit attempt 1") == "pass"
    assert log(b"") == "fail"
    assert log(b"submit with key") == "fail"
    assert log(b"submit \x00\x01") == "fail"
    wrong = judged("log.capture", args_of(), expect, {"ok": {"log": "zz"}}, [])
    assert (wrong.status, wrong.sentence) == ("err-protocol", "tp.37")
    skip = judged("log.capture", args_of(), expect, {"skip": {"reason": "later"}}, [])
    assert (skip.status, skip.required) == ("skip", True)
