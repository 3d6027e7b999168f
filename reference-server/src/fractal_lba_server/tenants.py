"""Keep the tenants file in use: read it, resolve its secrets, and take over changes of it.

The invariant of this file: `directory` is always a whole directory without faults. A change is
taken over at once and completely, or not at all; a file that is broken leaves the last good
directory in use, and the log and a metric say so. No secret reaches a message.
"""

from __future__ import annotations

import asyncio
import hashlib
import os
import re
import stat
import threading
from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .core.faults import DocumentError, Fault
from .core.tenants import Directory, directory_of, faults_of
from .logs import Log
from .metrics import Metrics
from .schema_faults import schema_faults
from .yaml_document import DOCUMENT_BYTES_MAX, parse_document

POLL_INTERVAL_S = 1.0
"""How often the files are looked at; a change is read when two looks in a row see the same."""

SECRET_BYTES_MAX = 4_096
"""Bytes of a file or variable with a key; 32 bytes of key are 64 of them."""

_HEX = re.compile(r"(?:[0-9A-Fa-f]{2})+")
_NEW_KEY = "make one with flk-server tenants key new"

KidsInUse = Callable[[], Collection[str]]
"""Gives the kids that the log names; called from a thread of its own."""

Accept = Callable[[Directory], None]
"""Raises DocumentError for a directory that the rest of the configuration forbids."""

FAULTS_LOGGED_MAX = 20
"""Faults of one broken file that a log line holds; `tenants check` prints all of them."""

Look = tuple[int, ...] | None
"""What shows that a file has changed, or None where there is none to look at."""


def look_at(path: Path) -> Look:
    """Look at a file without reading it; a changed mode counts, because it decides as well."""
    try:
        facts = path.stat()
    except OSError:
        return None
    return facts.st_mtime_ns, facts.st_ctime_ns, facts.st_size, facts.st_ino, facts.st_mode


@dataclass(frozen=True, slots=True)
class Loaded:
    """Hold what was read, and a digest by which the same content is known again."""

    directory: Directory
    digest: bytes


class TenantsReader:
    """Read a tenants file and its secrets once; `looks` shows each file as it was before that."""

    def __init__(self, path: Path, *, environ: Mapping[str, str]) -> None:
        self.path = path
        self.looks: dict[Path, Look] = {}
        self._environ = environ
        self._faults: list[Fault] = []

    def read(self, *, kids_in_use: Collection[str] = ()) -> Loaded:
        """Return the directory; raises DocumentError with every fault, or OSError."""
        self.looks[self.path] = look_at(self.path)
        with self.path.open("rb") as file:
            data = file.read(DOCUMENT_BYTES_MAX + 1)
        document = parse_document(self.path, data)
        faults = schema_faults("tenants", document.value)
        if faults:
            raise document.error(faults)
        secrets = self._secrets(document.value)
        faults = self._faults + faults_of(document.value, secrets, kids_in_use=kids_in_use)
        if faults:
            raise document.error(faults)
        digest = hashlib.sha256(data)
        for secret in secrets.values():
            digest.update(hashlib.sha256(secret).digest())
        return Loaded(directory_of(document.value, secrets), digest.digest())

    def _secrets(self, document: Mapping[str, Any]) -> dict[str, bytes]:
        """Resolve the HMAC keys, by the JSON pointer of their entry."""
        secrets: dict[str, bytes] = {}
        for i, tenant in enumerate(document["tenants"]):
            for j, key in enumerate(tenant["keys"]):
                pointer = f"/tenants/{i}/keys/{j}"
                secret = self._secret(f"{pointer}/secret", key.get("secret"))
                if secret is not None:
                    secrets[pointer] = secret
        return secrets

    def _secret(self, pointer: str, source: Mapping[str, str] | None) -> bytes | None:
        if source is None:
            return None
        ((kind, name),) = source.items()
        pointer = f"{pointer}/{kind}"
        text = self._file_text(pointer, name) if kind == "file" else self._environ.get(name)
        if text is None:
            if kind == "env":
                self._fault(pointer, "this environment variable is not set", "set it")
            return None
        if len(text) > SECRET_BYTES_MAX or not _HEX.fullmatch(text):
            self._fault(pointer, "does not hold an even number of hexadecimal digits", _NEW_KEY)
            return None
        return bytes.fromhex(text)

    def _file_text(self, pointer: str, name: str) -> str | None:
        """Read a key file that only its owner can read; one line end is not part of the key."""
        path = self.path.parent / name
        self.looks[path] = look_at(path)
        try:
            with path.open("rb") as file:
                facts = os.fstat(file.fileno())
                data = file.read(SECRET_BYTES_MAX + 1)
        except OSError as error:
            self._fault(pointer, f"cannot be read ({error.strerror})", _NEW_KEY)
            return None
        if os.name == "posix" and stat.S_IMODE(facts.st_mode) & 0o077:
            self._fault(pointer, "others than its owner can read this file", "chmod 600 the file")
            return None
        return data.decode("latin-1").removesuffix("\n").removesuffix("\r")

    def _fault(self, pointer: str, problem: str, fix: str) -> None:
        self._faults.append(Fault(pointer, problem, fix))


class TenantsFile:
    """Own the directory in use. The first read raises; later ones keep what is good."""

    def __init__(
        self,
        path: Path,
        *,
        log: Log,
        metrics: Metrics,
        environ: Mapping[str, str] = os.environ,
        kids_in_use: KidsInUse = tuple,
        accept: Accept = lambda _: None,
    ) -> None:
        self._path = path
        self._log = log
        self._metrics = metrics
        self._environ = environ
        self._kids_in_use = kids_in_use
        self._accept = accept
        self._reading = threading.Lock()
        self._wanted = asyncio.Event()
        reader = TenantsReader(path, environ=environ)
        self._loaded = self._read(reader)
        self._read_looks = self._last_looks = reader.looks
        self._say_loaded(Directory())

    @property
    def directory(self) -> Directory:
        """Return the directory in use; a request keeps the one it started with."""
        return self._loaded.directory

    def poll(self) -> bool:
        """Read the files if they have changed and two looks in a row saw the same.

        The second look is for editors that write in place: half a file can be a good one.
        Returns whether another directory is in use now.
        """
        looks = {path: look_at(path) for path in self._read_looks}
        settled = looks == self._last_looks
        self._last_looks = looks
        return settled and looks != self._read_looks and self.reload()

    def reload(self) -> bool:
        """Read the files now; return whether another directory is in use now."""
        before = self._loaded.digest
        try:
            self.read_now()
        except (DocumentError, OSError):
            return False  # said in the log and the metric already
        return self._loaded.digest != before

    def read_now(self) -> Directory:
        """Read the files now; raises DocumentError or OSError, and then nothing has changed."""
        with self._reading:
            reader = TenantsReader(self._path, environ=self._environ)
            try:
                loaded = self._read(reader)
            except (DocumentError, OSError) as error:
                self._say_refused(error)
                raise
            finally:
                self._read_looks = reader.looks
            before, self._loaded = self._loaded, loaded
            self._say_loaded(before.directory)
            return loaded.directory

    def _read(self, reader: TenantsReader) -> Loaded:
        loaded = reader.read(kids_in_use=self._kids_in_use())
        self._accept(loaded.directory)
        return loaded

    def request_reload(self) -> None:
        """Have `watch` read the files soon, as SIGHUP asks; called in the event loop."""
        self._wanted.set()

    async def watch(
        self, changed: Callable[[Directory], None], *, interval_s: float = POLL_INTERVAL_S
    ) -> None:
        """Poll for ever, and pass each new directory to `changed` in the event loop."""
        while True:
            try:
                await asyncio.wait_for(self._wanted.wait(), interval_s)
            except TimeoutError:
                read = self.poll
            else:
                self._wanted.clear()
                read = self.reload
            if await asyncio.to_thread(read):
                changed(self.directory)

    def _say_loaded(self, before: Directory) -> None:
        now = self.directory
        self._metrics.tenants_loaded(now)
        self._log.event(
            "tenants_loaded",
            file=str(self._path),
            tenants=len(now.tenants),
            keys=len(now.keys),
            kids_added=sorted(now.keys.keys() - before.keys.keys()),
            kids_removed=sorted(before.keys.keys() - now.keys.keys()),
        )

    def _say_refused(self, error: DocumentError | OSError) -> None:
        faults = error.message.splitlines() if isinstance(error, DocumentError) else [str(error)]
        self._metrics.tenants_refused()
        self._log.event(
            "tenants_refused",
            level="error",
            file=str(self._path),
            kept="the last good file stays in use",
            faults=faults[:FAULTS_LOGGED_MAX],
            more_faults=max(0, len(faults) - FAULTS_LOGGED_MAX),
        )
