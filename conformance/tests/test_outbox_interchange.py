"""One outbox directory, three SDKs: each recovers what each other one left when it was killed.

A child program of one SDK keeps records, has some of them answered, keeps more and is killed. A
child of another SDK opens the directory and finishes. Ids, dead letters and the bodies that reach
the server are those that the first one was told, and the bytes that the record has under the key
in every SDK. What one holds until it is replicated, another one holds on, and releases. While a
child lives, no other SDK may have its directory.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from fractal_lba import HmacSigner
from fractal_lba.canonical import jcs, parse
from fractal_lba.ids import derive_pcs_id
from fractal_lba.outbox import DEAD_LOG, Letter, Recovery, first_id_of, read_frame
from fractal_lba.sign import sign_record
from fractal_lba.testing import outcome_body

TESTEES = Path(__file__).resolve().parents[1] / "testees"
VECTORS = Path(__file__).resolve().parents[2] / "golden" / "vectors"
SDKS = ["python", "go", "ts"]
SIGNER = HmacSigner(bytes(range(32)), kid="k1")
FIRST, MORE = 24, 17
"""Records before the flush, and after it until the kill."""

MAX_FLUSH_MS = 20_000
"""A bound that no flush waits for."""


# --- records and their server -------------------------------------------------------------------


def sample() -> dict[str, Any]:
    """Take a valid record from the vectors, and give it the time of now."""
    suite = json.loads((VECTORS / "client" / "submit.json").read_text())
    members = parse(bytes.fromhex(suite["cases"][0]["args"]["calls"][0]["json"]))
    return members | {"sent_at": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")}


@pytest.fixture(scope="module")
def records() -> list[dict[str, Any]]:
    members = sample()
    made = []
    for epoch in range(FIRST + MORE):
        pcs_id = derive_pcs_id(members["merkle_root"], epoch, members["shard_id"])
        made.append(members | {"epoch": epoch, "pcs_id": pcs_id})
    return made


class Server(ThreadingHTTPServer):
    """Answer submits and batches, by the epoch of each record while `picky`."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.picky = True
        self.replicated: int | None = None
        self.lock = threading.Lock()
        self.bodies: dict[int, set[bytes]] = {}
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.server_port}"

    def answer(self, body: bytes) -> tuple[int, dict[str, Any]]:
        """Answer one record, and note its bytes."""
        members = json.loads(body)
        epoch = members["epoch"]
        with self.lock:
            self.bodies.setdefault(epoch, set()).add(body)
        if self.picky and epoch % 4 == 1:
            return 409, {"problem": {"status": 409, "code": "pcs_id_conflict", "title": "other"}}
        if self.picky and epoch % 8 == 7:
            return 503, {"problem": {"status": 503, "code": "unavailable", "title": "later"}}
        answer = {"outcome": json.loads(outcome_body(members["pcs_id"])), "replayed": False}
        if self.replicated is not None:
            answer |= {"position": f"eu1/open/1/{epoch + 1}", "level": "durable"}
        return 200, answer

    def status(self) -> bytes:
        """Say how far the region is replicated."""
        numbers = {"region_epoch": 1, "durable": len(self.bodies), "replicated": self.replicated}
        return jcs({"region": "eu1", "streams": [{"placement": "open", "closed": [], **numbers}]})


class Handler(BaseHTTPRequestHandler):
    server: Server
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        held = self.server.replicated is not None and self.path == "/v1/region/status"
        self.reply(200, self.server.status() if held else b"{}", "application/json")

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        if self.path == "/v1/pcs/submit":
            status, answer = self.server.answer(body)
            kind = "application/problem+json" if status >= 400 else "application/json"
            self.reply(status, jcs(answer.get("problem") or answer["outcome"]), kind)
            return
        lines = []
        for index, line in enumerate(body.splitlines()):
            status, answer = self.server.answer(line)
            lines.append(jcs({"index": index, "status": status, **answer}) + b"\n")
        self.reply(200, b"".join(lines), "application/x-ndjson")

    def reply(self, status: int, body: bytes, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        if self.server.replicated is not None:
            self.send_header("PCS-Replicated", f"eu1/open/1/{self.server.replicated}")
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:
        """Say nothing."""


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.shutdown()
    made.server_close()


# --- children -----------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def programs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, list[str]]:
    """Build the child of each SDK; one whose tools are not there is left out."""
    made = {"python": [sys.executable, str(TESTEES / "python" / "outbox_child.py")]}
    if shutil.which("go"):
        built = tmp_path_factory.mktemp("go") / "child"
        subprocess.run(
            ["go", "build", "-o", str(built), "./outboxchild"],
            cwd=TESTEES / "go",
            env=os.environ | {"GOWORK": "off", "CGO_ENABLED": "0"},
            check=True,
        )
        made["go"] = [str(built)]
    if shutil.which("node"):
        # A testee builds itself before it reads, and ends with its input.
        subprocess.run([str(TESTEES / "ts" / "run")], stdin=subprocess.DEVNULL, check=True)
        made["ts"] = ["node", str(TESTEES / "ts" / "outboxChild.mjs")]
    return made


class Child:
    """One child program at work on a directory."""

    def __init__(self, program: list[str], directory: Path, url: str, *more: str) -> None:
        self.process = subprocess.Popen(
            [*program, str(directory), url, *more],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
        )
        self.acknowledged: list[str] = []
        self.dead: dict[str, tuple[str, str, bytes]] = {}

    def ask(self, line: str, word: str) -> list[str]:
        """Write a line and give the words of its answer."""
        assert self.process.stdin is not None
        self.process.stdin.write(line + "\n")
        return self.hear(word)

    def hear(self, word: str) -> list[str]:
        """Read lines up to the one that begins with a word; give its other words."""
        assert self.process.stdout is not None
        for line in self.process.stdout:
            first, *words = line.split()
            if first == word:
                return words
            if first == "acknowledged":
                self.acknowledged += words
            elif first == "dead":
                self.dead[words[0]] = (words[1], words[2], bytes.fromhex(words[3]))
            else:
                pytest.fail(f"the child said {line!r} instead of {word}")
        pytest.fail(f"the child ended before it said {word}")

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.end()

    def end(self) -> None:
        with self.process:
            assert self.process.stdin is not None
            self.process.stdin.close()


def child_of(
    sdk: str, programs: dict[str, list[str]], directory: Path, server: Server, *more: str
) -> Child:
    if sdk not in programs:
        pytest.fail(f"the tools of the {sdk} SDK are missing; `nox -s conformance` installs them")
    return Child(programs[sdk], directory, server.url, *more)


def fill(child: Child, records: list[dict[str, Any]]) -> dict[int, str]:
    """Keep records, have some answered, keep more; give the ids by epoch."""
    child.hear("found")
    kept = {}
    for record in records[:FIRST]:
        kept[record["epoch"]] = child.ask(jcs(record).decode(), "kept")[0]
    child.ask("flush 300", "flushed")
    for record in records[FIRST:]:
        kept[record["epoch"]] = child.ask(jcs(record).decode(), "kept")[0]
    return kept


def read(directory: Path) -> tuple[dict[str, Letter], Recovery]:
    """Read a directory as `spec/formats.md` 11 says, without changing it."""
    found = Recovery()
    logs = sorted(path.name for path in directory.iterdir() if first_id_of(path.name) is not None)
    for name in logs:
        found.feed(name, (directory / name).read_bytes(), last=name == logs[-1])
    if (directory / DEAD_LOG).exists():
        found.feed_dead((directory / DEAD_LOG).read_bytes())
    letters = {}
    for entry in found.entries.values():
        framed = read_frame((directory / entry.file).read_bytes(), entry.offset)
        assert framed is not None
        letters[entry.id] = Letter.of(framed.value)
    return letters, found


# --- the matrix ---------------------------------------------------------------------------------


@pytest.mark.parametrize("writer", SDKS)
def test_each_sdk_finishes_what_another_left(
    writer: str,
    programs: dict[str, list[str]],
    records: list[dict[str, Any]],
    server: Server,
    tmp_path: Path,
) -> None:
    expected = {
        record["epoch"]: sign_record(record, SIGNER, tenant="acme").body for record in records
    }
    left = tmp_path / "left"
    child = child_of(writer, programs, left, server)
    kept = fill(child, records)
    child.kill()
    conflicting = {epoch for epoch in range(FIRST) if epoch % 4 == 1}
    refused = {epoch for epoch in range(FIRST) if epoch % 8 == 7}
    waiting = refused | set(range(FIRST, FIRST + MORE))
    letters, _ = read(left)
    assert {id: letter.body for id, letter in letters.items()} == {
        kept[epoch]: expected[epoch] for epoch in waiting
    }
    assert server.bodies == {epoch: {expected[epoch]} for epoch in range(FIRST)}

    server.picky = False
    for reader in SDKS:
        server.bodies.clear()
        directory = tmp_path / f"{writer}-{reader}"
        shutil.copytree(left, directory)
        newest = max(path for path in directory.glob("outbox-*.log"))
        with newest.open("ab") as log:
            log.write(b"\0\0\1\0torn")
        finisher = child_of(reader, programs, directory, server)
        assert finisher.hear("found") == [str(len(waiting)), str(len(conflicting))]
        assert finisher.ask(f"flush {MAX_FLUSH_MS}", "flushed") == ["0", str(len(conflicting))]
        finisher.end()
        assert finisher.dead == {
            kept[epoch]: ("409", "pcs_id_conflict", expected[epoch]) for epoch in conflicting
        }
        assert sorted(finisher.acknowledged) == sorted(kept[epoch] for epoch in waiting)
        assert server.bodies == {epoch: {expected[epoch]} for epoch in waiting}
        after, found = read(directory)
        assert (after, found.corrupt, found.cuts) == ({}, [], {})
        assert found.dead.keys() == finisher.dead.keys()


@pytest.mark.parametrize("holder", SDKS)
def test_a_directory_has_one_owner_whatever_its_sdk(
    holder: str, programs: dict[str, list[str]], server: Server, tmp_path: Path
) -> None:
    directory = tmp_path / "outbox"
    child = child_of(holder, programs, directory, server)
    child.hear("found")
    for rival in SDKS:
        refused = child_of(rival, programs, directory, server)
        assert refused.hear("outbox_locked") == []
        refused.end()
    child.kill()
    for heir in SDKS:
        opened = child_of(heir, programs, directory, server)
        assert opened.hear("found") == ["0", "0"]
        opened.kill()


@pytest.mark.parametrize("writer", SDKS)
def test_files_are_the_same_to_the_byte_whatever_sdk_wrote_them(
    writer: str,
    programs: dict[str, list[str]],
    records: list[dict[str, Any]],
    server: Server,
    tmp_path: Path,
) -> None:
    server.picky = False
    written = {}
    for sdk in ("python", writer):
        directory = tmp_path / f"by-{sdk}"
        child = child_of(sdk, programs, directory, server)
        child.hear("found")
        for record in records[:5]:
            child.ask(jcs(record).decode(), "kept")
        child.ask(f"flush {MAX_FLUSH_MS}", "flushed")
        child.end()
        written[sdk] = {path.name: path.read_bytes() for path in directory.iterdir()}
    assert written["python"] == written[writer]


@pytest.mark.parametrize("writer", SDKS)
def test_each_sdk_holds_and_releases_what_another_held(
    writer: str,
    programs: dict[str, list[str]],
    records: list[dict[str, Any]],
    server: Server,
    tmp_path: Path,
) -> None:
    server.picky, server.replicated = False, 3
    written = []
    for number, sdk in enumerate(("python", writer)):
        left = tmp_path / f"{number}-by-{sdk}"
        child = child_of(sdk, programs, left, server, "replicated")
        assert child.hear("found") == ["0", "0", "0"]
        kept = [child.ask(jcs(record).decode(), "kept")[0] for record in records[:8]]
        assert child.ask("flush 300", "flushed") == ["5", "0", "5"]
        assert child.acknowledged == kept[:3]
        child.kill()
        written.append({path.name: path.read_bytes() for path in left.glob("*.log")})
    assert written[0] == written[1]

    for reader in SDKS:
        server.bodies.clear()
        server.replicated = 6
        directory = tmp_path / f"{writer}-{reader}"
        shutil.copytree(left, directory)
        heir = child_of(reader, programs, directory, server, "replicated")
        assert heir.hear("found") == ["5", "0", "5"]
        assert heir.ask("flush 300", "flushed") == ["2", "0", "2"]
        server.replicated = 8
        assert heir.ask(f"flush {MAX_FLUSH_MS}", "flushed") == ["0", "0", "0"]
        heir.end()
        assert heir.acknowledged == kept[3:]
        assert server.bodies == {}
