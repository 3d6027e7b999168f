"""Two S3 servers for tests: moto, which checks no secret, and Ceph RGW of Debian, which does.

RGW needs radosgw, ceph-mon, ceph-osd, ceph-mgr and ceph-common; everything is kept in memory and
in a temporary folder, on loopback, and ends with the test.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import boto3
from botocore.config import Config
from engines import wait_for

from fractal_lba_server.drill.processes import free_port

KEY, SECRET = "flk-test-key", "flk-test-secret"
READY_S = 90.0


class S3(NamedTuple):
    """A running server."""

    endpoint: str
    key: str
    secret: str

    def client(self) -> Any:
        """Give a client that is not the one under test."""
        return boto3.client(
            "s3", endpoint_url=self.endpoint, aws_access_key_id=self.key,
            aws_secret_access_key=self.secret, region_name="us-east-1",
            config=Config(s3={"addressing_style": "path"}, retries={"max_attempts": 2}),
        )  # fmt: skip

    def new_bucket(self) -> str:
        """Make a bucket."""
        name = f"flk-{uuid.uuid4().hex[:12]}"
        self.client().create_bucket(Bucket=name)
        return name

    def url(self, bucket: str) -> str:
        """Give the URL of a cold store in a bucket."""
        return f"s3://{bucket}/cold?endpoint={self.endpoint}&region=us-east-1"

    def environment(self, *, secret: str | None = None) -> dict[str, str]:
        """Give the variables with the keys."""
        return {
            "AWS_ACCESS_KEY_ID": self.key,
            "AWS_SECRET_ACCESS_KEY": self.secret if secret is None else secret,
        }


@contextlib.contextmanager
def moto() -> Iterator[S3]:
    """Run moto as a server."""
    port = free_port()
    process = subprocess.Popen(
        [sys.executable, "-m", "moto.server", "-H", "127.0.0.1", "-p", str(port)],
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    server = S3(f"http://127.0.0.1:{port}", KEY, SECRET)
    try:
        wait_for(lambda: _answers(server), "moto", process)
        yield server
    finally:
        process.kill()
        process.wait()


def _answers(server: S3) -> bool:
    with contextlib.suppress(Exception):
        server.client().list_buckets()
        return True
    return False


class Ceph:
    """One monitor, one manager, one object store in memory, one gateway."""

    def __init__(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="flk-ceph-"))
        self.processes: list[subprocess.Popen[bytes]] = []
        self.mon_port, self.port = free_port(), free_port()
        self.conf = self.folder / "ceph.conf"

    def start(self) -> S3:
        """Start everything and make a user; the order is that of Ceph's own manual start."""
        fsid = str(uuid.uuid4())
        for name in ("mon", "osd", "mgr", "run", "rgw"):
            (self.folder / name).mkdir()
        self.conf.write_text(self._text(fsid))
        keyring = str(self.folder / "keyring")
        for name, caps in (
            ("mon.", ["--cap", "mon", "allow *"]),
            ("client.admin", ["--cap", "mon", "allow *", "--cap", "osd", "allow *", "--cap", "mgr",
                              "allow *"]),
            ("osd.0", ["--cap", "mon", "allow profile osd", "--cap", "osd", "allow *", "--cap",
                       "mgr", "allow profile osd"]),
            ("mgr.x", ["--cap", "mon", "allow profile mgr", "--cap", "osd", "allow *"]),
            ("client.rgw", ["--cap", "mon", "allow rwx", "--cap", "osd", "allow rwx"]),
        ):  # fmt: skip
            made = [] if Path(keyring).exists() else ["--create-keyring"]
            self._run("ceph-authtool", *made, keyring, "--gen-key", "-n", name, *caps)
        monmap = str(self.folder / "monmap")
        self._run("monmaptool", "--create", "--fsid", fsid, "--addv", "a",
                  f"[v1:127.0.0.1:{self.mon_port}]", monmap)  # fmt: skip
        self._ceph("ceph-mon", "--mkfs", "-i", "a", "--monmap", monmap, "--keyring", keyring)
        self._spawn("ceph-mon", "-f", "-i", "a")
        self._wait("mon stat")
        self._spawn("ceph-mgr", "-f", "-i", "x")
        osd = str(uuid.uuid4())
        self._ceph("ceph", "osd", "new", osd, "0")
        self._ceph("ceph-osd", "-i", "0", "--mkfs", "--osd-uuid", osd)
        self._spawn("ceph-osd", "-f", "-i", "0")
        self._wait_for_osd()
        self._spawn("radosgw", "-f", "-n", "client.rgw")
        made = self._ceph("radosgw-admin", "user", "create", "--uid=flk", "--display-name=flk",
                          f"--access-key={KEY}", f"--secret={SECRET}")  # fmt: skip
        assert json.loads(made)["user_id"] == "flk"
        server = S3(f"http://127.0.0.1:{self.port}", KEY, SECRET)
        deadline = time.monotonic() + READY_S
        while not _answers(server):
            assert time.monotonic() < deadline, self._log("client.rgw")
            time.sleep(0.2)
        return server

    def stop(self) -> None:
        """End every process and remove the folder."""
        for process in reversed(self.processes):
            process.kill()
            process.wait()
        shutil.rmtree(self.folder, ignore_errors=True)

    def _text(self, fsid: str) -> str:
        at = self.folder
        return f"""[global]
fsid = {fsid}
mon host = [v1:127.0.0.1:{self.mon_port}]
public addr = 127.0.0.1
cluster addr = 127.0.0.1
auth cluster required = cephx
auth service required = cephx
auth client required = cephx
keyring = {at}/keyring
run dir = {at}/run
log file = {at}/$name.log
admin socket = {at}/run/$name.asok
pid file = {at}/run/$name.pid
osd pool default size = 1
osd pool default min size = 1
osd pool default pg num = 8
osd pool default pgp num = 8
osd crush chooseleaf type = 0
mon allow pool size one = true
mon warn on pool no redundancy = false
mon data = {at}/mon
mgr data = {at}/mgr
mgr initial modules =
osd data = {at}/osd
osd objectstore = memstore
memstore device bytes = 1073741824
osd max object name len = 256
ms bind ipv6 = false
[client.rgw]
rgw data = {at}/rgw
rgw frontends = beast endpoint=127.0.0.1:{self.port} tcp_nodelay=1
rgw thread pool size = 32
rgw enable usage log = false
rgw dns name = 127.0.0.1
"""

    def _run(self, *command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=READY_S)
        assert done.returncode == 0, f"{command}: {done.stderr}"
        return done.stdout

    def _ceph(self, program: str, *arguments: str) -> str:
        return self._run(program, "-c", str(self.conf), *arguments)

    def _spawn(self, program: str, *arguments: str) -> None:
        self.processes.append(
            subprocess.Popen(
                [program, "-c", str(self.conf), *arguments], stdin=subprocess.DEVNULL,
                stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                env={**os.environ, "CEPH_CONF": str(self.conf)},
            )
        )  # fmt: skip

    def _wait(self, command: str) -> None:
        self._ceph("ceph", "--connect-timeout", "30", *command.split())

    def _wait_for_osd(self) -> None:
        deadline = time.monotonic() + READY_S
        while json.loads(self._ceph("ceph", "osd", "stat", "-f", "json"))["num_up_osds"] < 1:
            assert time.monotonic() < deadline, self._log("osd.0")
            time.sleep(0.2)

    def _log(self, name: str) -> str:
        path = self.folder / f"{name}.log"
        return path.read_text()[-2_000:] if path.exists() else f"{name} has no log"


@contextlib.contextmanager
def ceph() -> Iterator[S3]:
    """Run Ceph RGW."""
    cluster = Ceph()
    try:
        yield cluster.start()
    finally:
        cluster.stop()
