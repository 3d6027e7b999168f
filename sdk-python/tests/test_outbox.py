"""The outbox's format: frames, recovery, space, and the rule of the lock."""

# tidy: long because a reason stands beside what it excuses

from __future__ import annotations

import json
import zlib
from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fractal_lba.outbox import (
    DEAD_LOG,
    FILE_BYTES,
    LOCK_SETTLE_MS,
    MAX_FRAME_BYTES,
    DeadLetter,
    Entry,
    Letter,
    Owner,
    Recovery,
    Space,
    encode,
    first_id_of,
    is_stale,
    log_name,
    read_frame,
    scan,
    sent_at_ms,
)

LETTER = Letter(
    id="0000000000000001", pcs_id="a" * 64, key="b" * 64, kid="k1", tenant="acme",
    at_ms=1_767_225_600_000, body='{"a":"\\u0000 \u00e9 \u2028"}'.encode(),
)  # fmt: skip


def put(number: int, **changes: object) -> bytes:
    return encode(replace(LETTER, id=f"{number:016x}", **changes).frame())  # type: ignore[arg-type]  # members of any type


def mark(t: str, number: int, **facts: str) -> bytes:
    return encode({"t": t, "id": f"{number:016x}", **facts})


def recovered(*files: bytes, dead: bytes | None = None) -> Recovery:
    recovery = Recovery()
    for number, data in enumerate(files, 1):
        recovery.feed(log_name(number), data, last=number == len(files))
    if dead is not None:
        recovery.feed_dead(dead)
    return recovery


def live(recovery: Recovery) -> list[int]:
    return sorted(int(id, 16) for id in recovery.entries)


# --- frames --------------------------------------------------------------------------------


def test_the_checksum_is_the_one_of_the_format() -> None:
    assert zlib.crc32(b"123456789") == 0xCBF43926


def test_a_frame_is_length_checksum_and_json() -> None:
    frame = mark("ack", 1, status="200")
    text = b'{"t":"ack","id":"0000000000000001","status":"200"}'
    assert frame == len(text).to_bytes(4) + zlib.crc32(text).to_bytes(4) + text


letters = st.builds(
    Letter,
    id=st.integers(1, 2**64 - 1).map(lambda number: f"{number:016x}"),
    pcs_id=st.text("0123456789abcdef", min_size=64, max_size=64),
    key=st.text("0123456789abcdef", min_size=64, max_size=64),
    kid=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    tenant=st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20),
    at_ms=st.integers(1 - 2**53, 2**53 - 1),
    body=st.text(st.characters(exclude_categories=["Cs"]), max_size=300).map(str.encode),
    came_from=st.none() | st.just("0000000000000009"),
)


@given(letters)
def test_a_letter_comes_back_with_the_same_bytes(letter: Letter) -> None:
    framed = read_frame(encode(letter.frame()))
    assert framed is not None
    assert Letter.of(framed.value) == letter


@given(letters, st.none() | st.integers(100, 599), st.text(max_size=50))
def test_a_dead_letter_comes_back_whole(letter: Letter, status: int | None, text: str) -> None:
    text = text.encode("utf-8", "replace").decode()
    dead = DeadLetter(letter, status, "pcs_id_conflict", text, text)
    framed = read_frame(encode(dead.frame()))
    assert framed is not None
    assert DeadLetter.of(framed.value) == dead


@pytest.mark.parametrize(
    "value",
    [
        [], "put", {}, {"t": "put"}, {"t": "other", "id": "0" * 16}, {"t": "ack"},
        {"t": "ack", "id": "1"}, {"t": "ack", "id": "G" * 16}, {"t": "ack", "id": 1},
        {**LETTER.frame(), "body": 1}, {**LETTER.frame(), "at": "1"},
        {**LETTER.frame(), "at": True}, {**LETTER.frame(), "kid": 7},
        {key: value for key, value in LETTER.frame().items() if key != "key"},
    ],
)  # fmt: skip
def test_an_unknown_frame_is_damage(value: object) -> None:
    text = json.dumps(value).encode()
    data = len(text).to_bytes(4) + zlib.crc32(text).to_bytes(4) + text
    assert read_frame(data) is None


def framed(text: bytes) -> bytes:
    return len(text).to_bytes(4) + zlib.crc32(text).to_bytes(4) + text


@pytest.mark.parametrize("text", [b"{", b"\xff\xfe", b'{"t":"ack"'])
def test_a_frame_that_is_no_json_is_damage(text: bytes) -> None:
    assert read_frame(framed(text)) is None


@pytest.mark.parametrize(
    "text",
    [
        b'{"t":"ack","id":"0000000000000001","id":"0000000000000002"}',
        b'{"t":"ack","id":"0000000000000001","x":{"a":1,"a":1}}',
        b'{"t":"ack","id":"0000000000000001","x":NaN}',
        b'{"t":"ack","id":"0000000000000001","x":"\\ud800"}',
        b'{"id":"0000000000000001","t":"ack"}',
        b'{ "t":"ack","id":"0000000000000001"}',
        *(
            b'{"t":"put","id":"0000000000000001","pcs_id":"","key":"","body":%b,"at":%b}' % each
            for each in (
                (b'"\\ud800"', b"1"), (b'""', b"9007199254740992"), (b'""', b"-0"),
                (b'""', b"-9007199254740992"), (b'""', b"1e3"), (b'""', b"1.0"),
            )
        ),
    ],
)  # fmt: skip
def test_a_frame_is_read_as_strictly_as_a_record(text: bytes) -> None:
    assert read_frame(framed(text)) is None
    assert live(recovered(put(1) + framed(text) + put(2))) == [1, 2]


def test_zeros_are_no_frames() -> None:
    assert scan(bytes(4096)).gaps == ((0, 4096),)


def test_a_length_beyond_the_limit_is_damage() -> None:
    text = b'{"t":"ack","id":"0000000000000001","x":"' + b"y" * MAX_FRAME_BYTES + b'"}'
    assert read_frame(len(text).to_bytes(4) + zlib.crc32(text).to_bytes(4) + text) is None


@pytest.mark.parametrize(
    "frame",
    [
        {"t": "dead", "id": "0" * 16}, {"t": "dead", "id": "0" * 16, "put": {"t": "ack"}},
        {**DeadLetter(LETTER, 409, "c", "r", "x").frame(), "code": 1},
        {**DeadLetter(LETTER, 409, "c", "r", "x").frame(), "status": "4x9"},
        {**DeadLetter(LETTER, 409, "c", "r", "x").frame(), "status": 409},
    ],
)  # fmt: skip
def test_a_dead_frame_without_its_members_is_no_dead_letter(frame: dict[str, object]) -> None:
    assert DeadLetter.of(frame) is None


# --- recovery ------------------------------------------------------------------------------


def test_what_was_put_is_live_until_it_is_acknowledged_dead_or_released() -> None:
    data = b"".join(put(number) for number in range(1, 8))
    marks = mark("ack", 1) + mark("dead", 2) + mark("release", 3) + mark("sent", 4)
    recovery = recovered(data + marks + mark("hold", 5))
    assert live(recovery) == [4, 5, 6, 7]
    assert recovery.next_id == 8
    assert (recovery.cuts, recovery.corrupt, recovery.unreadable) == ({}, [], 0)


def test_a_mark_for_an_entry_of_an_older_file_counts() -> None:
    assert live(recovered(put(1) + put(2), mark("ack", 1))) == [2]


def test_the_place_of_an_entry_is_that_of_its_last_put() -> None:
    recovery = recovered(put(1), put(2) + put(1))
    entry = recovery.entries["0000000000000001"]
    assert (entry.file, entry.offset) == (log_name(2), len(put(2)))


def test_a_torn_tail_is_cut_at_every_byte_of_the_last_frame() -> None:
    whole, last = put(1) + put(2), put(3)
    for length in range(len(last)):
        recovery = recovered(whole + last[:length])
        assert live(recovery) == [1, 2], length
        assert recovery.cuts == ({log_name(1): len(whole)} if length else {})
        assert recovery.corrupt == []
        assert recovery.sizes[log_name(1)] == len(whole)


def test_a_torn_tail_is_damage_in_any_file_but_the_last() -> None:
    recovery = recovered(put(1) + put(2)[:-1], put(3))
    assert live(recovery) == [1, 3]
    assert (recovery.corrupt, recovery.unreadable) == ([log_name(1)], 1)


@settings(max_examples=200)
@given(st.data())
def test_one_wrong_byte_costs_at_most_the_frame_it_is_in(data: st.DataObject) -> None:
    frames = [put(number) for number in range(1, 6)]
    place = data.draw(st.integers(0, len(b"".join(frames)) - 1))
    damaged = bytearray(b"".join(frames))
    damaged[place] ^= data.draw(st.integers(1, 255))
    hit = next(n for n in range(1, 6) if place < sum(map(len, frames[:n])))
    recovery = recovered(bytes(damaged))
    assert live(recovery) == [number for number in range(1, 6) if number != hit]
    # Damage in the last frame cannot be told from a tail that was never finished.
    assert bool(recovery.cuts) == (hit == 5)
    assert bool(recovery.corrupt) == (hit != 5)


def test_a_body_that_looks_like_frames_hides_none() -> None:
    inner = put(77).decode("latin-1")
    data = put(1, body=inner.encode()) + put(2)
    assert live(recovered(data)) == [1, 2]
    assert live(recovered(data[1:])) == [2]


def test_the_next_id_is_above_every_name_and_every_id_that_was_seen() -> None:
    recovery = Recovery()
    recovery.feed(log_name(40), b"", last=True)
    assert recovery.next_id == 40
    recovery.feed_dead(encode(DeadLetter(replace(LETTER, id=f"{99:016x}"), 1, "", "", "").frame()))
    assert recovery.next_id == 100


def test_nothing_comes_after_the_last_id() -> None:
    last = 2**64 - 1
    assert recovered(put(last)).next_id == last
    assert recovered(put(last - 1)).next_id == last


def test_an_entry_that_reached_the_dead_letters_is_dead_whatever_the_log_lost() -> None:
    dead = encode(DeadLetter(LETTER, 409, "pcs_id_conflict", "", "").frame())
    recovery = recovered(put(1) + put(2), dead=dead)
    assert live(recovery) == [2]
    assert list(recovery.dead) == ["0000000000000001"]


def test_a_released_dead_letter_is_gone() -> None:
    dead = encode(DeadLetter(LETTER, 409, "c", "", "").frame())
    recovery = recovered(b"", dead=dead + mark("release", 1))
    assert recovery.dead == {}


def test_a_dead_letter_whose_successor_lives_is_half_requeued() -> None:
    dead = encode(DeadLetter(LETTER, 409, "c", "", "").frame())
    recovery = recovered(put(2, came_from="0000000000000001"), dead=dead)
    assert recovery.half_requeued() == ["0000000000000001"]
    assert recovered(put(2), dead=dead).half_requeued() == []


def test_a_frame_of_another_kind_in_the_dead_letters_is_damage() -> None:
    recovery = recovered(b"", dead=put(1) + mark("dead", 2))
    assert (recovery.corrupt, recovery.unreadable) == ([DEAD_LOG], 2)


# --- names and space -----------------------------------------------------------------------


def test_log_names_order_like_their_ids() -> None:
    names = [log_name(number) for number in (0, 9, 10, 2**40, 2**64 - 1)]
    assert names == sorted(names)
    assert [first_id_of(name) for name in names] == [0, 9, 10, 2**40, 2**64 - 1]


@pytest.mark.parametrize(
    "name", ["outbox-1.log", log_name(1) + ".corrupt", "outbox.lock", DEAD_LOG, "x" + log_name(1)]
)
def test_other_files_are_no_logs(name: str) -> None:
    assert first_id_of(name) is None


def entry(number: int, file: str, length: int = 100) -> Entry:
    letter = replace(LETTER, id=f"{number:016x}")
    return Entry.at(letter, file, 0, length)


def test_a_file_goes_when_nothing_in_it_or_before_it_is_live() -> None:
    space = Space()
    for name in "abc":
        space.start(name, 100)
    old, young = entry(1, "a"), entry(2, "b")
    space.hold(old)
    space.hold(young)
    space.free(young)
    assert list(space.removable()) == []
    space.free(old)
    assert list(space.removable()) == ["a", "b"]
    space.forget("a")
    assert space.names == ["b", "c"]


def test_the_oldest_file_is_carried_when_garbage_outweighs_what_lives() -> None:
    space = Space()
    space.start("a", 0)
    space.grow("a", FILE_BYTES)
    space.hold(entry(1, "a", 1000))
    assert space.to_carry() is None
    space.start("b", 2 * FILE_BYTES - FILE_BYTES + 2000)
    assert space.to_carry() is None
    space.grow("b", 1)
    assert space.to_carry() == "a"
    assert space.is_full("a")


def test_sent_at_is_read_to_the_millisecond() -> None:
    assert sent_at_ms("2026-01-01T00:00:00Z") == 1_767_225_600_000
    assert sent_at_ms("2026-01-01T00:00:00.123456789Z") == 1_767_225_600_123


# --- the lock ------------------------------------------------------------------------------

HERE = Owner(pid=10, boot_id="boot", start_ticks=500, host="host")


@pytest.mark.parametrize(
    ("holder", "ticks", "age_ms", "stale"),
    [
        (HERE, 500, 0, False),
        (HERE, None, 0, True),  # the process is gone
        (HERE, 501, 0, True),  # another process has its number
        (replace(HERE, boot_id="other"), 500, 0, True),  # the machine was restarted
        (replace(HERE, host="other"), None, 10**9, False),  # nothing here can tell
        (replace(HERE, host="other", boot_id="other"), None, 10**9, False),
        (None, None, LOCK_SETTLE_MS, False),  # perhaps being written
        (None, None, LOCK_SETTLE_MS + 1, True),
    ],
)
def test_a_lock_is_stale_when_its_boot_or_process_is_gone(
    holder: Owner | None, ticks: int | None, age_ms: int, *, stale: bool
) -> None:
    assert is_stale(holder, here=HERE, holder_start_ticks=ticks, age_ms=age_ms) is stale


def test_an_owner_comes_back_from_its_text() -> None:
    assert Owner.of(HERE.text()) == HERE


@pytest.mark.parametrize("text", [b"", b"{", b"[]", b"7", b'{"pid":"x"}', b'{"pid":1}', b"\xff"])
def test_a_text_that_names_no_owner_is_none(text: bytes) -> None:
    assert Owner.of(text) is None
