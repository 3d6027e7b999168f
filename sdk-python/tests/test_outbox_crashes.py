"""What a crash, a full disk or a late caller must not undo in an outbox."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import replace

import pytest
from fault_files import FaultFiles, Stopped

from fractal_lba import journal, outbox
from fractal_lba.errors import OutboxError
from fractal_lba.outbox import DEAD_LOG, LAST_ID, Letter, Owner, encode, log_name
from fractal_lba.outcome import Position
from fractal_lba.schedule import Acknowledge, Bury, Hold
from fractal_lba.spool import Outbox, open_outbox

NOW_MS = 1_767_225_600_000
LONG_S = 30.0
IMAGES = ("synced", "all", "names", "last")
CONFLICT = Bury(409, "pcs_id_conflict", "other content", "{}")
EVERY_CALL = range(1, 40)


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FILE_BYTES", 1_500)
    monkeypatch.setattr(journal, "FILE_BYTES", 1_500)


def letter(number: int) -> Letter:
    body = f'{{"n":{number}}}'.encode()
    return Letter("", f"{number:064x}", f"{number:064x}", "k", "acme", NOW_MS, body)


def opened(files: FaultFiles, boot: int = 1) -> Outbox:
    return open_outbox("", files=files, owner=Owner(1000, f"boot-{boot}", 1, "host"))


def put(box: Outbox, number: int) -> str:
    return box.put(letter(number), now_ms=NOW_MS, in_flight=True).id


def settle(box: Outbox, id: str, verdict: Acknowledge | Bury | Hold) -> None:
    box.settle(id, verdict, now_ms=NOW_MS, u=0)


def live(box: Outbox) -> list[int]:
    return sorted(int(each.key, 16) for each in box.letters_of("k"))


def dead(box: Outbox) -> list[int]:
    return sorted(int(each.letter.key, 16) for each in box.dead())


def with_a_lost_mark() -> tuple[FaultFiles, str]:
    """Give a directory with a dead letter whose mark in the log a crash has forgotten."""
    files = FaultFiles()
    box = opened(files, 0)
    id = put(box, 1)
    settle(box, id, CONFLICT)
    return files.crash(), id


# --- dead letters ----------------------------------------------------------------------------


def test_a_purged_letter_stays_gone_when_a_crash_had_lost_its_mark() -> None:
    files, id = with_a_lost_mark()
    opened(files).purge(id)
    with opened(files.crash(), 2) as box:
        assert (live(box), dead(box)) == ([], [])


def test_a_requeued_letter_is_sent_once_when_a_crash_had_lost_its_mark() -> None:
    files, id = with_a_lost_mark()
    new = opened(files).requeue(id)
    with opened(files.crash(), 2) as box:
        assert [each.id for each in box.letters_of("k")] == [new]
        assert dead(box) == []


@pytest.mark.parametrize("image", IMAGES)
def test_a_requeue_that_stops_at_any_call_leaves_one_letter(image: str) -> None:
    start, id = with_a_lost_mark()
    for at in EVERY_CALL:
        files = start.copy(at=at, how="stop")
        with suppress(Stopped):
            opened(files).requeue(id)
        after = files.crash(keep=image)
        opened(after, 2)
        with opened(after.crash(), 3) as box:
            assert live(box) + dead(box) == [1], f"stopped at call {at}"


@pytest.mark.parametrize("image", IMAGES)
def test_a_resend_that_stops_at_any_call_keeps_every_record(image: str) -> None:
    start = FaultFiles()
    box = opened(start, 0)
    for number in (1, 2, 3):
        at = Position("eu1" if number < 3 else "us1", "open", 1, number)
        settle(box, put(box, number), Hold(200, at))
    for at in EVERY_CALL:
        files = start.crash(keep="all").copy(at=at, how="stop")
        with suppress(Stopped):
            opened(files).resend("eu1")
        after = opened(files.crash(keep=image), 2)
        after.resend("eu1")
        after.resend("us1")
        assert set(live(after)) == {1, 2, 3}, f"stopped at call {at}"


def test_a_requeue_that_a_full_disk_refuses_leaves_the_dead_letter() -> None:
    codes = set()
    for at in EVERY_CALL:
        files, id = with_a_lost_mark()
        box = opened(files)
        files._at, files._how = files.calls + at, "full"
        try:
            box.requeue(id)
        except OutboxError as error:
            codes.add(error.code)
            assert (live(box), dead(box)) == ([], [1])
            box.requeue(id)
        assert (live(box), dead(box)) == ([1], [])
    assert codes == {"outbox_full"}


@pytest.mark.parametrize("image", IMAGES)
def test_readable_dead_letters_survive_a_stop_while_the_rotten_file_is_set_aside(
    image: str,
) -> None:
    start = FaultFiles()
    with opened(start, 0) as box:
        for number in (1, 2):
            settle(box, put(box, number), CONFLICT)
    rotten = bytearray(start.read(DEAD_LOG))
    rotten[10] ^= 1
    start.put(DEAD_LOG, bytes(rotten))
    for at in EVERY_CALL:
        files = start.copy(at=at, how="stop")
        with suppress(Stopped):
            opened(files).close()
        with opened(files.crash(keep=image), 2) as box:
            assert dead(box) == [2], f"stopped at call {at}"


# --- a full disk -----------------------------------------------------------------------------


def test_an_entry_that_a_full_disk_keeps_from_being_carried_is_not_removed() -> None:
    carried, codes = 0, set()
    for at in range(1, 250):
        files = FaultFiles(at=at, how="full")
        try:
            box = opened(files, 0)
            first = put(box, 1)
        except OutboxError:
            continue
        for number in range(2, 60):
            try:
                settle(box, put(box, number), Acknowledge(200))
            except OutboxError as error:
                codes.add(error.code)
        assert [each.id for each in box.letters_of("k")][:1] == [first]
        carried += log_name(1) not in files.names()
        with opened(files.crash(), 2) as again:
            assert 1 in live(again)
    assert carried > 100
    assert codes == {"outbox_full"}


def test_a_full_disk_without_room_for_the_first_dead_letter_keeps_the_entry() -> None:
    files = FaultFiles()
    with opened(files) as box:
        id = put(box, 1)
        files._at, files._how = files.calls + 1, "full"
        settle(box, id, CONFLICT)
        assert (live(box), dead(box)) == ([1], [])
        settle(box, put(box, 2), CONFLICT)
        settle(box, id, CONFLICT)
        assert (live(box), dead(box)) == ([], [1, 2])


def test_a_full_disk_while_dead_letters_are_written_anew_closes_nothing() -> None:
    in_the_way, codes = 0, set()
    for at in range(1, 60):
        files = FaultFiles()
        with opened(files) as box:
            ids = [put(box, number) for number in range(1, 11)]
            for id in ids:
                settle(box, id, CONFLICT)
            files._at, files._how = files.calls + at, "full"
            for id in ids[1:]:
                try:
                    box.purge(id)
                except OutboxError as error:
                    codes.add(error.code)
                    box.purge(id)
            faulty = files.log[files._at - 1 : files._at]
            in_the_way += any(line.endswith("create dead.tmp") for line in faulty)
            assert dead(box) == [1]
            files._at = 0
            put(box, 99)
        with opened(files.crash(), 2) as box:
            assert (live(box), dead(box)) == ([99], [1])
    assert in_the_way
    assert codes == {"outbox_full"}


# --- late and simultaneous callers -------------------------------------------------------------


def test_an_answer_that_comes_after_the_end_writes_nothing() -> None:
    files = FaultFiles()
    box = opened(files)
    id = put(box, 1)
    box.close()
    with opened(files, 2) as owner:
        calls = files.calls
        with pytest.raises(OutboxError, match="closed"):
            settle(box, id, CONFLICT)
        assert files.calls == calls
        assert DEAD_LOG not in files.names()
        assert live(owner) == [1]


class GatedFiles(FaultFiles):
    """Hold the first sync after `gated` was set."""

    def __init__(self) -> None:
        super().__init__()
        self.gated = False
        self.syncing = threading.Event()
        self.go_on = threading.Event()

    def fsync(self, handle: int) -> None:
        if self.gated:
            self.syncing.set()
            assert self.go_on.wait(LONG_S)
        super().fsync(handle)


def test_an_entry_that_is_signed_again_before_its_put_returns_is_not_sent() -> None:
    files = GatedFiles()
    box = opened(files)
    files.gated = True
    kept: list[str] = []
    thread = threading.Thread(target=lambda: kept.append(put(box, 1)))
    thread.start()
    assert files.syncing.wait(LONG_S)
    (found,) = box.letters_of("k")
    box.release(found.id, "resigned")
    files.go_on.set()
    thread.join()
    assert kept == [found.id]
    assert (box.stats().entries, box.stats().in_flight) == (0, 0)
    box.close()


# --- ids -------------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [LAST_ID, LAST_ID - 1])
def test_after_the_last_id_nothing_is_kept_and_what_waits_is_sent(number: int) -> None:
    files = FaultFiles()
    files.put(log_name(1), encode(replace(letter(1), id=f"{number:016x}").frame()))
    with opened(files) as box:
        with pytest.raises(OutboxError, match="every id") as caught:
            put(box, 2)
        assert caught.value.code == "outbox_full"
        (found,) = box.take(NOW_MS, limit=9, bytes_max=10**6).letters
        settle(box, found.id, Acknowledge(200))
    assert sorted(name for name in files.names()) == [log_name(1)]
