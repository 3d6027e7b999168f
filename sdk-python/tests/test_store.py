"""The outbox on a real directory: modes, owner lock, limits, dead letters, group commit."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from fault_files import FaultFiles

from fractal_lba import outbox as format_module
from fractal_lba.errors import ConfigError, NotFoundError, OutboxError
from fractal_lba.outbox import DEAD_LOG, Letter, Owner, log_name
from fractal_lba.schedule import Acknowledge, Bury, Later, Pause
from fractal_lba.spool import Outbox, open_outbox
from fractal_lba.store import (
    LOCK_NAME,
    DirectoryFiles,
    Files,
)

NOW_MS = 1_767_225_600_000
DAY_MS = 86_400_000
OWNER = Owner(6, "boot", 1, "host")
CONFLICT = Bury(409, "pcs_id_conflict", "other content", '{"code":"pcs_id_conflict"}')


def letter(number: int, *, kid: str | None = "k", at_ms: int = NOW_MS, size: int = 0) -> Letter:
    body = json.dumps({"n": number, "pad": "x" * size}).encode()
    return Letter("", f"{number:064x}", f"{number:064x}", kid, "acme", at_ms, body)


def put(box: Outbox, number: int, *, in_flight: bool = False, **changes: object) -> str:
    kept = letter(number, **changes)  # type: ignore[arg-type]  # members of any type
    return box.put(kept, now_ms=NOW_MS, in_flight=in_flight).id


def take(box: Outbox, now_ms: int = NOW_MS, limit: int = 1000) -> list[int]:
    due = box.take(now_ms, limit=limit, bytes_max=10**9)
    return [int(each.key, 16) for each in due.letters]


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


# --- files ---------------------------------------------------------------------------------


def test_directory_and_files_are_open_to_their_owner_alone(directory: Path) -> None:
    with open_outbox(directory) as box:
        put(box, 1)
        box.settle(put(box, 2, in_flight=True), CONFLICT, now_ms=NOW_MS, u=0)
        modes = {path.name: path.stat().st_mode & 0o777 for path in directory.iterdir()}
    assert modes == {log_name(1): 0o600, DEAD_LOG: 0o600, LOCK_NAME: 0o600}
    assert directory.stat().st_mode & 0o777 == 0o700


def test_a_directory_that_others_may_enter_is_refused(directory: Path) -> None:
    directory.mkdir()
    directory.chmod(0o750)
    with pytest.raises(ConfigError, match="chmod 700"):
        open_outbox(directory)


def test_the_file_holds_the_body_and_the_key_and_nothing_secret(directory: Path) -> None:
    with open_outbox(directory) as box:
        put(box, 1)
    data = (directory / log_name(1)).read_bytes()
    frame = json.loads(data[8:])
    assert frame == {
        "t": "put", "id": "0000000000000001", "pcs_id": f"{1:064x}", "key": f"{1:064x}",
        "kid": "k", "tenant": "acme", "at": NOW_MS, "body": letter(1).body.decode(),
    }  # fmt: skip


def test_real_files_do_what_the_interface_says(directory: Path) -> None:
    files: Files = DirectoryFiles(directory)
    handle = files.create("a")
    with pytest.raises(FileExistsError):
        files.create("a")
    files.pwrite(handle, b"hello", 0)
    files.pwrite(handle, b"world", 5)
    files.truncate(handle, 8)
    files.fsync(handle)
    files.close(handle)
    files.fsync_dir()
    assert (files.read("a"), files.read_at("a", 5, 100)) == (b"hellowor", b"wor")
    assert 0 <= files.age_ms("a") < 60_000
    files.rename("a", "b")
    files.close(files.open("b"))
    assert files.names() == ["b"]
    files.unlink("b")
    assert files.names() == []


def test_a_write_that_the_system_cuts_short_goes_on(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.pwrite
    monkeypatch.setattr(os, "pwrite", lambda handle, data, at: real(handle, data[:3], at))
    files = DirectoryFiles(directory)
    handle = files.create("a")
    files.pwrite(handle, b"0123456789", 0)
    files.close(handle)
    assert files.read("a") == b"0123456789"


# --- entries -------------------------------------------------------------------------------


def test_what_waits_survives_a_restart_and_keeps_its_order(directory: Path) -> None:
    with open_outbox(directory) as box:
        for number in range(1, 8):
            put(box, number)
        assert box.stats().entries == 7
    with open_outbox(directory) as box:
        assert take(box) == [1, 2, 3, 4, 5, 6, 7]
        assert take(box) == []
        assert box.stats().in_flight == 7


def test_an_acknowledged_entry_is_not_sent_again(directory: Path) -> None:
    with open_outbox(directory) as box:
        first, second = put(box, 1), put(box, 2)
        assert take(box) == [1, 2]
        box.settle(first, Acknowledge(200), now_ms=NOW_MS, u=0)
        box.settle(first, Acknowledge(200), now_ms=NOW_MS, u=0)
        box.settle(second, Later(), now_ms=NOW_MS, u=0)
    with open_outbox(directory) as box:
        assert take(box) == [2]


def test_counts_bytes_and_age_are_told(directory: Path) -> None:
    with open_outbox(directory) as box:
        put(box, 1, at_ms=NOW_MS - 5)
        put(box, 2)
        size = os.path.getsize(directory / log_name(1))
        stats = box.stats()
        assert (stats.entries, stats.dead, stats.bytes) == (2, 0, size)
        assert stats.oldest_sent_at_ms == NOW_MS - 5


def test_a_full_outbox_refuses_and_drops_nothing(directory: Path) -> None:
    with open_outbox(directory, max_entries=2) as box:
        first = put(box, 1)
        put(box, 2)
        with pytest.raises(OutboxError) as caught:
            put(box, 3)
        assert caught.value.code == "outbox_full"
        assert take(box) == [1, 2]
        box.settle(first, CONFLICT, now_ms=NOW_MS, u=0)
        with pytest.raises(OutboxError, match="dead letters included"):
            put(box, 3)
        box.purge(first)
        put(box, 3)


def test_bytes_are_limited_as_well(directory: Path) -> None:
    with open_outbox(directory, max_bytes=2000) as box:
        put(box, 1, size=900)
        with pytest.raises(OutboxError, match="2000 bytes"):
            put(box, 2, size=900)


@pytest.mark.parametrize("option", ["max_entries", "max_bytes", "max_age_s"])
@pytest.mark.parametrize("value", [0, -1, True, "1", None, float("nan")])
def test_a_limit_must_be_a_number_above_zero(directory: Path, option: str, value: object) -> None:
    with pytest.raises(ConfigError, match=option):
        open_outbox(directory, **{option: value})  # type: ignore[arg-type]  # members of any type


def test_an_entry_that_grows_too_old_becomes_a_dead_letter(directory: Path) -> None:
    with open_outbox(directory) as box:
        id = put(box, 1)
        put(box, 2, at_ms=NOW_MS + DAY_MS)
        assert take(box, NOW_MS + 13 * DAY_MS) == [2]
        (dead,) = box.dead()
        assert (dead.id, dead.code, dead.status) == (id, "outbox_expired", None)
        with pytest.raises(OutboxError) as caught:
            box.put(letter(3), now_ms=NOW_MS + 13 * DAY_MS, in_flight=True)
        assert caught.value.code == "outbox_expired"


def test_a_dead_letter_keeps_the_answer_and_the_bytes(directory: Path) -> None:
    with open_outbox(directory) as box:
        box.settle(put(box, 1, in_flight=True), CONFLICT, now_ms=NOW_MS, u=0)
    with open_outbox(directory) as box:
        (dead,) = box.dead()
        assert (dead.status, dead.code, dead.reason) == (409, "pcs_id_conflict", "other content")
        assert dead.response == '{"code":"pcs_id_conflict"}'
        assert dead.letter == replace(letter(1), id=dead.id)
        assert take(box) == []


def test_a_requeued_letter_is_sent_again_with_the_same_bytes(directory: Path) -> None:
    with open_outbox(directory) as box:
        id = put(box, 1, in_flight=True)
        box.settle(id, CONFLICT, now_ms=NOW_MS, u=0)
        new = box.requeue(id)
        assert new != id
        assert box.dead() == []
        (again,) = box.take(NOW_MS, limit=9, bytes_max=10**6).letters
        assert (again.id, again.body, again.came_from) == (new, letter(1).body, id)


@pytest.mark.parametrize("act", ["requeue", "purge"])
def test_an_unknown_dead_letter_is_not_found(directory: Path, act: str) -> None:
    with open_outbox(directory) as box, pytest.raises(NotFoundError):
        getattr(box, act)("0000000000000099")


def test_a_purged_letter_is_gone_for_good(directory: Path) -> None:
    with open_outbox(directory) as box:
        id = put(box, 1, in_flight=True)
        box.settle(id, CONFLICT, now_ms=NOW_MS, u=0)
        box.purge(id)
    with open_outbox(directory) as box:
        assert (box.dead(), take(box)) == ([], [])


def test_dead_letters_are_written_anew_when_garbage_outweighs_them(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("fractal_lba.journal.FILE_BYTES", 3000)
    with open_outbox(directory) as box:
        ids = [put(box, number, in_flight=True) for number in range(1, 20)]
        for id in ids:
            box.settle(id, CONFLICT, now_ms=NOW_MS, u=0)
        before = os.path.getsize(directory / DEAD_LOG)
        for id in ids[1:]:
            box.purge(id)
        assert os.path.getsize(directory / DEAD_LOG) < before / 2
        assert [dead.id for dead in box.dead()] == ids[:1]
    with open_outbox(directory) as box:
        assert [dead.id for dead in box.dead()] == ids[:1]


def test_released_and_listed_by_key(directory: Path) -> None:
    with open_outbox(directory) as box:
        old = put(box, 1, kid="old")
        put(box, 2, kid=None)
        assert [each.id for each in box.letters_of("old")] == [old]
        assert [int(each.key, 16) for each in box.letters_of(None)] == [2]
        box.release(old, "resigned")
        box.release(old, "resigned")
        assert take(box) == [2]


# --- files come and go ---------------------------------------------------------------------


@pytest.fixture
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(format_module, "FILE_BYTES", 1000)


def logs(directory: Path) -> list[str]:
    return sorted(name for name in os.listdir(directory) if name.startswith("outbox-"))


@pytest.mark.usefixtures("small_files")
def test_a_full_file_gets_a_successor_named_by_its_first_id(directory: Path) -> None:
    with open_outbox(directory) as box:
        for number in range(1, 8):
            put(box, number)
        assert logs(directory) == [log_name(1), log_name(5)]
        assert os.path.getsize(directory / log_name(1)) < 1400


@pytest.mark.usefixtures("small_files")
def test_a_file_goes_when_its_entries_and_all_before_it_are_released(directory: Path) -> None:
    with open_outbox(directory) as box:
        ids = [put(box, number) for number in range(1, 13)]
        assert len(logs(directory)) == 3
        for id in ids[4:8]:
            box.settle(id, Acknowledge(200), now_ms=NOW_MS, u=0)
        assert len(logs(directory)) == 3
        for id in ids[:4]:
            box.settle(id, Acknowledge(200), now_ms=NOW_MS, u=0)
        assert logs(directory) == [log_name(9)]


@pytest.mark.usefixtures("small_files")
def test_one_entry_that_waits_does_not_keep_all_that_follow(directory: Path) -> None:
    with open_outbox(directory) as box:
        first = put(box, 1)
        for number in range(2, 200):
            box.settle(put(box, number, in_flight=True), Acknowledge(200), now_ms=NOW_MS, u=0)
        sizes = sum(os.path.getsize(directory / name) for name in logs(directory))
        assert sizes < 6 * 1000
        assert take(box) == [1]
        box.settle(first, Later(), now_ms=NOW_MS, u=0)
    with open_outbox(directory) as box:
        (letter_,) = box.take(NOW_MS, limit=9, bytes_max=10**6).letters
        assert (letter_.id, letter_.body) == (first, letter(1).body)


def test_a_new_file_is_named_past_every_older_one(directory: Path) -> None:
    with open_outbox(directory) as box:
        put(box, 1)
    os.rename(directory / log_name(1), directory / log_name(40))
    with open_outbox(directory) as box:
        assert put(box, 2) == f"{40:016x}"


# --- events and threads --------------------------------------------------------------------


def test_each_change_is_told_once_and_outside_the_lock(directory: Path) -> None:
    told: list[tuple[str, str | None, str | None]] = []
    woken: list[int] = []
    with open_outbox(directory) as box:
        box.listen(
            lambda event: told.append((event.kind, event.code, str(box.stats().entries))),
            lambda: woken.append(1),
        )
        first, second = put(box, 1), put(box, 2)
        take(box)
        box.settle(first, Pause("kid", "kid_unknown"), now_ms=NOW_MS, u=0)
        box.settle(second, CONFLICT, now_ms=NOW_MS, u=0)
        box.requeue(second)
        box.hurry()
        take(box)
        box.settle(first, Later(), now_ms=NOW_MS, u=0)
    assert [(kind, code) for kind, code, _ in told] == [
        ("queued", None), ("queued", None), ("outbox_blocked", "kid_unknown"),
        ("dead", "pcs_id_conflict"), ("requeued", None), ("postponed", None),
    ]  # fmt: skip
    assert len(woken) == 6


class GatedFiles(FaultFiles):
    """Let a test hold the first sync of the log open."""

    def __init__(self) -> None:
        super().__init__()
        self.syncing = threading.Event()
        self.go_on = threading.Event()
        self.gated = False
        self.log_syncs = 0

    def fsync(self, handle: int) -> None:
        if self.gated:
            self.log_syncs += 1
            self.syncing.set()
            assert self.go_on.wait(30)
        super().fsync(handle)


def test_one_sync_serves_all_who_wait_for_it() -> None:
    files = GatedFiles()
    with open_outbox("", files=files, owner=OWNER) as box:
        files.gated = True
        done: list[int] = []

        def keep(number: int) -> None:
            put(box, number)
            done.append(number)

        first = threading.Thread(target=keep, args=(1,))
        first.start()
        assert files.syncing.wait(30)
        others = [threading.Thread(target=keep, args=(number,)) for number in range(2, 30)]
        for thread in others:
            thread.start()
        while len(files.log) < 4 + 29:  # all have appended; none may return before a sync
            assert done == []
        files.go_on.set()
        for thread in (first, *others):
            thread.join()
        assert files.log_syncs == 2
        assert sorted(done) == list(range(1, 30))
        assert sorted(take(box)) == list(range(1, 30))


def test_all_who_wait_for_a_sync_that_fails_are_told() -> None:
    files = GatedFiles()
    box = open_outbox("", files=files, owner=OWNER)
    files.gated = True
    codes: list[str] = []

    def keep(number: int) -> None:
        try:
            put(box, number)
        except OutboxError as error:
            codes.append(error.code)

    threads = [threading.Thread(target=keep, args=(number,)) for number in range(1, 9)]
    threads[0].start()
    assert files.syncing.wait(30)
    for thread in threads[1:]:
        thread.start()
    while len(files.log) < 4 + 8:
        continue
    files._at, files._how = files.calls + 1, "fail"
    files.go_on.set()
    for thread in threads:
        thread.join()
    assert codes == ["outbox_corrupt"] * 8
    with pytest.raises(OutboxError, match="opened anew"):
        box.take(NOW_MS, limit=1, bytes_max=1)
    box.close()


@pytest.mark.usefixtures("small_files")
def test_threads_that_put_and_settle_across_rotations_lose_nothing(directory: Path) -> None:
    with open_outbox(directory) as box:

        def work(start: int) -> None:
            for number in range(start, start + 40):
                id = put(box, number, in_flight=True)
                if number % 4:
                    box.settle(id, Acknowledge(200), now_ms=NOW_MS, u=0)

        threads = [threading.Thread(target=work, args=(1000 * each,)) for each in range(1, 7)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    with open_outbox(directory) as box:
        expected = [1000 * each + n for each in range(1, 7) for n in range(40) if not n % 4]
        assert sorted(take(box)) == expected


def test_a_closed_outbox_takes_nothing_and_closes_twice(directory: Path) -> None:
    box = open_outbox(directory)
    box.close()
    box.close()
    with pytest.raises(OutboxError, match="closed"):
        put(box, 1)
    with pytest.raises(OutboxError, match="closed"):
        take(box)
