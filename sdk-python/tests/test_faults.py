"""The outbox on a file system that fails or stops at the k-th call, for every k.

`History` is what a caller knows: which letters `put` gave back, which were acknowledged, which
were purged. After any fault and any restart every letter that was given back is live or dead
with the same bytes, unless it was acknowledged or purged; and nothing else is there.
"""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path

import pytest
from fault_files import FaultFiles, Stopped

from fractal_lba import journal, outbox
from fractal_lba.errors import FractalLBAError, OutboxError
from fractal_lba.outbox import DEAD_LOG, Letter, Owner, log_name
from fractal_lba.schedule import Acknowledge, Bury, Later, Pause
from fractal_lba.spool import Outbox, open_outbox

NOW_MS = 1_767_225_600_000
SMALL_FILE_BYTES = 1_500
"""Files of four entries, so that a short scenario rotates, removes and carries."""

IMAGES = ("synced", "all", "names", "last")
CONFLICT = Bury(409, "pcs_id_conflict", "other content", "{}")


@pytest.fixture(autouse=True)
def small_files(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(outbox, "FILE_BYTES", SMALL_FILE_BYTES)
    monkeypatch.setattr(journal, "FILE_BYTES", SMALL_FILE_BYTES)


def letter(number: int) -> Letter:
    body = f'{{"n":{number},"x":"{"y" * (number % 7)}"}}'.encode()
    return Letter("", f"{number:064x}", f"{number:064x}", f"k{number % 2}", "acme", NOW_MS, body)


def owner(boot: int) -> Owner:
    """Name a process of another boot each time, as after a power failure."""
    return Owner(1000, f"boot-{boot}", 1, "host")


@dataclass
class History:
    """What the caller was told, by the number of the letter."""

    tried: set[int] = field(default_factory=set)
    kept: dict[int, str] = field(default_factory=dict)
    acknowledged: set[int] = field(default_factory=set)
    purging: set[int] = field(default_factory=set)
    purged: set[int] = field(default_factory=set)

    def put(self, box: Outbox, *numbers: int) -> None:
        for number in numbers:
            self.tried.add(number)
            kept = box.put(letter(number), now_ms=NOW_MS, in_flight=True)
            self.kept[number] = kept.id

    def acknowledge(self, box: Outbox, *numbers: int) -> None:
        for number in numbers:
            self.acknowledged.add(number)
            self.settle(box, number, Acknowledge(200))

    def settle(self, box: Outbox, number: int, verdict: Acknowledge | Bury | Later | Pause) -> None:
        if number in self.kept:
            box.settle(self.kept[number], verdict, now_ms=NOW_MS, u=0.5)

    def requeue(self, box: Outbox, number: int) -> None:
        if number in self.kept:
            self.kept[number] = box.requeue(self.kept[number])

    def purge(self, box: Outbox, number: int) -> None:
        if number in self.kept:
            self.purging.add(number)
            box.purge(self.kept[number])
            self.purged.add(number)


Act = Callable[[History, Outbox], None]

# Everything that writes: append, acknowledge, bury, requeue, purge, rotate, remove, carry.
ACTS: list[Act] = [
    lambda history, box: history.put(box, 1, 2, 3),
    lambda history, box: history.acknowledge(box, 2),
    lambda history, box: history.settle(box, 3, CONFLICT),
    lambda history, box: history.put(box, 4, 5, 6, 7, 8),
    lambda history, box: history.settle(box, 4, Later(retry_after_ms=10)),
    lambda history, box: history.requeue(box, 3),
    lambda history, box: history.settle(box, 5, CONFLICT),
    lambda history, box: history.settle(box, 6, CONFLICT),
    lambda history, box: history.purge(box, 5),
    lambda history, box: history.put(box, *range(9, 16)),
    lambda history, box: history.acknowledge(box, *range(7, 15)),
    lambda history, box: history.settle(box, 15, Pause("kid", "kid_unknown")),
    lambda history, box: history.put(box, *range(16, 26)),
    lambda history, box: history.acknowledge(box, *range(16, 25)),
    lambda history, box: history.put(box, *range(26, 36)),
    lambda history, box: history.acknowledge(box, *range(26, 36)),
    lambda history, box: history.put(box, 36),
    lambda history, box: history.purge(box, 6),
]


def run(files: FaultFiles, history: History, acts: list[Act] = ACTS) -> bool:
    """Play the acts; a caller goes on after an error, until the machine is gone."""
    try:
        try:
            box = open_outbox("", files=files, owner=owner(0))
        except OutboxError:
            return True
        for act in acts:
            try:
                act(history, box)
            except FractalLBAError:
                continue
        try:
            box.close()
        except OutboxError:
            return True
    except Stopped:
        return False
    return True


def contents(box: Outbox) -> tuple[dict[int, Letter], dict[int, Letter]]:
    """Give the live and the dead letters by number."""
    live = {int(each.key, 16): each for kid in ("k0", "k1") for each in box.letters_of(kid)}
    dead = {int(each.letter.key, 16): each.letter for each in box.dead()}
    assert len(live) == box.stats().entries
    assert len(dead) == box.stats().dead
    return live, dead


def check(files: FaultFiles, history: History, *, boot: int = 1, damaged: bool = False) -> None:
    """Restart on these files and hold what is there against what the caller was told."""
    with open_outbox("", files=files, owner=owner(boot)) as box:
        live, dead = contents(box)
        found = {**live, **dead}
        assert not live.keys() & dead.keys()
        for number, each in found.items():
            assert number in history.tried
            assert each.body == letter(number).body
        gone = history.acknowledged | history.purging
        assert history.kept.keys() - gone <= found.keys()
        assert not history.purged & found.keys()
        assert not box.stats().corrupt_files or damaged
        # It goes on working, and what it keeps then survives as well.
        history.put(box, 1000 + boot)
    with open_outbox("", files=files.crash(), owner=owner(boot + 1)) as box:
        again = contents(box)
        assert again == ({**live, 1000 + boot: again[0][1000 + boot]}, dead)


def calls_of(files: FaultFiles, acts: list[Act] = ACTS) -> int:
    assert run(files, History(), acts)
    return files.calls


def test_without_a_fault_everything_is_as_it_was_told() -> None:
    files, history = FaultFiles(), History()
    assert run(files, history)
    check(files, history)
    with open_outbox("", files=files.crash(), owner=owner(3)) as box:
        live, dead = contents(box)
        assert sorted(live) == [1, 3, 4, 15, 25, 36, 1001]
        assert dead == {}
        assert len(files.names()) < 9, "files in which nothing is live have gone"


def test_the_scenario_reaches_every_kind_of_call() -> None:
    files = FaultFiles()
    run(files, History())
    kinds = {line.split()[1] for line in files.log}
    assert kinds == {"create", "pwrite", "fsync", "fsync_dir", "open", "unlink"} - {"open"}
    assert files.open_handles == 0


@pytest.mark.parametrize("how", ["fail", "stop", "torn", "full"])
def test_a_fault_at_any_call_loses_nothing_that_was_told_to_be_kept(how: str) -> None:
    total = calls_of(FaultFiles())
    for at in range(1, total + 1):
        files, history = FaultFiles(at=at, how=how), History()
        run(files, history)
        for image in IMAGES:
            check(files.crash(keep=image), _copy(history))
    print(f"{how}: every k of 1..{total}, {len(IMAGES) * total} restarts")
    assert total > 100


def _copy(history: History) -> History:
    return History(
        set(history.tried), dict(history.kept), set(history.acknowledged),
        set(history.purging), set(history.purged),
    )  # fmt: skip


def test_a_full_disk_refuses_one_entry_and_the_next_is_kept() -> None:
    total = calls_of(FaultFiles())
    refused = 0
    for at in range(1, total + 1):
        files = FaultFiles(at=at, how="full")
        try:
            box = open_outbox("", files=files, owner=owner(0))
        except OutboxError:
            continue
        codes = []
        for number in range(1, 30):
            try:
                box.put(letter(number), now_ms=NOW_MS, in_flight=True)
            except OutboxError as error:
                codes.append(error.code)
        assert codes in ([], ["outbox_full"])
        refused += len(codes)
        assert box.stats().entries == 29 - len(codes)
        box.close()
    assert refused > 20


@pytest.mark.parametrize("garbage", [b"\0" * 5000, b"x" * 5000])
def test_what_was_cut_never_comes_back_behind_shorter_frames(garbage: bytes) -> None:
    files = FaultFiles()
    with open_outbox("", files=files, owner=owner(0)) as box:
        box.put(letter(1), now_ms=NOW_MS, in_flight=True)
    files.put(log_name(1), files.read(log_name(1)) + garbage)
    _fill_the_file(files)


def test_what_a_full_disk_cut_short_never_comes_back_behind_shorter_frames() -> None:
    long = replace(letter(2), body=b"{" + b" " * 2000 + b"}")
    files = FaultFiles()
    with open_outbox("", files=files, owner=owner(0)) as box:
        box.put(letter(1), now_ms=NOW_MS, in_flight=True)
        files._at, files._how = files.calls + 1, "full"
        with pytest.raises(OutboxError, match="outbox_full"):
            box.put(long, now_ms=NOW_MS, in_flight=True)
    _fill_the_file(files)


def _fill_the_file(files: FaultFiles) -> None:
    """Write on until the file is closed; then it must hold whole frames alone."""
    with open_outbox("", files=files, owner=owner(1)) as box:
        for number in range(10, 20):
            box.put(letter(number), now_ms=NOW_MS, in_flight=True)
        assert len(files.names()) > 2
    with open_outbox("", files=files, owner=owner(2)) as box:
        assert (box.stats().corrupt_files, box.stats().entries) == ((), 11)


def opened_with_a_fault(at: int) -> tuple[FaultFiles, Outbox | None, str | None]:
    files = FaultFiles(at=at, how="fail")
    try:
        return files, open_outbox("", files=files, owner=owner(0)), None
    except OutboxError as error:
        return files, None, error.code


def test_an_outbox_that_cannot_be_opened_leaves_no_lock() -> None:
    codes = []
    for at in range(1, 20):
        files, box, code = opened_with_a_fault(at)
        codes.append(code)
        if box is None:
            assert "outbox.lock" not in files.names()
    assert set(codes) == {"outbox_corrupt", None}


def test_after_a_failed_sync_the_outbox_is_closed_until_it_is_opened_anew() -> None:
    for at in range(1, 20):
        files, box, _ = opened_with_a_fault(at)
        if box is None:
            continue
        codes: list[str] = []
        for number in range(1, 12):
            try:
                box.put(letter(number), now_ms=NOW_MS, in_flight=True)
            except OutboxError as error:
                codes.append(error.code)
        assert set(codes) == {"outbox_corrupt"}
        assert box.stats().entries <= 12 - len(codes), "no put succeeds after one failed"
        box.close()
        assert "outbox.lock" not in files.names()
        open_outbox("", files=files, owner=owner(0)).close()


# --- faults while recovering -----------------------------------------------------------------


def damaged() -> Iterator[tuple[str, FaultFiles, History]]:
    """Give directories with every kind of damage, and what must be found in them."""
    files, history = FaultFiles(), History()
    run(files, history)
    logs = sorted(name for name in files.names() if name.startswith("outbox-"))
    yield "whole", files.copy(), history
    torn = files.copy()
    torn.put(logs[-1], torn.read(logs[-1]) + b"\0\0\0\x20torn")
    yield "torn tail", torn, history
    first = files.copy()
    data = bytearray(first.read(logs[0]))
    data[len(data) // 2] ^= 0x40
    first.put(logs[0], bytes(data))
    lost = _copy(history)
    lost.kept = {number: id for number, id in lost.kept.items() if number > 3}
    yield "rotten first file", first, lost
    both = first.copy()
    dead_box = open_outbox("", files=both, owner=owner(0))
    more = _copy(lost)
    more.put(dead_box, 50, 51)
    more.settle(dead_box, 50, CONFLICT)
    more.settle(dead_box, 51, CONFLICT)
    dead_box.close()
    rotten = bytearray(both.read(DEAD_LOG))
    rotten[10] ^= 1
    both.put(DEAD_LOG, bytes(rotten))
    both.put(logs[-1], both.read(logs[-1]) if logs[-1] in both.names() else b"")
    yield "rotten dead letters", both, more


def damaged_with_later_marks() -> tuple[str, FaultFiles, History]:
    """Give a rotten file beside a younger one that says what became of its entries."""
    files, history = FaultFiles(), History()
    acts: list[Act] = [
        lambda history, box: history.put(box, 1, 2, 3, 4, 5, 6, 7),
        lambda history, box: history.settle(box, 3, CONFLICT),
        lambda history, box: history.purge(box, 3),
    ]
    run(files, history, acts)
    data = bytearray(files.read(log_name(1)))
    data[40] ^= 1
    files.put(log_name(1), bytes(data))
    del history.kept[1]
    return "rotten file with later marks", files, history


CASES = ["whole", "torn tail", "rotten first file", "rotten dead letters"]
CASES += ["rotten file with later marks"]


@pytest.mark.parametrize("how", ["fail", "stop", "torn"])
@pytest.mark.parametrize("case", CASES)
def test_a_fault_at_any_call_of_a_recovery_loses_nothing(case: str, how: str) -> None:
    cases = [*damaged(), damaged_with_later_marks()]
    _, start, history = next(each for each in cases if each[0] == case)
    if case == "rotten dead letters":
        history.purging |= {50, 51}  # their frames may be the ones that rotted
    total = calls_of(start.copy(), [])
    for at in range(1, total + 1):
        files = start.copy(at=at, how=how)
        run(files, History(), [])
        for image in IMAGES:
            after = files.crash(keep=image)
            check(after, _copy(history), boot=2, damaged=case.startswith("rotten"))
            if case.startswith("rotten"):
                kind = "dead-" if "letters" in case else "outbox-"
                assert any(
                    name.startswith(kind) and name.endswith(".corrupt") for name in after.names()
                )
    print(f"{case}, {how}: every k of 1..{total}")
    assert total >= 4


def test_damage_is_set_aside_counted_and_told(caplog: pytest.LogCaptureFixture) -> None:
    _, files, history = next(each for each in damaged() if each[0] == "rotten first file")
    name = min(name for name in files.names() if name.startswith("outbox-"))
    before = files.read(name)
    with open_outbox("", files=files, owner=owner(1)) as box:
        stats = box.stats()
        assert stats.corrupt_files == (name,)
        assert stats.unreadable_frames == 1
        assert files.read(f"{name}.corrupt") == before
        live, _ = contents(box)
        assert live.keys() >= history.kept.keys() - history.acknowledged - history.purged
    assert "outbox_corrupt" in caplog.text
    with open_outbox("", files=files, owner=owner(2)) as box:
        assert box.stats().corrupt_files == ()


def test_rotten_dead_letters_are_set_aside_and_the_readable_ones_kept() -> None:
    _, files, _ = next(each for each in damaged() if each[0] == "rotten dead letters")
    with open_outbox("", files=files, owner=owner(1)) as box:
        assert box.stats().corrupt_files == (DEAD_LOG,)
        numbers = {int(each.letter.key, 16) for each in box.dead()}
        assert 51 in numbers
        assert any(name.startswith("dead-") for name in files.names())


def test_an_entry_whose_frame_rots_under_the_running_outbox_is_counted_and_told() -> None:
    files, events = FaultFiles(), []
    with open_outbox("", files=files, owner=owner(0)) as box:
        box.listen(events.append, lambda: None)
        first = box.put(letter(1), now_ms=NOW_MS, in_flight=False)
        box.put(letter(2), now_ms=NOW_MS, in_flight=False)
        inode = files._names[log_name(1)]
        inode.data[60] ^= 1
        due = box.take(NOW_MS, limit=10, bytes_max=10**6)
        assert [each.key for each in due.letters] == [letter(2).key]
        assert box.stats().unreadable_frames == 1
    assert ("outbox_corrupt", first.id) in [(event.kind, event.id) for event in events]


def test_a_directory_that_cannot_be_listed_says_so() -> None:
    class Broken(FaultFiles):
        def names(self) -> list[str]:
            raise OSError(5, "broken")

    with pytest.raises(OutboxError) as caught:
        open_outbox("", files=Broken(), owner=owner(0))
    assert caught.value.code == "outbox_corrupt"


# --- a real process, killed -------------------------------------------------------------------

CHILD = """
import sys
from fractal_lba import journal, outbox
from fractal_lba.outbox import Letter
from fractal_lba.schedule import Acknowledge, Bury
from fractal_lba.spool import open_outbox

outbox.FILE_BYTES = journal.FILE_BYTES = 20_000
NOW_MS = 1_767_225_600_000
directory, start = sys.argv[1], int(sys.argv[2])
box = open_outbox(directory)
print("open", flush=True)
for n in range(start, start + 100_000):
    body = (f'{{"n":{n}}}' + " " * (n % 97)).encode()
    kept = box.put(
        Letter("", f"{n:064x}", f"{n:064x}", "k", "acme", NOW_MS, body),
        now_ms=NOW_MS, in_flight=True,
    )
    print("kept", n, flush=True)
    if n % 3 == 0:
        print("acknowledging", n, flush=True)
        box.settle(kept.id, Acknowledge(200), now_ms=NOW_MS, u=0.5)
    elif n % 17 == 0:
        box.settle(kept.id, Bury(409, "pcs_id_conflict", "", ""), now_ms=NOW_MS, u=0.5)
"""

KILLS = 20


@pytest.mark.crash
def test_a_killed_process_loses_nothing_it_was_told_is_kept(tmp_path: Path) -> None:
    directory = tmp_path / "outbox"
    rng = random.Random(20260101)
    kept: set[int] = set()
    acknowledged: set[int] = set()
    for kill in range(KILLS):
        start = 1 + kill * 1_000_000
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(directory), str(start)],
            stdout=subprocess.PIPE,
            text=True,
        )
        assert child.stdout is not None
        with child.stdout as lines:
            for _ in range(rng.randrange(1, 250)):
                _note(next(lines), kept, acknowledged)
            child.kill()
            for line in lines:
                if line.endswith("\n"):
                    _note(line, kept, acknowledged)
        child.wait()
        with open_outbox(directory) as box:
            live = {int(each.key, 16): each.body for each in box.letters_of("k")}
            dead = {int(each.letter.key, 16): each.letter.body for each in box.dead()}
        assert kept - acknowledged <= live.keys() | dead.keys()
        for number, body in {**live, **dead}.items():
            assert body == (f'{{"n":{number}}}' + " " * (number % 97)).encode()
    bound = 3 / KILLS
    print(f"{KILLS} kills, {len(kept)} kept, {len(acknowledged)} acknowledged, 0 lost;")
    print(f"95 % bounds: {bound:.2f} per kill, {3 / len(kept):.5f} per record")
    assert len(kept) > KILLS


def _note(line: str, kept: set[int], acknowledged: set[int]) -> None:
    word, _, number = line.strip().partition(" ")
    if word == "kept":
        kept.add(int(number))
    elif word == "acknowledging":
        acknowledged.add(int(number))
