"""The tenants file in use: its secrets, its changes, and what a broken one does."""

from __future__ import annotations

import asyncio
import hashlib
import io
import json
import os
import signal
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from fractal_lba.errors import SignatureError
from fractal_lba_server.core.faults import DocumentError, Fault
from fractal_lba_server.core.tenants import Directory
from fractal_lba_server.logs import Log
from fractal_lba_server.metrics import Metrics
from fractal_lba_server.tenants import FAULTS_LOGGED_MAX, TenantsFile, TenantsReader

SECRET = hashlib.sha256(b"one").hexdigest()
OTHER = hashlib.sha256(b"two").hexdigest()
FILE = """version: 1
tenants:
  - id: acme
    keys:
      - {kid: acme-1, alg: HMAC, secret: {file: acme-1.hex}}
"""
ROTATED = FILE + "      - {kid: acme-2, alg: HMAC, secret: {file: acme-2.hex}}\n"


class Place:
    """A folder with a tenants file, and a server's view of it."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "tenants.yaml"
        self.stream = io.BytesIO()
        self.log = Log(self.stream)
        self.metrics = Metrics(region="loc", salt=b"s" * 32)
        self.environ: dict[str, str] = {}
        self.kids_in_use: set[str] = set()
        self.secret("acme-1.hex", SECRET)
        self.secret("acme-2.hex", OTHER)
        self.write(FILE)

    def write(self, text: str) -> None:
        """Replace the file as a careful editor does."""
        new = self.path.with_suffix(".new")
        new.write_text(text)
        new.replace(self.path)

    def secret(self, name: str, text: str, mode: int = 0o600) -> None:
        path = self.path.parent / name
        path.write_bytes(text.encode())
        path.chmod(mode)

    def open(self, **options: Any) -> TenantsFile:
        return TenantsFile(
            self.path,
            log=self.log,
            metrics=self.metrics,
            environ=self.environ,
            kids_in_use=lambda: self.kids_in_use,
            **options,
        )

    def refusal(self) -> str:
        with pytest.raises(DocumentError) as caught:
            TenantsReader(self.path, environ=self.environ).read(kids_in_use=self.kids_in_use)
        return caught.value.message

    def events(self, name: str) -> list[dict[str, Any]]:
        self.log.flush()
        lines = map(json.loads, self.stream.getvalue().splitlines())
        return [line for line in lines if line["event"] == name]

    def broken(self) -> bool:
        return b'flk_tenants_file_broken{region="loc"} 1.0' in self.metrics.render()


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    found = Place(tmp_path)
    yield found
    found.log.close()


def kids(tenants: TenantsFile) -> list[str]:
    return sorted(tenants.directory.keys)


# --- secrets


def test_a_key_comes_from_a_file_beside_the_tenants_file(place: Place) -> None:
    assert place.open().directory.keys["acme-1"].key.hex() == SECRET


def test_a_key_comes_from_the_environment(place: Place) -> None:
    place.write(FILE.replace("{file: acme-1.hex}", "{env: ACME_KEY}"))
    place.environ["ACME_KEY"] = SECRET.upper()
    assert place.open().directory.keys["acme-1"].key.hex() == SECRET


def test_a_public_key_needs_no_secret(place: Place) -> None:
    public_key = "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"
    place.write(ROTATED + f'      - {{kid: acme-3, alg: Ed25519, public_key: "{public_key}"}}\n')
    assert place.open().directory.keys["acme-3"].key.hex() == public_key


@pytest.mark.parametrize("ending", ["", "\n", "\r\n"])
def test_one_line_end_is_no_part_of_a_key(place: Place, ending: str) -> None:
    place.secret("acme-1.hex", SECRET + ending)
    assert place.open().directory.keys["acme-1"].key.hex() == SECRET


@pytest.mark.parametrize(
    "text",
    ["", "\n", SECRET + "\n\n", " " + SECRET, SECRET[:-1], "g" * 64, "é" * 32, SECRET * 65],
    ids=["empty", "line", "two lines", "space", "odd", "no hex", "no ascii", "too long"],
)
@pytest.mark.parametrize("source", ["file", "env"])
def test_a_key_is_hexadecimal_digits_and_nothing_else(place: Place, text: str, source: str) -> None:
    if source == "env":
        place.write(FILE.replace("{file: acme-1.hex}", "{env: ACME_KEY}"))
        place.environ["ACME_KEY"] = text
    else:
        place.secret("acme-1.hex", text)
    assert place.refusal() == (
        f"{place.path}:5: /tenants/0/keys/0/secret/{source}: does not hold an even number of "
        "hexadecimal digits; make one with flk-server tenants key new"
    )


def test_a_variable_that_is_not_set_is_a_fault(place: Place) -> None:
    place.write(FILE.replace("{file: acme-1.hex}", "{env: ACME_KEY}"))
    assert place.refusal() == (
        f"{place.path}:5: /tenants/0/keys/0/secret/env: this environment variable is not set; "
        "set it"
    )


def test_a_key_file_that_is_missing_is_a_fault(place: Place) -> None:
    (place.path.parent / "acme-1.hex").unlink()
    assert "cannot be read (No such file or directory)" in place.refusal()


@pytest.mark.skipif(os.name != "posix", reason="other systems have no such modes")
@pytest.mark.parametrize("mode", [0o604, 0o640, 0o644, 0o666, 0o601])
def test_a_key_file_that_others_can_reach_is_refused(place: Place, mode: int) -> None:
    place.secret("acme-1.hex", SECRET, mode)
    assert "others than its owner can read this file; chmod 600 the file" in place.refusal()


def test_every_fault_is_said_at_once_with_its_line(place: Place) -> None:
    place.write(ROTATED)
    place.secret("acme-1.hex", "xx")
    place.secret("acme-2.hex", "ab" * 31)
    place.kids_in_use = {"gone"}
    pointers = [line.split(": ")[:2] for line in place.refusal().splitlines()]
    assert pointers == [
        [f"{place.path}:2", "/tenants"],
        [f"{place.path}:5", "/tenants/0/keys/0/secret/file"],
        [f"{place.path}:6", "/tenants/0/keys/1/secret"],
    ]


def test_what_the_schema_refuses_is_said_before_any_secret_is_read(place: Place) -> None:
    place.write(FILE.replace("alg: HMAC", "alg: hmac"))
    (place.path.parent / "acme-1.hex").unlink()
    assert place.refusal().startswith(
        f"{place.path}:5: /tenants/0/keys/0/alg: expected one of HMAC, Ed25519; choose one of them"
    )


# --- changes


def settle(tenants: TenantsFile) -> bool:
    """Look until a change has been seen twice."""
    return tenants.poll() or tenants.poll()


def test_a_change_is_taken_over_whole(place: Place) -> None:
    tenants = place.open()
    before = tenants.directory
    place.write(ROTATED)
    assert settle(tenants)
    assert kids(tenants) == ["acme-1", "acme-2"]
    assert list(before.keys) == ["acme-1"]
    first, second = place.events("tenants_loaded")
    assert first["kids_added"] == ["acme-1"]
    assert (second["kids_added"], second["kids_removed"]) == (["acme-2"], [])
    assert (second["tenants"], second["keys"]) == (1, 2)


def test_nothing_is_read_while_nothing_changes(place: Place) -> None:
    tenants = place.open()
    before = tenants.directory
    assert not any(tenants.poll() for _ in range(5))
    assert tenants.directory is before
    assert len(place.events("tenants_loaded")) == 1


def test_a_file_that_is_being_written_is_not_read_yet(place: Place) -> None:
    tenants = place.open()
    whole = ROTATED + "  - {id: beta, keys: [{kid: b, alg: HMAC, secret: {env: B}}]}\n"
    place.environ["B"] = "cd" * 32
    written = ""
    for line in whole.splitlines(keepends=True):
        written += line
        place.path.write_text(written)  # in place: every prefix is on disk for a moment
        assert not tenants.poll()
    assert tenants.poll()
    assert kids(tenants) == ["acme-1", "acme-2", "b"]


def test_an_older_file_put_back_is_a_change(place: Place) -> None:
    old = place.path.stat().st_mtime_ns
    tenants = place.open()
    place.write(ROTATED)
    assert settle(tenants)
    place.write(FILE)
    os.utime(place.path, ns=(old, old))
    assert settle(tenants)
    assert kids(tenants) == ["acme-1"]


def test_a_touched_file_gives_no_new_directory(place: Place) -> None:
    tenants = place.open()
    os.utime(place.path, ns=(0, 0))
    assert not settle(tenants)


def test_a_changed_key_file_is_a_change(place: Place) -> None:
    tenants = place.open()
    place.secret("acme-1.hex", "ab" * 32)
    assert settle(tenants)
    assert tenants.directory.keys["acme-1"].key == b"\xab" * 32


def test_old_and_new_key_hold_through_a_rotation(place: Place) -> None:
    tenants = place.open()
    now_ms = 1_767_268_800_000

    def accepted() -> list[str]:
        found = []
        for kid in ("acme-1", "acme-2"):
            try:
                tenants.directory.key_for(kid=kid, tenant_header=None, now_ms=now_ms)
            except SignatureError:
                continue
            found.append(kid)
        return found

    assert accepted() == ["acme-1"]
    place.write(ROTATED)
    assert settle(tenants)
    assert accepted() == ["acme-1", "acme-2"]
    place.kids_in_use = {"acme-1", "acme-2"}
    place.write(ROTATED.replace("kid: acme-1,", "kid: acme-1, status: revoked,"))
    assert settle(tenants)
    assert accepted() == ["acme-2"]


# --- a broken file


def forget_a_used_kid(place: Place) -> None:
    place.kids_in_use = {"acme-1"}
    place.write(FILE.replace("kid: acme-1", "kid: acme-9"))


BREAKS: dict[str, Callable[[Place], None]] = {
    "syntax": lambda place: place.write("tenants: ["),
    "schema": lambda place: place.write(FILE + "    nonsense: 1\n"),
    "gone": lambda place: place.path.unlink(),
    "empty": lambda place: place.write(""),
    "secret": lambda place: (place.path.parent / "acme-1.hex").unlink(),
    "mode": lambda place: (place.path.parent / "acme-1.hex").chmod(0o644),
    "new secret": lambda place: place.write(ROTATED.replace("acme-2.hex", "nowhere")),
    "kid in use": forget_a_used_kid,
}


@pytest.mark.parametrize("name", BREAKS)
def test_a_broken_file_keeps_the_last_good_directory_and_says_so_once(
    place: Place, name: str
) -> None:
    tenants = place.open()
    good = tenants.directory
    BREAKS[name](place)
    assert not any(tenants.poll() for _ in range(5))
    assert tenants.directory is good
    assert place.broken()
    (refused,) = place.events("tenants_refused")
    assert refused["level"] == "error"
    assert refused["file"] == str(place.path)
    assert len(refused["faults"]) >= 1


@pytest.mark.parametrize("name", BREAKS)
def test_a_mended_file_is_taken_over_by_itself(place: Place, name: str) -> None:
    tenants = place.open()
    BREAKS[name](place)
    settle(tenants)
    assert place.broken()
    place.secret("acme-1.hex", SECRET)
    place.secret("nowhere", OTHER)
    if name != "new secret":
        place.write(ROTATED)
    assert settle(tenants)
    assert kids(tenants) == ["acme-1", "acme-2"]
    assert not place.broken()


def test_a_broken_file_at_the_start_is_an_error(place: Place) -> None:
    place.write("tenants: [")
    with pytest.raises(DocumentError):
        place.open()


def test_a_missing_file_at_the_start_is_an_error(place: Place) -> None:
    place.path.unlink()
    with pytest.raises(FileNotFoundError):
        place.open()


def test_a_very_broken_file_fits_in_a_log_line(place: Place) -> None:
    tenants = place.open()
    place.write("version: 1\ntenants:\n" + "  - {id: 5, keys: []}\n" * 50)
    assert not tenants.reload()
    (refused,) = place.events("tenants_refused")
    assert len(refused["faults"]) == FAULTS_LOGGED_MAX
    assert refused["more_faults"] == 100 - FAULTS_LOGGED_MAX


def test_an_asked_reload_says_why_it_failed(place: Place) -> None:
    tenants = place.open()
    place.write(ROTATED)
    assert kids(tenants) == ["acme-1"]
    assert sorted(tenants.read_now().keys) == kids(tenants) == ["acme-1", "acme-2"]
    place.write("tenants: [")
    with pytest.raises(DocumentError, match="not YAML"):
        tenants.read_now()
    assert kids(tenants) == ["acme-1", "acme-2"]


def test_a_directory_that_the_rest_forbids_is_refused(place: Place) -> None:
    def accept(directory: Directory) -> None:
        if "acme-2" in directory.keys:
            raise DocumentError([Fault("/tenants/0", "too many keys", "remove one")])

    tenants = place.open(accept=accept)
    place.write(ROTATED)
    assert not settle(tenants)
    assert kids(tenants) == ["acme-1"]
    assert place.events("tenants_refused")[0]["faults"] == ["/tenants/0: too many keys; remove one"]


# --- watching


def watch_until(
    tenants: TenantsFile, act: Callable[[], None], *, interval_s: float
) -> list[Directory]:
    """Watch, act, and wait for the first directory that comes of it."""

    async def run() -> list[Directory]:
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGHUP, tenants.request_reload)
        first: asyncio.Future[Directory] = loop.create_future()
        watching = asyncio.create_task(tenants.watch(first.set_result, interval_s=interval_s))
        act()
        try:
            return [await asyncio.wait_for(first, 30)]
        finally:
            loop.remove_signal_handler(signal.SIGHUP)
            watching.cancel()

    return asyncio.run(run())


def test_a_watched_file_is_taken_over_without_a_signal(place: Place) -> None:
    tenants = place.open()
    (directory,) = watch_until(tenants, lambda: place.write(ROTATED), interval_s=0.001)
    assert directory is tenants.directory
    assert kids(tenants) == ["acme-1", "acme-2"]


def test_a_signal_reads_the_file_without_waiting_for_a_poll(place: Place) -> None:
    tenants = place.open()

    def rotate() -> None:
        place.write(ROTATED)
        os.kill(os.getpid(), signal.SIGHUP)

    watch_until(tenants, rotate, interval_s=3600)
    assert kids(tenants) == ["acme-1", "acme-2"]


# --- secrets stay secret


def test_no_secret_reaches_a_message_a_log_or_a_metric(
    place: Place, capfd: pytest.CaptureFixture[str]
) -> None:
    inline = FILE.replace("{file: acme-1.hex}", SECRET)
    texts = []
    tenants = place.open()
    for name, text in [
        ("as text", inline),
        ("as a variable", FILE.replace("file: acme-1.hex", f"env: k{SECRET}")),
        ("as a key", FILE.replace("file: acme-1.hex", f"file: {SECRET}")),
        ("in bad syntax", FILE + f"  {SECRET}: x: y\n"),
        ("twice", ROTATED.replace("acme-2.hex", "acme-1.hex")),
    ]:
        place.write(text)
        assert not settle(tenants), name
        texts.append(place.refusal())
    place.write(ROTATED)
    assert settle(tenants)
    texts += [repr(tenants.directory.keys), str(tenants), place.metrics.render().decode()]
    place.log.flush()
    texts += [place.stream.getvalue().decode(), *capfd.readouterr()]
    for secret in (SECRET, OTHER):
        for form in (secret, secret.upper(), repr(bytes.fromhex(secret))[2:-1]):
            assert [text for text in texts if form in text] == []
