"""Operations of waits, endpoints, messages and the outbox (`PROTOCOL.md` section 5)."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Mapping

from signing import Members, bits, double

from fractal_lba.endpoints import Endpoint, FailoverPolicy, Fleet
from fractal_lba.errors import FractalLBAError
from fractal_lba.http import (
    RawResponse,
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

HALF = "3fe0000000000000"


def text_of(flag: bool) -> str:
    """Write a boolean."""
    return "true" if flag else "false"


# --- waits and endpoints -----------------------------------------------------------------------


def policy_of(value: str | Mapping[str, str]) -> RetryPolicy:
    """Read a retry policy."""
    if isinstance(value, str):
        return {"default": RetryPolicy.default, "none": RetryPolicy.none}[value]
    return RetryPolicy(**{name: int(number) for name, number in value.items()})


def planned(args: Members) -> Members:
    """retry.plan."""
    outcome, now_ms = args["outcome"], int(args["now_ms"])
    fields = [(name, value) for name, value in outcome["headers"]]
    headers = join_headers(fields)
    after = [value for name, value in fields if name.lower() == "retry-after"]
    result = Result(
        status=int(outcome["status"]) or None,
        code=outcome.get("error"),
        retry_after_ms=parse_retry_after(after, headers.get("date"), now_ms),
        should_retry=parse_should_retry(headers.get("x-should-retry")),
    )
    followed = plan(
        policy_of(args["policy"]), result, int(args["attempt"]), double(args["u"]), now_ms,
        int(args["deadline_ms"]), int(args["quota"]), args["alternate"] == "true",
    )  # fmt: skip
    if isinstance(followed, Wait):
        return {"wait_ms": str(followed.wait_ms), "quota": str(followed.quota)}
    return {"stop": followed.reason, "quota": str(followed.quota)}


def retry_after(args: Members) -> Members:
    """retry.after."""
    wait_ms = parse_retry_after(args["values"], args.get("date"), int(args["now_ms"]))
    return {"none": "true"} if wait_ms is None else {"ms": str(wait_ms)}


def failover_of(options: Members) -> FailoverPolicy:
    """Read a failover policy."""
    given = dict(options)
    regions = given.pop("allowed_regions", None)
    numbers: Members = {k: None if v == "none" else int(v) for k, v in given.items()}
    allowed = None if regions is None else frozenset(regions)
    return FailoverPolicy(allowed_regions=allowed, **numbers)


def endpoint_plan(args: Members) -> Members:
    """endpoint.plan."""
    endpoints = [Endpoint(each["url"], each.get("region")) for each in args["endpoints"]]
    fleet, hops, steps = Fleet.of(endpoints, failover_of(args["options"])), 0, []
    for event in args["events"]:
        now_ms, u = int(event["at_ms"]), double(event.get("u", HALF))
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
                hinted = fleet.hinted(event["hint"], epoch, hops=hops, now_ms=now_ms, u=u)
                if hinted is not None:
                    fleet, hops, target = hinted, hops + 1, hinted.current
            alternate = target != sender
        states = [state.name for state in fleet.states]
        current = str(fleet.current)
        steps.append({"current": current, "states": states, "alternate": text_of(alternate)})
    return {"steps": steps}


def result_of(event: Mapping[str, str]) -> Result:
    """Read the result of an attempt."""
    text, asked = event["result"], event.get("retry_after_ms")
    return Result(
        status=int(text) if text.isdigit() else None,
        code=None if text.isdigit() else text,
        retry_after_ms=None if asked is None else int(asked),
        sent=event["sent"] == "true",
    )


# --- messages ----------------------------------------------------------------------------------


def request(args: Members) -> Members:
    """http.request."""
    endpoint, agent = args["endpoint"], args["agent"]
    tenant, attempt = args.get("tenant"), int(args["attempt"])
    if args["request"] == "submit":
        made = submit_request(
            endpoint, bytes.fromhex(args["body"]), idempotency_key=args["content"], agent=agent,
            tenant=tenant, attempt=attempt, min_ack=args.get("min_ack"),
        )  # fmt: skip
    elif args["request"] == "get":
        token = Secret(args["token"]) if "token" in args else None
        made = outcome_request(
            endpoint, args["pcs_id"], agent=agent, tenant=tenant, attempt=attempt, token=token
        )
    elif args["request"] == "status":
        made = status_request(endpoint, agent=agent, token=Secret(args["token"]), tenant=tenant)
    else:
        made = health_request(endpoint, agent=agent)
    headers = sorted([name.lower(), value] for name, value in made.headers)
    return {"method": made.method, "url": made.url, "headers": headers, "body": made.body.hex()}


def raw_of(args: Members) -> RawResponse:
    """Read a response as a transport gives it."""
    fields = [(name, value) for name, value in args["headers"]]
    return RawResponse(int(args["status"]), fields, bytes.fromhex(args["body"]))


def response(args: Members) -> Members:
    """http.response."""
    read = read_response(raw_of(args), now_ms=0)
    if args["request"] == "get":
        answer: Members = {"outcome": outcome_answer(read_outcome(read, args["pcs_id"]))}
    else:
        answer = submitted_answer(read_submitted(read, args["pcs_id"]))
    return answer if read.request_id is None else {**answer, "request_id": read.request_id}


def submitted_answer(submitted: Submitted) -> Members:
    """Write what a submit gave."""
    answer: Members = {
        "outcome": outcome_answer(submitted.outcome),
        "replayed": text_of(submitted.replayed),
        "level": submitted.level,
    }
    for name, place in (("position", submitted.position), ("replicated", submitted.replicated)):
        if place is not None:
            answer[name] = {
                "region": place.region, "placement": place.placement,
                "region_epoch": str(place.region_epoch), "seq": str(place.seq),
            }  # fmt: skip
    return answer


def outcome_answer(outcome: Outcome) -> Members:
    """Write an outcome."""
    members = outcome.to_dict()
    for name in ("accepted", "escalated"):
        members[name] = text_of(members[name])
    for name in ("recomputed_D_hat", "recomputed_budget"):
        members[name] = bits(members[name])
    return members


def mapped(args: Members) -> Members:
    """errors.map."""
    try:
        read_response(raw_of(args), now_ms=int(args["now_ms"]))
    except FractalLBAError as error:
        facts = {
            "request_id": error.request_id, "pointer": error.pointer,
            "retry_after_ms": error.retry_after_ms,
        }  # fmt: skip
        return {
            "class": type(error).__name__,
            "code": error.code,
            "fault": error.fault,
            "retryable": text_of(Result.of_error(error).retryable),
            **{name: str(value) for name, value in facts.items() if value is not None},
        }
    return {"class": "none"}


# --- outbox ------------------------------------------------------------------------------------


def recovered(args: Members) -> Members:
    """outbox.recover."""
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


def crc32(args: Members) -> Members:
    """checksum.crc32."""
    return {"value": f"{zlib.crc32(bytes.fromhex(args['bytes'])):08x}"}


OPS: dict[str, Callable[[Members], Members]] = {
    "retry.plan": planned,
    "retry.after": retry_after,
    "endpoint.plan": endpoint_plan,
    "http.request": request,
    "http.response": response,
    "errors.map": mapped,
    "outbox.recover": recovered,
    "checksum.crc32": crc32,
}
