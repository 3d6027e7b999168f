"""A real page in headless Chromium signs with keys it cannot read and submits to a real server.

    pytest sdk-ts/tests/browser

needs the Debian package chromium, npm, the development packages of sdk-ts, and the Python packages
of this repository.
"""

from __future__ import annotations

import html
import json
import re
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from queue import Queue
from typing import Any

import pytest

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from reference_server import (  # noqa: E402 - found by the line above
    Running,
    install_package,
    reference_server,
    run,
    tool,
)

SHOWN_S = 60
"""Longest time until the page shows its outcome."""

pytestmark = pytest.mark.services


@contextmanager
def page_server(files: dict[str, tuple[str, bytes]], shown: Queue[str]) -> Iterator[str]:
    """Serve the page's files, and take what it shows."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            kind, data = files.get(self.path, ("", b""))
            self.send_response(200 if kind else 404)
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def do_POST(self) -> None:
            text = self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(204)
            self.end_headers()
            shown.put(text.decode())

        def log_message(self, format: str, *args: object) -> None:
            """Keep the terminal for the tests."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield f"http://127.0.0.1:{server.server_port}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@contextmanager
def chromium(url: str, folder: Path) -> Iterator[None]:
    """Show a page until the block ends."""
    program = shutil.which("chromium") or shutil.which("chromium-browser")
    if program is None:
        pytest.fail("chromium is missing: apt-get install chromium")
    quiet = [
        "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--disable-extensions",
        "--disable-background-networking", "--disable-component-update", "--disable-sync",
        "--remote-debugging-port=0",
    ]  # fmt: skip
    with (
        (folder / "chromium.log").open("wb") as log,
        subprocess.Popen(
            [program, *quiet, f"--user-data-dir={folder}/profile", url], stdout=log, stderr=log
        ) as process,
    ):
        try:
            yield
        finally:
            process.terminate()


def bundle(folder: Path) -> bytes:
    """Bundle the page with the package as it is published."""
    project = install_package(folder)
    shutil.copy(HERE / "page.mjs", project)
    esbuild = tool("esbuild")
    assert esbuild, "esbuild is missing: npm ci in sdk-ts"
    options = ["--bundle", "--format=esm", "--platform=browser", "--target=es2022"]
    run([esbuild, "page.mjs", *options, "--outfile=page.js"], project)
    return (project / "page.js").read_bytes()


def show(folder: Path, files: dict[str, tuple[str, bytes]]) -> dict[str, Any]:
    """Let the page run against two servers: one that allows it, and one that does not."""
    shown: Queue[str] = Queue()
    with (
        page_server(files, shown) as origin,
        reference_server(folder / "allowing", origins=[origin]) as server,
        reference_server(folder / "strange", origins=["https://other.example"]) as stranger,
    ):
        config = configuration(server, stranger)
        files["/config.json"] = ("application/json", json.dumps(config).encode())
        with chromium(f"{origin}/", folder):
            text = shown.get(timeout=SHOWN_S)
    found = re.search(r'<pre id="outcome">(.*?)</pre>', text, re.DOTALL)
    assert found, text
    outcome = html.unescape(found[1])
    assert outcome.startswith("{"), outcome
    members: dict[str, Any] = json.loads(outcome)
    return members


def configuration(server: Running, stranger: Running) -> dict[str, str]:
    return {
        "endpoint": server.endpoint, "tenant": server.tenant, "hmac": server.hmac_key,
        "seed": server.seed, "stranger": stranger.endpoint,
    }  # fmt: skip


def test_a_page_signs_and_submits(tmp_path: Path) -> None:
    files = {
        "/": ("text/html; charset=utf-8", (HERE / "page.html").read_bytes()),
        "/page.js": ("text/javascript; charset=utf-8", bundle(tmp_path / "project")),
    }
    outcome = show(tmp_path, files)
    assert outcome["secure"] is True
    assert outcome["extractable"] == [False, False]
    for kind, seq in (("hmac", 1), ("ed25519", 2)):
        submitted = outcome[kind]
        assert re.fullmatch("[0-9a-f]{64}", submitted.pop("pcsId"))
        position = submitted.pop("position")
        assert (position["region"], position["placement"]) == ("loc", "open")
        assert position["seq"] == seq
        assert submitted == {
            "accepted": True, "replayed": [False, True], "same": True, "level": "durable",
            "hasRequestId": True, "healthy": True,
        }  # fmt: skip
    assert outcome["stranger"] == "connection_lost"
