"""Batches: lines in, items out, each as a single submission of its line."""

from __future__ import annotations

from functools import partial
from typing import Any

from .. import judge
from ..judge import require
from ..records import OFF_D_HAT, OFF_REGIME, Submission, resigned, signed
from ..trial import BATCH, JSON, NDJSON, Absent, Trial, case
from ..wire import Connection, Header, Reply, request_bytes

NEEDS = "submit batch"
Item = dict[str, Any]


def _ask(trial: Trial, body: bytes, *more: Header) -> Reply:
    return trial.ask("POST", BATCH, [NDJSON, *more], body)


def _items(
    trial: Trial, *lines: bytes, end: bytes = b"\n", more: tuple[Header, ...] = ()
) -> list[Item]:
    """Send lines; give their items, one for each."""
    found = judge.items(_ask(trial, b"\n".join(lines) + end, *more))
    require(len(found) == len(lines), f"{len(lines)} lines have {len(found)} items")
    return found


def _rows(trial: Trial, count: int, **changes: str) -> list[Submission]:
    key = trial.key()
    return [trial.records.fresh(key, changes) for _ in range(count)]


def _statuses(found: list[Item], *expected: int) -> None:
    got = [item["status"] for item in found]
    require(got == list(expected), f"expected the statuses {list(expected)}, got {got}")


def _code(item: Item, status: int, code: str) -> None:
    require(item["status"] == status, f"expected {status} {code}, got {item['status']}")
    require(item["problem"]["code"] == code, f"expected {code}, got {item['problem']['code']}")


# --- lines and their ends ------------------------------------------------------------------------


@case("batch/8.1/1", "formats 8.1", needs=NEEDS)
def one_line(trial: Trial) -> None:
    """A batch of one line has one item, and the record is then a duplicate."""
    (one,) = _rows(trial, 1)
    (item,) = _items(trial, one.body)
    require(item["status"] == 200 and item["replayed"] is False, f"{item}")
    again = trial.send(one)
    judge.recorded(again, again=True)
    require(again.body == item["outcome"], "the single submission has another outcome")


@case("batch/8.1/2", "formats 8.1", needs=NEEDS)
def last_line_without_end(trial: Trial) -> None:
    """The end of the last line may be absent."""
    rows = _rows(trial, 2)
    _statuses(_items(trial, *(row.body for row in rows), end=b""), 200, 200)


@case("batch/8.1/3", "formats 8.1", needs=NEEDS)
def no_line(trial: Trial) -> None:
    """A batch without a line has an answer without an item."""
    require(judge.items(_ask(trial, b"")) == [], "items of nothing")


@case("batch/8.1/4", "formats 8.1", needs=NEEDS)
def empty_line(trial: Trial) -> None:
    """An empty line is a line: json_malformed."""
    one, two = _rows(trial, 2)
    found = _items(trial, one.body, b"", two.body, b"")
    _statuses(found, 200, 400, 200, 400)
    _code(found[1], 400, "json_malformed")
    (only,) = judge.items(_ask(trial, b"\n"))
    _code(only, 400, "json_malformed")


@case("batch/8.1/5", "formats 8.1", needs=NEEDS)
def carriage_return(trial: Trial) -> None:
    """A carriage return before the end of a line is white space of the record."""
    rows = _rows(trial, 2)
    found = judge.items(_ask(trial, b"".join(row.body + b"\r\n" for row in rows)))
    _statuses(found, 200, 200)


@case("batch/8.1/6", "formats 8.1", needs=NEEDS)
def space_around_a_record(trial: Trial) -> None:
    """White space around a record does not matter."""
    one, two = _rows(trial, 2)
    _statuses(_items(trial, b"  " + one.body, two.body + b"\t"), 200, 200)


@case("batch/8.1/7", "formats 8.1", needs=NEEDS)
def record_over_two_lines(trial: Trial) -> None:
    """A record does not go on in the next line."""
    one, two = _rows(trial, 2)
    half = len(one.body) // 2
    found = _items(trial, one.body[:half], one.body[half:], two.body)
    _statuses(found, 400, 400, 200)


@case("batch/8.1/8", "formats 8.1", needs=NEEDS)
def line_of_the_largest_size(trial: Trial) -> None:
    """A line of exactly the largest size is taken."""
    one, two = _rows(trial, 2)
    most = trial.features.limits.record_bytes
    _statuses(_items(trial, one.body.ljust(most), two.body), 200, 200)


@case("batch/8.3/1", "formats 8.3", needs=NEEDS)
def line_that_is_too_long(trial: Trial) -> None:
    """A line that is too long is payload_too_large and ends the batch."""
    one, two, after = _rows(trial, 3)
    long = two.body.ljust(trial.features.limits.record_bytes + 1)
    found = judge.items(_ask(trial, b"\n".join((one.body, long, after.body, b""))))
    _statuses(found, 200, 413)
    _code(found[1], 413, "payload_too_large")
    for row in (two, after):
        judge.recorded(trial.send(row))


@case("batch/8.3/2", "formats 8.3", needs=NEEDS)
def first_line_that_is_too_long(trial: Trial) -> None:
    """If the first line is too long no other is read."""
    one, after = _rows(trial, 2)
    long = one.body.ljust(trial.features.limits.record_bytes + 1)
    found = judge.items(_ask(trial, long + b"\n" + after.body + b"\n"))
    _statuses(found, 413)
    trial.unrecorded(after)


@case("batch/8.3/3", "formats 8.3", needs=NEEDS)
def largest_batch(trial: Trial) -> None:
    """A batch of the most lines has an item for each."""
    one, two = _rows(trial, 2)
    most = trial.features.limits.batch_lines
    found = _items(trial, one.body, *[b"{}"] * (most - 2), two.body)
    _statuses([found[0], found[-1]], 200, 200)
    require({item["status"] for item in found[1:-1]} == {422}, "an empty object was taken")


@case("batch/8.3/4", "formats 8.3", needs=NEEDS)
def one_line_too_many(trial: Trial) -> None:
    """One line too many is payload_too_large and ends the batch; those before it are taken."""
    one, two, after = _rows(trial, 3)
    most = trial.features.limits.batch_lines
    lines = [one.body, *[b"{}"] * (most - 2), two.body, after.body, after.body]
    found = judge.items(_ask(trial, b"\n".join(lines) + b"\n"))
    require(len(found) == most + 1, f"{len(found)} items")
    _statuses([found[0], found[most - 1]], 200, 200)
    _code(found[most], 413, "payload_too_large")
    trial.unrecorded(after)


@case("batch/8.1/9", "formats 8.1", needs=NEEDS)
def body_of_the_largest_size(trial: Trial) -> None:
    """A body of exactly the largest size is read."""
    (one,) = _rows(trial, 1)
    limits = trial.features.limits
    padding = [b" " * limits.record_bytes] * (limits.batch_bytes // (limits.record_bytes + 1))
    head = one.body + b"\n" + b"\n".join(padding)
    body = head[: limits.batch_bytes]
    found = judge.items(_ask(trial, body.ljust(limits.batch_bytes)))
    require(found[0]["status"] == 200, f"{found[0]}")


@case("batch/8.1/10", "formats 8.1", needs=NEEDS)
def body_that_is_too_large(trial: Trial) -> None:
    """A larger body is refused as a whole, and nothing of it is recorded."""
    (one,) = _rows(trial, 1)
    body = one.body + b"\n" * (trial.features.limits.batch_bytes + 1 - len(one.body))
    judge.refused(_ask(trial, body), 413, "payload_too_large")
    trial.unrecorded(one)


@case("batch/8.1/11", "formats 8.1", needs=NEEDS)
def other_media_type(trial: Trial) -> None:
    """Another media type than application/x-ndjson is 415, and nothing is recorded."""
    (one,) = _rows(trial, 1)
    for headers in ([JSON], [], [("Content-Type", "application/jsonl")]):
        reply = trial.ask("POST", BATCH, headers, one.body)
        judge.refused(reply, 415, "unsupported_media_type")
    reply = _ask(trial, one.body, ("Content-Encoding", "gzip"))
    judge.refused(reply, 415, "unsupported_media_type")
    trial.unrecorded(one)


@case("batch/8.1/12", "formats 8.1", needs=NEEDS)
def batch_to_submit(trial: Trial) -> None:
    """Lines sent to submit are one malformed record."""
    one, two = _rows(trial, 2)
    reply = trial.submit(one.body + b"\n" + two.body)
    judge.refused(reply, 400, "json_malformed")


@case("batch/8.1/13", "formats 8.1", needs=NEEDS)
def in_chunks(trial: Trial) -> None:
    """A batch may come in chunks that end anywhere."""
    rows = _rows(trial, 3)
    body = b"".join(row.body + b"\n" for row in rows)
    headers = [NDJSON, ("Transfer-Encoding", "chunked")]
    with Connection(trial.target) as wire:
        wire.send(request_bytes(trial.target, "POST", BATCH, headers))
        for i in range(0, len(body), 333):
            block = body[i : i + 333]
            wire.send(b"%x\r\n%b\r\n" % (len(block), block))
        wire.send(b"0\r\n\r\n")
        _statuses(judge.items(wire.reply()), 200, 200, 200)


# --- each line as a single submission ------------------------------------------------------------


@case("batch/8.2/1", "formats 8.2", needs=NEEDS)
def order_of_items(trial: Trial) -> None:
    """Items come in the order of the lines, also where their checks take unequal time."""
    slow, fast = trial.key("Ed25519"), None
    fast = next(trial.owner(slow).keys_with("HMAC"), slow)
    rows = [trial.records.fresh(slow if i % 2 else fast) for i in range(20)]
    found = _items(trial, *(row.body for row in rows))
    ids = [row.pcs_id for row in rows]
    got = [item["outcome"].decode().partition('"pcs_id":"')[2][:64] for item in found]
    require(got == ids, "the items stand in another order")


@case("batch/8.2/2", "formats 8.2", needs=NEEDS)
def duplicate_within(trial: Trial) -> None:
    """A record that stands twice is recorded once, and the second is its duplicate."""
    one, two = _rows(trial, 2)
    found = _items(trial, one.body, two.body, one.body, one.body)
    require([item["replayed"] for item in found] == [False, False, True, True], "replayed")
    for item in found[2:]:
        same = item["outcome"] == found[0]["outcome"] and item["position"] == found[0]["position"]
        require(same, "a duplicate has another outcome or position")


@case("batch/8.2/3", "formats 8.2", needs=NEEDS)
def duplicate_of_a_single(trial: Trial) -> None:
    """A line that was recorded before has the outcome and position of the first answer."""
    (one,) = _rows(trial, 1)
    first = trial.send(one)
    (item,) = _items(trial, one.body)
    require(item["replayed"] is True, "not a duplicate")
    require(item["outcome"] == first.body, "another outcome")
    require(item["position"] == first.header("pcs-position"), "another position")
    require(item["level"] == first.header("pcs-level"), "another level")


@case("batch/8.2/4", "formats 8.2", needs=NEEDS + " default-policy")
def escalated_lines(trial: Trial) -> None:
    """An escalated record has status 202, first and again."""
    rows = [*_rows(trial, 1, **OFF_D_HAT), *_rows(trial, 1, **OFF_REGIME), *_rows(trial, 1)]
    for again in (False, True):
        found = _items(trial, *(row.body for row in rows))
        _statuses(found, 202, 202, 200)
        require({item["replayed"] for item in found} == {again}, "replayed")


@case("batch/8.2/5", "formats 8.2", needs=NEEDS)
def conflict_within(trial: Trial) -> None:
    """Of two contents under one id in a batch the first is recorded."""
    (one,) = _rows(trial, 1)
    other = resigned(one, one.key, {"budget": "0.357"})
    found = _items(trial, one.body, other.body, one.body)
    _statuses(found, 200, 409, 200)
    _code(found[1], 409, "pcs_id_conflict")
    again = trial.send(one)
    judge.recorded(again, again=True)
    require(again.body == found[0]["outcome"], "the first outcome is gone")


@case("batch/8.2/6", "formats 8.2", needs=NEEDS)
def conflict_with_a_single(trial: Trial) -> None:
    """Other content than that of an earlier single submission is 409, the rest is taken."""
    one, two = _rows(trial, 2)
    first = trial.send(one)
    other = resigned(one, one.key, {"budget": "0.358"})
    _statuses(_items(trial, other.body, two.body), 409, 200)
    trial.stands(one, first)


@case("batch/8.2/7", "formats 8.2", needs=NEEDS)
def batch_again(trial: Trial) -> None:
    """The same batch again has the same outcomes, all replayed."""
    rows = _rows(trial, 10)
    first, second = (_items(trial, *(row.body for row in rows)) for _ in range(2))
    for before, after in zip(first, second, strict=True):
        require(after["replayed"] is True and before["replayed"] is False, "replayed")
        require(before["outcome"] == after["outcome"], "another outcome")
        require(before["position"] == after["position"], "another position")


@case("batch/8.2/8", "formats 8.2", needs=NEEDS)
def batches_at_once(trial: Trial) -> None:
    """Eight equal batches at once record every line once."""
    rows = _rows(trial, 10)
    bodies = [row.body for row in rows]
    answers = trial.at_once([lambda: _items(trial, *bodies)] * 8)
    for column in zip(*answers, strict=True):
        firsts = sum(item["replayed"] is False for item in column)
        require(firsts == 1, f"a line was first {firsts} times")
        require(len({item["outcome"] for item in column}) == 1, "a line has two outcomes")


@case("batch/8.2/9", "formats 8.2", needs=NEEDS)
def batch_and_singles_at_once(trial: Trial) -> None:
    """A batch and single submissions of its lines at once record every line once."""
    rows = _rows(trial, 16)
    jobs: list[Any] = [lambda: _items(trial, *(row.body for row in rows))]
    jobs += [partial(trial.send, row) for row in rows]
    found, *singles = trial.at_once(jobs)
    for item, single in zip(found, singles, strict=True):
        judge.recorded(single, again=None)
        firsts = (item["replayed"] is False) + (not judge.replayed(single))
        require(firsts == 1, f"a line was first {firsts} times")
        require(item["outcome"] == single.body, "a line has two outcomes")


@case("batch/8.2/10", "formats 8.2", needs=NEEDS + " get")
def batch_is_read(trial: Trial) -> None:
    """What a batch recorded can be read."""
    tenant = trial.reader()
    rows = [trial.records.fresh(next(tenant.keys_with())) for _ in range(5)]
    for row, item in zip(rows, _items(trial, *(row.body for row in rows)), strict=True):
        require(trial.get(row.pcs_id, tenant).body == item["outcome"], "GET has another body")


@case("batch/8.2/11", "formats 8.2", needs=NEEDS)
def positions_in_a_batch(trial: Trial) -> None:
    """The records of a batch stand in their stream in the order of the lines."""
    found = _items(trial, *(row.body for row in _rows(trial, 10)))
    places = [int(item["position"].rpartition("/")[2]) for item in found]
    require(places == sorted(set(places)), f"positions {places}")


@case("batch/8.2/12", "formats 8.2", needs=NEEDS)
def versions_in_a_batch(trial: Trial) -> None:
    """Lines of both versions stand beside each other."""
    key = trial.key(version=1)
    rows = [trial.records.fresh(key, version=1 + i % 2) for i in range(4)]
    _statuses(_items(trial, *(row.body for row in rows)), 200, 200, 200, 200)


@case("batch/4.3/1", "formats 4.3", needs=NEEDS)
def level_of_a_batch(trial: Trial) -> None:
    """A level that is not reached is 503 with the position in every item."""
    rows = _rows(trial, 2)
    more = (("PCS-Min-Ack", "witnessed"),)
    found = _items(trial, *(row.body for row in rows), more=more)
    if {item["status"] for item in found} == {200}:
        return
    _statuses(found, 503, 503)
    for row, item in zip(rows, found, strict=True):
        place = str(item["problem"].get("position"))
        require(judge.POSITION.fullmatch(place), f"position {place!r}")
        judge.recorded(trial.send(row), again=True)


@case("batch/4.3/2", "formats 4.3", needs=NEEDS)
def unknown_level_of_a_batch(trial: Trial) -> None:
    """Another word for a level is bad_request for the whole batch."""
    (one,) = _rows(trial, 1)
    judge.refused(_ask(trial, one.body, ("PCS-Min-Ack", "engraved")), 400, "bad_request")
    trial.unrecorded(one)


# --- one bad line spoils no other ----------------------------------------------------------------


def _spoiled(number: int, name: str, status: int, code: str, spoil: Any) -> None:
    def run(trial: Trial) -> None:
        before, bad, after = _rows(trial, 3)
        line = spoil(bad)
        found = _items(trial, before.body, line, after.body)
        _statuses(found, 200, status, 200)
        _code(found[1], status, code)
        judge.recorded(trial.send(bad))

    run.__doc__ = f"A line with {name} is {status} {code}, and the lines beside it are taken."
    case(f"batch/8.2/{number}", "formats 8.2", needs=NEEDS)(run)


_SPOILS: tuple[tuple[str, int, str, Any], ...] = (
    ("half a record", 400, "json_malformed", lambda one: one.body[: len(one.body) // 2]),
    ("an array", 400, "json_malformed", lambda one: b"[" + one.body + b"]"),
    ("two records", 400, "json_malformed", lambda one: one.body + one.body),
    ("a byte order mark", 400, "json_malformed", lambda one: b"\xef\xbb\xbf" + one.body),
    ("a NUL", 400, "json_malformed", lambda one: one.body + b"\0"),
    ("bytes that are no UTF-8", 400, "json_malformed", lambda one: one.altered(r="0.5")[:-1]
     + b',"\xff":1}'),
    ("a name twice", 400, "member_duplicate", lambda one: one.body[:-1] + b',"seed":0}'),
    ("a surrogate", 400, "string_surrogate", lambda one: one.altered(shard_id='"\\ud800"')),
    ("depth", 400, "json_limit", lambda one: one.altered(ft="[" * 40 + "]" * 40)),
    ("an unknown member", 422, "member_unknown", lambda one: one.altered(extra="1")),
    ("a missing member", 422, "member_missing", lambda one: one.altered(seed=None)),
    ("a number out of range", 422, "number_out_of_range", lambda one: one.altered(r="1.5")),
    ("a foreign id", 422, "pcs_id_mismatch", lambda one: one.altered(pcs_id=f'"{"0" * 64}"')),
    ("another schema", 422, "schema_unsupported", lambda one: one.altered(version='"9"')),
    ("a bad signature", 401, "signature_invalid", lambda one: one.altered(budget="0.359")),
    ("a signature of no form", 401, "signature_malformed", lambda one: one.altered(sig='"x"')),
    ("an unknown kid", 401, "kid_unknown", lambda one: one.altered(kid='"nobody-knows-me"')),
    ("the algorithm none", 401, "alg_mismatch", lambda one: one.altered(alg='"none"')),
    ("another sig_v", 401, "sig_version_unsupported", lambda one: one.altered(sig_v="3")),
)  # fmt: skip
for _number, _spoil in enumerate(_SPOILS, 13):
    _spoiled(_number, *_spoil)


# --- all lines are of one tenant -----------------------------------------------------------------


@case("batch/8.4/1", "formats 8.4", needs=NEEDS)
def lines_of_two_tenants(trial: Trial) -> None:
    """A line of another tenant than the first is tenant_mismatch, and is not recorded."""
    mine, theirs = (next(tenant.keys_with()) for tenant in trial.two_tenants())
    one, two, three = (trial.records.fresh(key) for key in (mine, theirs, mine))
    found = _items(trial, one.body, two.body, three.body)
    _statuses(found, 200, 403, 200)
    _code(found[1], 403, "tenant_mismatch")
    judge.recorded(trial.send(two))


@case("batch/8.4/2", "formats 8.4", needs=NEEDS)
def first_authentic_line_decides(trial: Trial) -> None:
    """A line that is not authentic does not say whose batch it is."""
    mine, theirs = (next(tenant.keys_with()) for tenant in trial.two_tenants())
    forged = trial.records.fresh(theirs).altered(budget="0.351")
    one, two = trial.records.fresh(mine), trial.records.fresh(theirs)
    found = _items(trial, forged, one.body, two.body)
    _statuses(found, 401, 200, 403)


@case("batch/8.4/3", "formats 8.4", needs=NEEDS)
def header_names_the_tenant(trial: Trial) -> None:
    """With X-Tenant-Id every line is of that tenant or refused."""
    mine, theirs = trial.two_tenants()
    one = trial.records.fresh(next(mine.keys_with()))
    two = trial.records.fresh(next(theirs.keys_with()))
    found = _items(trial, one.body, two.body, more=(("X-Tenant-Id", theirs.id),))
    require(found[0]["status"] == 403 and found[1]["status"] == 200, f"{found}")


@case("batch/8.4/4", "formats 8.4", needs=NEEDS)
def default_key_in_a_batch(trial: Trial) -> None:
    """A version-1 line without kid has the default key of X-Tenant-Id."""
    tenant = next((t for t in trial.features.ordinary if t.v1_default_kid), None)
    if tenant is None or tenant.min_version != 1:
        raise Absent("no tenant has v1_default")
    key = next(key for key in tenant.keys if key.kid == tenant.v1_default_kid)
    one = signed(trial.records.members(), key, version=1, named=False)
    (without,) = _items(trial, one.body)
    _code(without, 401, "kid_unknown")
    (named,) = _items(trial, one.body, more=(("X-Tenant-Id", tenant.id),))
    require(named["status"] == 200, f"{named}")


@case("batch/8.4/5", "formats 8.4", needs=NEEDS)
def same_record_of_two_tenants(trial: Trial) -> None:
    """A record that one tenant sent in a batch is new to another tenant's batch."""
    mine, theirs = (next(tenant.keys_with()) for tenant in trial.two_tenants())
    one = trial.records.fresh(mine)
    other = resigned(one, theirs)
    for row in (one, other):
        (item,) = _items(trial, row.body)
        require(item["status"] == 200 and item["replayed"] is False, f"{item}")
