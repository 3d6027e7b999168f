"""What the server does about a full, failing, damaged or foreign disk, on a real process."""

from __future__ import annotations

import contextlib
import json
import shutil
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest
from region import (
    ServerProcess,
    ask,
    get,
    signed,
    submit,
    wait_until,
    write_home,
)

from fractal_lba_server.core.segment import HEADER_BYTES
from fractal_lba_server.store.sqlite import Index
from fractal_lba_server.store.wal import read_segment, segment_paths

RECORDS = 12


def wal_folder(server: ServerProcess) -> Path:
    """Give the folder of the one stream."""
    return server.data / "wal" / "open"


def forget_index(server: ServerProcess) -> None:
    """Delete the index with everything that SQLite keeps beside it."""
    for path in server.data.glob("index.sqlite*"):
        path.unlink()


def filled(home: Path, **settings: object) -> tuple[ServerProcess, dict[bytes, bytes]]:
    """Run a server for some records and stop it; give the outcomes by body."""
    server = ServerProcess(write_home(home, **settings))
    server.start()
    bodies = [signed().body for _ in range(RECORDS)]
    outcomes = {body: submit(server.port, body).body for body in bodies}
    assert server.stop() == 0
    return server, outcomes


def expect_replays(server: ServerProcess, outcomes: dict[bytes, bytes]) -> None:
    """Check that every outcome is the answer still."""
    for body, outcome in outcomes.items():
        reply = submit(server.port, body)
        assert (reply.headers["idempotency-replayed"], reply.body) == ("true", outcome)


# --- a full disk, a failing disk -----------------------------------------------------------


@pytest.fixture
def faulty(home: Path) -> ServerProcess:
    """Give a server whose log fails on request."""
    script = str(Path(__file__).with_name("faulty_server.py"))
    return ServerProcess(home, arguments=[script], environ={"FLK_FAULTS": str(home)})


@pytest.mark.parametrize("error", ["ENOSPC", "EDQUOT"])
def test_full_disk_is_503_and_recovers_by_itself(faulty: ServerProcess, error: str) -> None:
    faulty.start()
    before = signed()
    first = submit(faulty.port, before.body)
    assert first.status == 200
    switch = faulty.home / "fail-pwrite"
    switch.write_text(error, encoding="ascii")
    refused = [signed() for _ in range(5)]
    for record in refused:
        assert submit(faulty.port, record.body).code == "unavailable"
    health = ask(faulty.port, "GET", "/health")
    assert (health.status, health.code) == (503, "unavailable")
    assert "no space" in health.problem["detail"]
    assert ask(faulty.port, "GET", "/healthz").status == 200
    assert get(faulty.port, before.pcs_id).body == first.body, "reads go on"
    assert get(faulty.port, refused[0].pcs_id).code == "not_found"
    switch.unlink()
    wait_until(lambda: ask(faulty.port, "GET", "/health").status == 200)
    for record in refused:
        assert submit(faulty.port, record.body).headers["idempotency-replayed"] == "false"
    faulty.kill()
    faulty.start()
    expect_replays(faulty, {before.body: first.body})
    for record in refused:
        assert submit(faulty.port, record.body).headers["idempotency-replayed"] == "true"
    assert faulty.stop() == 0


def test_full_disk_at_the_start_is_said(faulty: ServerProcess) -> None:
    (faulty.home / "fail-pwrite").write_text("ENOSPC", encoding="ascii")
    status, words = faulty.refuse_to_start()
    assert status == 1
    assert "No space left on device" in words
    assert "Traceback" not in words
    (faulty.home / "fail-pwrite").unlink()
    faulty.start()
    assert submit(faulty.port, signed().body).status == 200
    assert faulty.stop() == 0


def test_failed_sync_ends_the_process_and_says_so(faulty: ServerProcess) -> None:
    faulty.start()
    before, after = signed(), signed()
    first = submit(faulty.port, before.body)
    (faulty.home / "fail-fdatasync").write_text("EIO", encoding="ascii")
    assert submit(faulty.port, after.body).code == "unavailable"
    assert faulty.wait() == 74
    (failed,) = faulty.events("log_failed")
    assert failed["level"] == "error"
    assert "Input/output error" in failed["reason"]
    assert "Traceback" not in faulty.stderr()
    (faulty.home / "fail-fdatasync").unlink()
    faulty.start()
    expect_replays(faulty, {before.body: first.body})
    assert submit(faulty.port, after.body).status == 200
    assert faulty.stop() == 0


# --- a damaged log -------------------------------------------------------------------------


def test_damaged_closed_segment_is_refused_by_file_and_offset(tmp_path: Path) -> None:
    server = ServerProcess(write_home(tmp_path, wal={"segment_age_s": 0.001}))
    server.start()
    for _ in range(3):
        submit(server.port, signed().body)
    server.stop()
    path = segment_paths(wal_folder(server))[0]
    assert path.suffix == ".wal"
    assert path.stat().st_mode & 0o777 == 0o444
    whole = path.read_bytes()
    path.chmod(0o600)
    frame = read_segment(path).frames[0]
    for offset, named in (
        (frame.end - 1, frame.offset),
        (frame.offset + 40, frame.offset),
        (3, 0),
        (len(whole) - 60, len(whole)),
    ):
        damaged = bytearray(whole)
        damaged[offset] ^= 0x10
        path.write_bytes(damaged)
        status, words = server.refuse_to_start()
        assert status == 1
        assert str(path) in words
        assert f"byte {named}" in words
        assert "fsck" in words
        assert path.read_bytes() == damaged, "nothing was changed"
    path.write_bytes(whole)
    server.start()
    assert server.stop() == 0


def test_missing_segment_is_refused(tmp_path: Path) -> None:
    server = ServerProcess(write_home(tmp_path, wal={"segment_age_s": 0.001}))
    server.start()
    for _ in range(3):
        submit(server.port, signed().body)
    server.stop()
    paths = segment_paths(wal_folder(server))
    paths[1].unlink()
    status, words = server.refuse_to_start()
    assert status == 1
    assert f"{paths[2]}: it names another predecessor at byte 16" in words


def test_torn_tail_is_cut_and_its_number_given_again(
    tmp_path: Path,
) -> None:
    server, outcomes = filled(tmp_path)
    (path,) = segment_paths(wal_folder(server))
    whole, frames = path.read_bytes(), read_segment(path).frames
    last = frames[-1]
    forget_index(server)
    path.write_bytes(whole[: last.offset + 100] + bytes(len(whole) - last.offset - 100))
    server.start()
    recovered = server.event("log_recovered")
    assert recovered["next_seq"] == RECORDS
    assert 0 < recovered["cut_bytes"] <= 100
    *kept, lost = outcomes
    expect_replays(server, {body: outcomes[body] for body in kept})
    again = submit(server.port, lost)
    assert again.headers["idempotency-replayed"] == "false"
    assert again.headers["pcs-position"] == f"loc/open/1/{RECORDS}"
    assert server.stop() == 0
    server.start()
    expect_replays(server, {**{body: outcomes[body] for body in kept}, lost: again.body})
    assert server.stop() == 0


@pytest.mark.parametrize("where", [0, 5, RECORDS - 1])
def test_rotten_byte_under_applied_records_is_refused(tmp_path: Path, where: int) -> None:
    server, outcomes = filled(tmp_path)
    (path,) = segment_paths(wal_folder(server))
    whole = path.read_bytes()
    frame = read_segment(path).frames[where]
    for offset in (frame.offset, frame.offset + 20, frame.end - 1):
        rotten = bytearray(whole)
        rotten[offset] ^= 0x01
        path.write_bytes(rotten)
        status, words = server.refuse_to_start()
        assert status == 1
        assert f"{path}: " in words
        assert f"at byte {frame.offset}" in words
        assert f"the index holds number {RECORDS}" in words
        assert path.read_bytes() == rotten
    path.write_bytes(whole)
    server.start()
    expect_replays(server, outcomes)
    assert server.stop() == 0


def test_log_that_was_set_back_behind_its_index_is_refused(tmp_path: Path) -> None:
    server, _ = filled(tmp_path)
    (path,) = segment_paths(wal_folder(server))
    frames = read_segment(path).frames
    path.write_bytes(path.read_bytes()[: frames[-1].offset])
    assert "the index holds number 12" in server.refuse_to_start()[1]
    path.write_bytes(path.read_bytes()[:HEADER_BYTES])
    assert "the index holds number 12" in server.refuse_to_start()[1]
    path.unlink()
    assert "the index holds number 12" in server.refuse_to_start()[1]


# --- the index -----------------------------------------------------------------------------


def test_deleted_index_is_built_again_from_the_log(tmp_path: Path) -> None:
    server, outcomes = filled(tmp_path, wal={"segment_age_s": 0.001})
    assert len(segment_paths(wal_folder(server))) > 2
    forget_index(server)
    server.start()
    assert server.event("log_recovered")["replayed"] == RECORDS
    expect_replays(server, outcomes)
    changed = signed(1, r=0.5)
    assert submit(server.port, changed.body).outcome["reason"] == "budget_deviation"
    conflict = signed(1, r=0.6)
    assert submit(server.port, conflict.body).code == "pcs_id_conflict"
    assert server.stop() == 0


@pytest.mark.parametrize("damage", [b"no database at all", b"SQLite format 3\0" + b"\xff" * 84])
def test_damaged_index_is_named_with_the_command_that_makes_it_anew(
    tmp_path: Path, damage: bytes
) -> None:
    server, outcomes = filled(tmp_path)
    path = server.data / "index.sqlite"
    path.write_bytes(damage + path.read_bytes()[len(damage) :])
    status, words = server.refuse_to_start()
    assert (status, "Traceback" in words) == (1, False)
    assert str(path) in words
    command = f"replay --rebuild --data {server.data}"
    assert f"`flk-server {command}`" in words
    for offline in ("fsck", "replay"):
        done = flk_server(offline, "--data", server.data)
        assert (done.returncode, "Traceback" in done.stderr) == (1, False)
        assert command in done.stderr
    assert flk_server(*command.split()).returncode == 0
    server.start()
    assert server.event("log_recovered")["replayed"] == 0
    expect_replays(server, outcomes)
    assert server.stop() == 0


def test_rebuild_keeps_the_old_index_where_the_log_is_damaged_or_short(tmp_path: Path) -> None:
    server, outcomes = filled(tmp_path, wal={"segment_age_s": 0.001})
    index = server.data / "index.sqlite"
    before = index.read_bytes()
    last, second = segment_paths(wal_folder(server))[-1], segment_paths(wal_folder(server))[1]
    whole = second.read_bytes()
    second.chmod(0o600)
    second.write_bytes(whole[:-100] + b"\xff" + whole[-99:])
    damaged = flk_server("replay", "--rebuild", "--data", server.data)
    assert (damaged.returncode, second.name in damaged.stderr) == (1, True)
    assert index.read_bytes() == before
    second.write_bytes(whole)
    end = last.read_bytes()
    last.unlink()
    short = flk_server("replay", "--rebuild", "--data", server.data)
    assert short.returncode == 1
    assert "acknowledged records are missing from the log" in short.stderr
    with contextlib.closing(Index(index)) as kept:
        assert kept.applied("loc", "open") == RECORDS
    assert not list(server.data.glob("rebuilt*"))
    last.write_bytes(end)
    assert flk_server("replay", "--rebuild", "--data", server.data).returncode == 0
    server.start()
    expect_replays(server, outcomes)
    assert server.stop() == 0


def flk_server(*words: object) -> subprocess.CompletedProcess[str]:
    """Run a command of the server beside it."""
    command = [sys.executable, "-m", "fractal_lba_server", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


def test_index_that_was_set_back_is_brought_up_to_the_log(tmp_path: Path) -> None:
    server, outcomes = filled(tmp_path)
    shutil.copy(server.data / "index.sqlite", tmp_path / "old.sqlite")
    server.start()
    more = {body: submit(server.port, body).body for body in (signed().body for _ in range(5))}
    assert server.stop() == 0
    forget_index(server)
    shutil.copy(tmp_path / "old.sqlite", server.data / "index.sqlite")
    server.start()
    assert server.event("log_recovered")["replayed"] == len(more)
    expect_replays(server, outcomes | more)
    assert server.stop() == 0


def test_locked_index_closes_no_door_and_loses_nothing(home: Path) -> None:
    server = ServerProcess(home)
    server.start()
    first = signed()
    submit(server.port, first.body)
    holder = sqlite3.connect(server.data / "index.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    outcomes = {body: submit(server.port, body).body for body in (signed().body for _ in range(5))}
    expect_replays(server, outcomes)
    holder.execute("ROLLBACK")
    holder.close()
    server.kill()
    server.start()
    expect_replays(server, outcomes)
    assert server.stop() == 0


def test_index_that_cannot_follow_closes_the_gate_until_it_can(tmp_path: Path) -> None:
    store = {"recent_max": 5, "apply_interval_s": 0.01}
    server = ServerProcess(write_home(tmp_path, store=store))
    server.start()
    holder = sqlite3.connect(server.data / "index.sqlite", isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    outcomes = {body: submit(server.port, body).body for body in (signed().body for _ in range(5))}
    refused = signed()
    assert submit(server.port, refused.body).code == "unavailable"
    health = ask(server.port, "GET", "/health")
    assert (health.status, "too far behind" in health.problem["detail"]) == (503, True)
    holder.execute("ROLLBACK")
    holder.close()
    wait_until(lambda: ask(server.port, "GET", "/health").status == 200)
    assert submit(server.port, refused.body).headers["idempotency-replayed"] == "false"
    wait_until(lambda: waiting_outcomes(server) == 0)
    expect_replays(server, outcomes)
    assert server.stop() == 0


def waiting_outcomes(server: ServerProcess) -> float:
    """Count the outcomes that the index does not hold yet, as the metrics say."""
    lines = ask(server.admin_port, "GET", "/metrics").body.decode().splitlines()
    (line,) = [line for line in lines if line.startswith("flk_recent_outcomes{")]
    return float(line.rpartition(" ")[2])


# --- whose directory it is -----------------------------------------------------------------


def test_second_server_on_a_directory_is_refused_by_name(home: Path) -> None:
    first, second = ServerProcess(home), ServerProcess(home)
    first.start()
    status, words = second.refuse_to_start()
    assert status == 1
    assert str(first.data) in words
    assert f"already in use by process {first.process.pid}" in words
    assert submit(first.port, signed().body).status == 200
    assert first.stop() == 0
    second.start()
    assert second.stop() == 0


def test_newer_layout_is_refused(home: Path) -> None:
    server = ServerProcess(home)
    server.start()
    server.stop()
    (server.data / "FORMAT").write_text("2\n", encoding="ascii")
    status, words = server.refuse_to_start()
    assert status == 1
    assert f"{server.data / 'FORMAT'}: layout '2'" in words
    assert "Traceback" not in words


def test_directory_of_another_region_is_refused(home: Path) -> None:
    server = ServerProcess(home)
    server.start()
    server.stop()
    write_home(home, region="fra")
    status, words = server.refuse_to_start()
    assert status == 1
    assert "belongs to region 'loc', not 'fra'" in words
    assert json.loads((server.data / "region.json").read_bytes())["region"] == "loc"


def test_directory_of_something_else_is_refused(home: Path) -> None:
    server = ServerProcess(home)
    server.data.mkdir()
    (server.data / "thesis.tex").write_text("dear reader", encoding="ascii")
    status, words = server.refuse_to_start()
    assert status == 1
    assert "'thesis.tex' but no FORMAT" in words


def test_root_of_a_fresh_file_system_is_a_place_for_data_and_for_the_log(home: Path) -> None:
    server = ServerProcess(home)
    (server.data / "lost+found").mkdir(parents=True)
    (server.data / "wal" / "lost+found").mkdir(parents=True)
    status, words = server.refuse_to_start()
    assert (status, "'wal' but no FORMAT" in words) == (1, True)
    shutil.rmtree(server.data / "wal")
    server.start()
    (server.data / "wal" / "lost+found").mkdir(mode=0o000)
    assert submit(server.port, signed().body).status == 200
    assert server.stop() == 0
    assert flk_server("fsck", "--data", server.data).returncode == 0


def test_first_start_that_was_killed_early_is_started_again(home: Path) -> None:
    server = ServerProcess(home)
    server.data.mkdir()
    (server.data / "FORMAT.new").write_bytes(b"")
    server.start()
    assert submit(server.port, signed().body).status == 200
    assert server.stop() == 0
