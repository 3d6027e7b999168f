"""Entries for the vectors of retries, endpoints, requests, responses and the outbox."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from vector_held import stepped
from vector_signing import Answer, bits, double

from fractal_lba.endpoints import Endpoint, FailoverPolicy, Fleet
from fractal_lba.errors import FractalLBAError, error_for
from fractal_lba.http import (
    RawResponse,
    Request,
    health_request,
    join_headers,
    outcome_request,
    read_outcome,
    read_response,
    read_submitted,
    submit_request,
)
from fractal_lba.outbox import DEAD_LOG, Letter, Recovery, first_id_of, read_frame
from fractal_lba.outcome import Outcome, Submitted
from fractal_lba.region_status import status_request
from fractal_lba.retry import (
    Result,
    RetryPolicy,
    Wait,
    parse_retry_after,
    parse_should_retry,
    plan,
)
from fractal_lba.secret import Secret


class NotOurs(Exception):  # noqa: N818 - an answer, not a fault
    """Say that a case is for another kind of testee."""


# --- retry ---------------------------------------------------------------------------------


def policy_of(value: str | Mapping[str, str]) -> RetryPolicy:
    if isinstance(value, str):
        return {"default": RetryPolicy.default, "none": RetryPolicy.none}[value]
    return RetryPolicy(**{name: int(number) for name, number in value.items()})


def planned(args: dict[str, Any], result: Result) -> Answer:
    followed = plan(
        policy_of(args["policy"]),
        result,
        int(args["attempt"]),
        double(args["u"]),
        int(args["now_ms"]),
        int(args["deadline_ms"]),
        int(args["quota"]),
        args["alternate"] == "true",
    )
    if isinstance(followed, Wait):
        return {"wait_ms": str(followed.wait_ms), "quota": str(followed.quota)}
    return {"stop": followed.reason, "quota": str(followed.quota)}


def fields_of(args: dict[str, Any]) -> list[tuple[str, str]]:
    return [(name, value) for name, value in args["outcome"]["headers"]]


def plan_by_parts(args: dict[str, Any]) -> Answer:
    headers = join_headers(fields_of(args))
    after = [value for name, value in fields_of(args) if name.lower() == "retry-after"]
    result = Result(
        status=int(args["outcome"]["status"]) or None,
        code=args["outcome"].get("error"),
        retry_after_ms=parse_retry_after(after, headers.get("date"), int(args["now_ms"])),
        should_retry=parse_should_retry(headers.get("x-should-retry")),
    )
    return planned(args, result)


def plan_by_response(args: dict[str, Any]) -> Answer:
    """The way of a client: bytes in, an error out, and from that what decides."""
    outcome = args["outcome"]
    if "error" in outcome:
        error = error_for(outcome["error"], "x", status=int(outcome["status"]) or None)
        return planned(args, Result.of_error(error))
    raw = RawResponse(int(outcome["status"]), fields_of(args), b"")
    try:
        read_response(raw, now_ms=int(args["now_ms"]))
    except FractalLBAError as error:
        return planned(args, Result.of_error(error))
    return planned(args, Result(status=raw.status))


def after_by_values(args: dict[str, Any]) -> Answer:
    wait_ms = parse_retry_after(args["values"], args.get("date"), int(args["now_ms"]))
    return {"none": "true"} if wait_ms is None else {"ms": str(wait_ms)}


def after_by_response(args: dict[str, Any]) -> Answer:
    fields = [("Retry-After", value) for value in args["values"]]
    if "date" in args:
        fields.append(("Date", args["date"]))
    with pytest.raises(FractalLBAError) as caught:
        read_response(RawResponse(503, fields, b""), now_ms=int(args["now_ms"]))
    wait_ms = caught.value.retry_after_ms
    return {"none": "true"} if wait_ms is None else {"ms": str(wait_ms)}


def fleet_of(args: dict[str, Any]) -> Fleet:
    options = dict(args["options"])
    regions = options.pop("allowed_regions", None)
    numbers = {name: None if text == "none" else int(text) for name, text in options.items()}
    policy = FailoverPolicy(
        allowed_regions=None if regions is None else frozenset(regions),
        **numbers,  # type: ignore[arg-type] # only failback_after_ms is ever none
    )
    return Fleet.of([Endpoint(e["url"], e.get("region")) for e in args["endpoints"]], policy)


def fleet_by_events(args: dict[str, Any]) -> Answer:
    """Play a history; a client keeps the hops of a call, and asks where its retry goes."""
    fleet, hops, steps = fleet_of(args), 0, []
    for event in args["events"]:
        now_ms, u = int(event["at_ms"]), double(event.get("u", "3fe0000000000000"))
        alternate = False
        if event["event"] == "call":
            fleet, hops = fleet.begun(now_ms=now_ms, u=u), 0
        elif event["event"] == "probe":
            good = event["ok"] == "true"
            fleet = fleet.probed(int(event["endpoint"]), good, now_ms=now_ms, u=u)
        else:
            sender, result = int(event["endpoint"]), result_of(event)
            fleet = fleet.attempted(sender, result, now_ms=now_ms, u=u)
            target = fleet.next_for(sender, result)
            if result.status in (421, 423) and "hint" in event:
                epoch = int(event["hint_epoch"])
                followed = fleet.hinted(event["hint"], epoch, hops=hops, now_ms=now_ms, u=u)
                if followed is not None:
                    fleet, hops, target = followed, hops + 1, followed.current
            assert target == fleet.current
            alternate = target != sender
        steps.append(
            {
                "current": str(fleet.current),
                "states": [state.name for state in fleet.states],
                "alternate": "true" if alternate else "false",
            }
        )
    return {"steps": steps}


def result_of(event: Mapping[str, str]) -> Result:
    text = event["result"]
    asked = event.get("retry_after_ms")
    return Result(
        status=int(text) if text.isdigit() else None,
        code=None if text.isdigit() else text,
        retry_after_ms=None if asked is None else int(asked),
        sent=event["sent"] == "true",
    )


# --- http ----------------------------------------------------------------------------------


def request_by_kind(args: dict[str, Any]) -> Answer:
    tenant, attempt = args.get("tenant"), int(args["attempt"])
    token = args.get("token")
    if args["request"] == "submit":
        request = submit_request(
            args["endpoint"],
            bytes.fromhex(args["body"]),
            idempotency_key=args["content"],
            agent=args["agent"],
            tenant=tenant,
            attempt=attempt,
            min_ack=args.get("min_ack"),
        )
    elif args["request"] == "get":
        request = outcome_request(
            args["endpoint"],
            args["pcs_id"],
            agent=args["agent"],
            tenant=tenant,
            attempt=attempt,
            token=None if token is None else Secret(token),
        )
    elif args["request"] == "status":
        request = status_request(
            args["endpoint"], agent=args["agent"], token=Secret(token or ""), tenant=tenant
        )
    else:
        request = health_request(args["endpoint"], agent=args["agent"])
    return request_answer(request)


def request_at_endpoint(args: dict[str, Any]) -> Answer:
    """A client sends to the URL as `Endpoint` writes it; only default ports may differ."""
    url = Endpoint(args["endpoint"]).url
    answer = request_by_kind({**args, "endpoint": url})
    plain = args["endpoint"].removesuffix("/").removesuffix(":80")
    assert url == plain
    return {**answer, "url": answer["url"].replace(url, args["endpoint"].removesuffix("/"), 1)}


def request_answer(request: Request) -> Answer:
    headers = sorted([name.lower(), value] for name, value in request.headers)
    return {
        "method": request.method,
        "url": request.url,
        "headers": headers,
        "body": request.body.hex(),
    }


def raw_of(args: dict[str, Any]) -> RawResponse:
    fields = [(name, value) for name, value in args["headers"]]
    return RawResponse(int(args["status"]), fields, bytes.fromhex(args["body"]))


def response_by_kind(args: dict[str, Any]) -> Answer:
    response = read_response(raw_of(args), now_ms=0)
    if args["request"] == "get":
        answer: Answer = {"outcome": outcome_answer(read_outcome(response, args["pcs_id"]))}
    else:
        submitted = read_submitted(response, args["pcs_id"])
        answer = {
            "outcome": outcome_answer(submitted.outcome),
            "replayed": "true" if submitted.replayed else "false",
            "level": submitted.level,
        }
        answer |= places_of(submitted)
    if response.request_id is not None:
        answer["request_id"] = response.request_id
    return answer


def places_of(submitted: Submitted) -> Answer:
    """Write the positions that came with an answer."""
    places = {"position": submitted.position, "replicated": submitted.replicated}
    return {
        name: {
            "region": place.region, "placement": place.placement,
            "region_epoch": str(place.region_epoch), "seq": str(place.seq),
        }
        for name, place in places.items()
        if place is not None
    }  # fmt: skip


def outcome_answer(outcome: Outcome) -> Answer:
    members = outcome.to_dict()
    for name in ("accepted", "escalated"):
        members[name] = "true" if members[name] else "false"
    for name in ("recomputed_D_hat", "recomputed_budget"):
        members[name] = bits(members[name])
    return members


def mapped_by_response(args: dict[str, Any]) -> Answer:
    with pytest.raises(FractalLBAError) as caught:
        read_response(raw_of(args), now_ms=int(args["now_ms"]))
    error = caught.value
    assert error.body.hex() == args["body"]
    facts = {
        "request_id": error.request_id,
        "pointer": error.pointer,
        "retry_after_ms": error.retry_after_ms,
    }
    return {
        "class": type(error).__name__,
        "code": error.code,
        "fault": error.fault,
        "retryable": "true" if Result.of_error(error).retryable else "false",
        **{name: str(value) for name, value in facts.items() if value is not None},
    }


# --- outbox --------------------------------------------------------------------------------


def recovered(args: dict[str, Any]) -> Answer:
    files = {name: bytes.fromhex(data) for name, data in args["files"].items()}
    logs = sorted(name for name in files if first_id_of(name) is not None)
    found = Recovery()
    for name in logs:
        found.feed(name, files[name], last=name == logs[-1])
    if DEAD_LOG in files:
        found.feed_dead(files[DEAD_LOG])
    entries = []
    for _, entry in sorted(found.entries.items()):
        framed = read_frame(files[entry.file], entry.offset)
        assert framed is not None
        assert framed.length == entry.length
        put = Letter.of(framed.value).frame()
        body = put.pop("body").encode().hex()
        hold = {} if entry.hold is None else {"hold": str(entry.hold)}
        entries.append({"body": body, **hold, **{k: str(v) for k, v in put.items() if k != "t"}})
    return {
        "entries": entries,
        "dead": sorted(found.dead),
        "corrupt": sorted(found.corrupt),
        "cuts": sorted([name, str(size)] for name, size in found.cuts.items()),
        "unreadable": str(found.unreadable),
        "next_id": f"{found.next_id:016x}",
    }


def checksum(args: dict[str, Any]) -> Answer:
    return {"value": f"{zlib.crc32(bytes.fromhex(args['bytes'])):08x}"}


def of_a_server(args: dict[str, Any]) -> Answer:
    """Sessions of a server's tests play these; nothing of an SDK reaches them."""
    assert args
    raise NotOurs


ENTRIES: dict[str, tuple[Callable[[dict[str, Any]], Answer], ...]] = {
    "retry.plan": (plan_by_parts, plan_by_response),
    "retry.after": (after_by_values, after_by_response),
    "endpoint.plan": (fleet_by_events,),
    "http.request": (request_by_kind, request_at_endpoint),
    "http.response": (response_by_kind,),
    "errors.map": (mapped_by_response,),
    "outbox.recover": (recovered,),
    "outbox.step": (stepped,),
    "checksum.crc32": (checksum,),
    "checksum.crc32c": (of_a_server,),
    "http.submit": (of_a_server,),
    "http.batch": (of_a_server,),
}
