"""The owner of an outbox directory: one live process, and a stale lock is taken over once."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from fault_files import FaultFiles

from fractal_lba.errors import OutboxError
from fractal_lba.outbox import LOCK_SETTLE_MS, Owner, log_name
from fractal_lba.spool import open_outbox
from fractal_lba.store import LOCK_NAME, acquire_lock, release_lock, start_ticks_of, this_process


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "outbox"


def test_a_second_owner_is_refused_by_name(directory: Path) -> None:
    with open_outbox(directory), pytest.raises(OutboxError) as caught:
        open_outbox(directory)
    assert caught.value.code == "outbox_locked"
    assert f"process {os.getpid()} on" in str(caught.value)
    open_outbox(directory).close()
    assert LOCK_NAME not in os.listdir(directory)


def test_the_lock_names_pid_boot_start_and_host(directory: Path) -> None:
    with open_outbox(directory):
        members = json.loads((directory / LOCK_NAME).read_text())
    assert set(members) == {"pid", "boot_id", "start_ticks", "host"}
    assert Owner.of(json.dumps(members).encode()) == this_process()


def test_the_lock_of_a_process_that_is_gone_is_taken_over(directory: Path) -> None:
    program = (
        "import sys, os; from fractal_lba.spool import open_outbox;"
        "open_outbox(sys.argv[1]); os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", program, directory], check=False).returncode == -9
    assert LOCK_NAME in os.listdir(directory)
    with open_outbox(directory):
        assert Owner.of((directory / LOCK_NAME).read_bytes()) == this_process()
    assert os.listdir(directory) == [log_name(1)]


def test_a_process_that_nobody_has_waited_for_counts_as_gone(directory: Path) -> None:
    program = (
        "import sys, os; from fractal_lba.spool import open_outbox;"
        "open_outbox(sys.argv[1]); print('ready', flush=True); os.kill(os.getpid(), 9)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", program, directory], stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.read() == "ready\n"
        # Its output has ended, so it is dead; until `wait` it is a zombie with its old number.
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        assert start_ticks_of(child.pid) is None
        open_outbox(directory).close()


def test_a_live_process_has_a_start_and_a_free_number_has_none() -> None:
    assert start_ticks_of(os.getpid()) == this_process().start_ticks
    assert start_ticks_of(2**22 + 1) is None


def test_a_system_without_proc_asks_by_signal(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(path: Path, *_: object) -> str:
        raise FileNotFoundError(path)

    monkeypatch.setattr(Path, "read_text", missing)
    monkeypatch.setattr(Path, "exists", lambda _: False)
    assert start_ticks_of(os.getpid()) == 0
    assert start_ticks_of(2**22 + 1) is None
    monkeypatch.setattr(os, "kill", _refuse_signal)
    assert start_ticks_of(1) == 0
    assert this_process().boot_id == ""


def _refuse_signal(pid: int, signal: int) -> None:
    raise PermissionError(pid, signal)


GONE = Owner(5, "old boot", 1, "host")
HERE = Owner(6, "new boot", 1, "host")
OTHER = Owner(7, "new boot", 1, "host")


def test_a_lock_that_was_never_finished_is_live_for_a_while_and_then_stale() -> None:
    files = FaultFiles()
    files.put(LOCK_NAME, b'{"pid":', age_ms=LOCK_SETTLE_MS)
    with pytest.raises(OutboxError, match="an unreadable lock"):
        acquire_lock(files, HERE)
    files.put(LOCK_NAME, b'{"pid":', age_ms=LOCK_SETTLE_MS + 1)
    acquire_lock(files, HERE)
    assert files.read(LOCK_NAME) == HERE.text()


def claim_of(files: FaultFiles) -> str:
    return next(name for name in files.names() if name.startswith(f"{LOCK_NAME}."))


class Racing(FaultFiles):
    """Run a rival at one step of taking a stale lock over."""

    def __init__(self, when: str) -> None:
        super().__init__()
        self._when = when
        self.rival_error: OutboxError | None = None
        self.put(LOCK_NAME, GONE.text())

    def _race(self, when: str) -> None:
        if self._when == when:
            self._when = ""
            try:
                acquire_lock(self, OTHER)
            except OutboxError as error:
                self.rival_error = error

    def create(self, name: str) -> int:
        if name != LOCK_NAME:
            self._race("before the claim")
        return super().create(name)

    def rename(self, old: str, new: str) -> None:
        self._race("before the rename")
        super().rename(old, new)


def test_of_two_that_find_one_stale_lock_the_later_claim_is_given_up() -> None:
    files = Racing("before the claim")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fractal_lba.store.start_ticks_of", lambda _: 1)
        with pytest.raises(OutboxError, match="process 7"):
            acquire_lock(files, HERE)
    assert files.rival_error is None
    assert files.names() == [LOCK_NAME]
    assert files.read(LOCK_NAME) == OTHER.text()


def test_of_two_that_find_one_stale_lock_the_one_without_the_claim_is_refused() -> None:
    # The claim's holder counts as live for the rival, as it is of the same boot.
    files = Racing("before the rename")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fractal_lba.store.start_ticks_of", lambda _: 1)
        acquire_lock(files, HERE)
    assert files.rival_error is not None
    assert files.read(LOCK_NAME) == HERE.text()


def test_a_claim_whose_holder_died_is_claimed_in_turn() -> None:
    files = Racing("")
    dead = Owner(8, "old boot", 2, "host")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FaultFiles, "rename", _stop)
        with pytest.raises(KeyboardInterrupt):
            acquire_lock(files, dead)
    assert files.read(claim_of(files)) == dead.text()
    acquire_lock(files, HERE)
    assert files.names() == [LOCK_NAME]
    assert files.read(LOCK_NAME) == HERE.text()


def _stop(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_lock_that_vanishes_while_it_is_looked_at_is_tried_for_again() -> None:
    class Vanishing(FaultFiles):
        def age_ms(self, name: str) -> int:
            self.unlink(name)
            raise FileNotFoundError(name)

    files = Vanishing()
    files.put(LOCK_NAME, GONE.text())
    acquire_lock(files, HERE)
    assert files.read(LOCK_NAME) == HERE.text()


def test_only_the_own_lock_is_released() -> None:
    files = FaultFiles()
    files.put(LOCK_NAME, OTHER.text())
    release_lock(files, HERE)
    assert files.names() == [LOCK_NAME]
    files.unlink(LOCK_NAME)
    release_lock(files, HERE)


def test_a_lock_that_cannot_be_written_is_taken_away_again() -> None:
    files = FaultFiles(at=2, how="full")
    with pytest.raises(OSError, match="full"):
        acquire_lock(files, HERE)
    assert files.names() == []


def test_a_process_that_goes_while_it_is_looked_at_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    def going(path: Path, *_: object) -> str:
        raise ProcessLookupError(path)

    monkeypatch.setattr(Path, "read_text", going)
    assert start_ticks_of(os.getpid()) is None


def test_a_stale_lock_that_is_released_meanwhile_is_tried_for_again() -> None:
    class Releasing(FaultFiles):
        def read(self, name: str) -> bytes:
            text = super().read(name)
            if name == LOCK_NAME and any(each.startswith(f"{LOCK_NAME}.") for each in self.names()):
                self.unlink(LOCK_NAME)
                raise FileNotFoundError(name)
            return text

    files = Releasing()
    files.put(LOCK_NAME, GONE.text())
    acquire_lock(files, HERE)
    assert files.names() == [LOCK_NAME]
