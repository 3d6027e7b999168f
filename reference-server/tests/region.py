"""What the tests need of a region: keys, tenants, signed records, a server process, a client."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import hashlib
import http.client
import itertools
import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

import fractal_lba
from fractal_lba.ids import derive_pcs_id
from fractal_lba.sign import Ed25519Signer, HmacSigner, SignedRecord, Signer, sign
from fractal_lba_server.config import load_config
from fractal_lba_server.contract import contract_file, validator
from fractal_lba_server.logs import Log
from fractal_lba_server.server import Region
from fractal_lba_server.store.files import Files

HANG_S: Final = 60.0
"""A guard against a test that hangs; nothing is concluded from how long anything took."""

SETTLE_S: Final = 0.01
"""How long a test waits before it looks again whether something has happened."""

HMAC_KEYS: Final = {name: hashlib.sha256(name.encode()).digest() for name in (
    "acme-1", "acme-2", "acme-old", "acme-gone", "beta-1", "small-1", "stranger",
)}  # fmt: skip
ED25519: Final = Ed25519Signer(hashlib.sha256(b"beta-ed").digest(), kid="beta-ed")

ACME: Final = HmacSigner(HMAC_KEYS["acme-1"], kid="acme-1")
ACME_2: Final = HmacSigner(HMAC_KEYS["acme-2"], kid="acme-2")
BETA: Final = HmacSigner(HMAC_KEYS["beta-1"], kid="beta-1")
SMALL: Final = HmacSigner(HMAC_KEYS["small-1"], kid="small-1")

ACME_TOKEN: Final = "acme-read-token-acme-read-token-acme-read-0"
BETA_TOKEN: Final = "beta-read-token-beta-read-token-beta-read-0"
SMALL_QUOTA: Final = 5
ORIGIN: Final = "https://page.example"


def tenants_document() -> dict[str, Any]:
    """Build the tenants file that most tests use; callers may change their copy."""

    def key(name: str, **more: Any) -> dict[str, Any]:
        return {"kid": name, "alg": "HMAC", "secret": {"file": f"{name}.key"}, **more}

    def token(text: str) -> dict[str, Any]:
        return {"id": text[:4], "sha256": hashlib.sha256(text.encode()).hexdigest()}

    beta_ed = {"kid": "beta-ed", "alg": "Ed25519", "public_key": ED25519.public_key.hex()}
    past, gone = "2020-01-01T00:00:00Z", {"status": "revoked"}
    return {
        "version": 1,
        "tenants": [
            {
                "id": "acme",
                "keys": [
                    key("acme-1"),
                    key("acme-2"),
                    key("acme-old", not_after=past),
                    key("acme-gone", **gone),
                ],
                "read_tokens": [token(ACME_TOKEN)],
            },
            {
                "id": "beta",
                "keys": [key("beta-1"), beta_ed],
                "v1_default_kid": "beta-1",
                "signing": {"min_version": 1},
                "read_tokens": [token(BETA_TOKEN)],
            },
            {
                "id": "small",
                "keys": [key("small-1")],
                "quota": {"per_s": 0.001, "burst": SMALL_QUOTA},
            },
        ],
    }


def write_tenants(folder: Path, document: Mapping[str, Any]) -> None:
    """Put a tenants file in place whole, as an editor or a deployment tool does."""
    new = folder / "tenants.yaml.new"
    new.write_text(yaml.safe_dump(document), encoding="utf-8")
    new.rename(folder / "tenants.yaml")


def write_home(folder: Path, **settings: Any) -> Path:
    """Write keys, tenants and flk.yaml; `settings` are laid over those of the server file."""
    for name, key in HMAC_KEYS.items():
        file = folder / f"{name}.key"
        file.write_text(key.hex(), encoding="ascii")
        file.chmod(0o600)
    write_tenants(folder, tenants_document())
    document = {
        "listen": "127.0.0.1:0",
        "admin_listen": "127.0.0.1:0",
        "data": "data",
        "tenants_file": "tenants.yaml",
        "limits": {"unauthenticated_per_s": 1_000_000},
        "cors": {"allowed_origins": [ORIGIN]},
        **settings,
    }
    (folder / "flk.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    return folder


# --- records -------------------------------------------------------------------------------

EXAMPLES: Final = yaml.safe_load(contract_file("examples.yaml").read_text(encoding="utf-8"))
_DELIVERY = ("sig", "sig_v", "alg", "kid", "tenant_id")
BASE: Final[Mapping[str, Any]] = {
    name: value
    for name, value in EXAMPLES["records"]["version_2"]["value"].items()
    if name not in _DELIVERY
}
_numbers = itertools.count(1)


def members(number: int | str | None = None, **changed: Any) -> dict[str, Any]:
    """Give the members of an unsigned record; another number is another id."""
    if number is None:
        number = next(_numbers)
    root = hashlib.sha256(str(number).encode()).hexdigest()
    record = {**BASE, "merkle_root": root, **changed}
    if "pcs_id" not in changed:
        record["pcs_id"] = derive_pcs_id(record["merkle_root"], record["epoch"], record["shard_id"])
    return record


def signed(
    number: int | str | None = None,
    *,
    signer: Signer = ACME,
    tenant: str | None = "acme",
    version: int = 2,
    **changed: Any,
) -> SignedRecord:
    """Sign a record of its own id, or of the id that `number` stands for."""
    return sign(members(number, **changed), signer, sig_version=version, tenant=tenant)


# --- a server process ----------------------------------------------------------------------

_SOURCES = [str(Path(package).parents[1]) for package in (
    fractal_lba.__file__, contract_file.__code__.co_filename,
)]  # fmt: skip


def environment(more: Mapping[str, str] | None = None) -> dict[str, str]:
    """Give the environment of a process that runs what is tested here."""
    path = os.pathsep.join([*_SOURCES, str(Path(__file__).parent)])
    return {**os.environ, "PYTHONPATH": path, **(more or {})}


class ServerProcess:
    """Runs `flk-server serve` with the files of one folder, on ports that the system chooses."""

    def __init__(
        self, home: Path, *, arguments: Sequence[str] = ("-m", "fractal_lba_server"),
        environ: Mapping[str, str] | None = None,
    ) -> None:  # fmt: skip
        self.home = home
        self._command = [sys.executable, *arguments, "serve", "--config", str(home / "flk.yaml")]
        self._environ = environment(environ)
        self._log = home / "stderr.log"
        self._process: subprocess.Popen[bytes] | None = None
        self.port = self.admin_port = 0

    @property
    def data(self) -> Path:
        """Give the data directory."""
        return self.home / "data"

    @property
    def process(self) -> subprocess.Popen[bytes]:
        """Give the process that was started last."""
        assert self._process is not None
        return self._process

    def start(self) -> None:
        """Start, and wait until it listens; fails with what it wrote if it does not."""
        self._spawn()
        line = self._first_line()
        if not line.startswith("listening on"):
            self.kill()
            pytest.fail(f"the server did not start: {line}\n{self.stderr()}")
        public, _, admin = line.removeprefix("listening on ").partition(", admin on ")
        self.port = int(public.rpartition(":")[2])
        self.admin_port = int(admin.rpartition(":")[2] or 0)

    def refuse_to_start(self) -> tuple[int, str]:
        """Start a server that must not come up; give its exit status and its own words."""
        self._spawn()
        line = self._first_line()
        if line.startswith("listening on"):
            self.kill()
            pytest.fail("the server listens")
        return self.wait(), self.stderr()

    def _spawn(self) -> None:
        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                self._command, env=self._environ, stdout=subprocess.PIPE, stderr=log
            )

    def _first_line(self) -> str:
        out = self.process.stdout
        assert out is not None
        ready, _, _ = select.select([out], [], [], HANG_S)
        return out.readline().decode() if ready else "it hangs"

    def kill(self) -> None:
        """End it with SIGKILL, as a crash does."""
        self.process.kill()
        self.wait()

    @property
    def has_started(self) -> bool:
        """Tell whether a process was ever started here."""
        return self._process is not None

    def end(self) -> None:
        """End it at once if it still runs."""
        if self.process.poll() is None:
            self.kill()

    def stop(self) -> int:
        """End it with SIGTERM; give the exit status."""
        self.process.terminate()
        return self.wait()

    def signal(self, number: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(number)

    def wait(self) -> int:
        """Wait for its end; give the exit status."""
        status = self.process.wait(HANG_S)
        if self.process.stdout is not None:
            self.process.stdout.close()
        return status

    def stderr(self) -> str:
        """Give what it has written to stderr since its last start."""
        return self._log.read_text(encoding="utf-8", errors="replace")

    def event(self, name: str) -> dict[str, Any]:
        """Wait for the log line of an event and give the last one of it."""
        wait_until(lambda: self.events(name))
        return self.events(name)[-1]

    def events(self, name: str) -> list[dict[str, Any]]:
        """Give the whole log lines of one event."""
        whole = self.stderr().rpartition("\n")[0]
        lines = (line for line in whole.split("\n") if line.startswith("{"))
        return [line for line in map(json.loads, lines) if line.get("event") == name]


def wait_until(condition: Any) -> None:
    """Wait for something that must happen; fails instead of hanging."""
    deadline = time.monotonic() + HANG_S
    while not condition():
        if time.monotonic() > deadline:
            pytest.fail("waited in vain")
        time.sleep(SETTLE_S)


# --- a client ------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Reply:
    """An answer as it came over the socket. Header names are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes
    sent_headers: tuple[tuple[str, str], ...] = field(default=(), repr=False)

    @property
    def problem(self) -> dict[str, Any]:
        """Give the problem details, which must be valid and belong to this answer."""
        assert self.headers["content-type"] == "application/problem+json", self
        document: dict[str, Any] = json.loads(self.body)
        validator("problem").validate(document)
        assert document["status"] == self.status
        assert document["request_id"] == self.headers["x-request-id"]
        if self.status in (429, 503):
            assert -(-document["retry_after_ms"] // 1000) == int(self.headers["retry-after"])
        return document

    @property
    def code(self) -> str:
        """Give the code of a refusal."""
        return str(self.problem["code"])

    @property
    def outcome(self) -> dict[str, Any]:
        """Give a stored outcome, which must be valid."""
        document: dict[str, Any] = json.loads(self.body)
        validator("outcome").validate(document)
        assert self.status == (202 if document["escalated"] else 200)
        return document


JSON: Final = {"content-type": "application/json"}
NDJSON: Final = {"content-type": "application/x-ndjson"}


def ask(
    port: int, method: str, path: str, body: bytes | None = None,
    headers: Mapping[str, str] | None = None, source: str | None = None,
) -> Reply:  # fmt: skip
    """Send one request on a connection of its own; `source` is the address it comes from."""
    connection = http.client.HTTPConnection(
        "127.0.0.1", port, timeout=HANG_S, source_address=(source, 0) if source else None
    )
    with contextlib.closing(connection):
        connection.request(method, path, body, dict(headers or {}))
        return read_reply(connection.getresponse())


def read_reply(response: http.client.HTTPResponse) -> Reply:
    """Read a whole answer."""
    pairs = tuple((name.lower(), value) for name, value in response.getheaders())
    return Reply(response.status, dict(pairs), response.read(), pairs)


def submit(port: int, body: bytes, source: str | None = None, **headers: str) -> Reply:
    """Submit one record; header names are given with underscores."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return ask(port, "POST", "/v1/pcs/submit", body, {**JSON, **named}, source)


def get(port: int, pcs_id: str, token: str = ACME_TOKEN) -> Reply:
    """Read an outcome."""
    return ask(port, "GET", f"/v1/pcs/{pcs_id}", None, {"authorization": f"Bearer {token}"})


def request_bytes(body: bytes, path: str = "/v1/pcs/submit") -> bytes:
    """Write a submission as it goes over the wire."""
    head = f"POST {path} HTTP/1.1\r\nhost: a\r\ncontent-type: application/json\r\n"
    return head.encode() + b"content-length: %d\r\n\r\n" % len(body) + body


class Wire:
    """A connection that sends what it is told, whole requests or parts of one."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def open(cls, port: int) -> Wire:
        """Connect."""
        return cls(*await asyncio.open_connection("127.0.0.1", port))

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self._writer.write(data)

    def end(self) -> None:
        """Send no more, but still read."""
        self._writer.write_eof()

    async def reply(self) -> Reply:
        """Read one answer with a length; raises IncompleteReadError at the end."""
        head = await self._reader.readuntil(b"\r\n\r\n")
        first, *lines = head.decode("latin-1").split("\r\n")[:-2]
        pairs = tuple((n.lower(), v) for n, _, v in (line.partition(": ") for line in lines))
        headers = dict(pairs)
        body = await self._reader.readexactly(int(headers.get("content-length", "0")))
        return Reply(int(first.split(" ")[1]), headers, body, pairs)

    async def rest(self) -> bytes:
        """Read until the server closes, then close too."""
        received = bytearray()
        with contextlib.suppress(ConnectionError):
            while block := await self._reader.read(65_536):
                received += block
        self.close()
        return bytes(received)

    def close(self) -> None:
        """Close; unread data is dropped."""
        self._writer.close()

    def abort(self) -> None:
        """Reset the connection."""
        self._writer.transport.abort()


# --- a region in this process --------------------------------------------------------------


@contextlib.contextmanager
def files_are(files: Files) -> Iterator[None]:
    """Have every log that is opened in this process written through `files`."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("fractal_lba_server.store.wal.SystemFiles", lambda: files)
        yield


@dataclass(slots=True)
class RunningRegion:
    """A region on the event loop of the test."""

    region: Region
    port: int
    log: Path
    stopped: asyncio.Task[int]
    status: int | None = None


@contextlib.asynccontextmanager
async def running_region(home: Path) -> AsyncIterator[RunningRegion]:
    """Run a region on this event loop, and stop it as SIGTERM does."""
    thresholds = gc.get_threshold()
    path = home / "region.log"
    with path.open("wb") as stream, Log(stream) as log:
        region = Region(load_config(home / "flk.yaml"), log)
        public, _ = await region.start()
        stopped = asyncio.create_task(region.stopped())
        running = RunningRegion(region, public.port, path, stopped)
        try:
            yield running
        finally:
            if not stopped.done():
                os.kill(os.getpid(), signal.SIGTERM)
            running.status = await asyncio.wait_for(stopped, HANG_S)
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                asyncio.get_running_loop().remove_signal_handler(number)
            gc.unfreeze()
            gc.set_threshold(*thresholds)
