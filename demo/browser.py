"""Draw a page with headless Chromium and say what is wrong with it.

Everything the browser asks for goes to a proxy of this file, which answers with the page alone, so
nothing leaves the machine. What the page asked for is read from the browser's own network log,
which names the initiator of each request; the browser has requests of its own, which do not count.
"""

from __future__ import annotations

import json
import re
import shutil
import struct
import subprocess
import tempfile
import threading
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Final

ORIGIN: Final = "http://page.test"
PAGE_URL: Final = f"{ORIGIN}/"
RENDER_TIMEOUT_S: Final = 60
VARIETY_MIN: Final = 32
"""The picture of a page with letters has more byte values than this, that of a blank one four."""

QUIET: Final = (
    "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", "--hide-scrollbars",
    "--disable-background-networking", "--disable-component-update", "--disable-sync",
    "--disable-default-apps", "--disable-extensions", "--enable-logging=stderr",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Drawing:
    """What came of drawing a page."""

    png: bytes
    console: tuple[str, ...]
    requests: tuple[str, ...]
    """What the page asked for besides itself."""


def find_chromium() -> str | None:
    """Find the browser on the path."""
    return shutil.which("chromium") or shutil.which("chromium-browser")


def check_page(page: Path) -> str | None:
    """Draw the page and say what is wrong; None if nothing is."""
    chromium = find_chromium()
    if chromium is None:
        return "chromium is missing: apt-get install chromium"
    return fault_of(draw(chromium, page))


def fault_of(drawing: Drawing) -> str | None:
    """Judge a drawing."""
    if drawing.console:
        return f"the page reports {drawing.console[0]}"
    if drawing.requests:
        return f"the page asks for {drawing.requests[0]}"
    if variety(drawing.png) < VARIETY_MIN:
        return "the page is blank"
    return None


def draw(chromium: str, page: Path, *, width: int = 900, dark: bool = False) -> Drawing:
    """Take a picture of the page."""
    dark_flags = ("--blink-settings=preferredColorScheme=0",) if dark else ()
    with tempfile.TemporaryDirectory() as folder, _proxy(page.read_bytes()) as port:
        log = Path(folder, "network.json")
        picture = Path(folder, "page.png")
        done = subprocess.run(
            [
                chromium, *QUIET, *dark_flags, f"--user-data-dir={folder}/profile",
                f"--proxy-server=http://127.0.0.1:{port}", "--proxy-bypass-list=<-loopback>",
                f"--screenshot={picture}", f"--log-net-log={log}",
                f"--window-size={width},1400", PAGE_URL,
            ],
            capture_output=True,
            text=True,
            timeout=RENDER_TIMEOUT_S,
            check=False,
        )  # fmt: skip
        png = picture.read_bytes() if picture.exists() else b""
        requests = _requests_of_page(log.read_bytes())
    console = re.findall(r"CONSOLE.*", done.stderr)
    return Drawing(png, tuple(console), requests)


def _requests_of_page(network_log: bytes) -> tuple[str, ...]:
    """Find the addresses that the page itself asked for, once each."""
    events = json.loads(network_log)["events"]
    started = [event["params"] for event in events if "url" in event.get("params", {})]
    asked = [one["url"] for one in started if one.get("initiator") == ORIGIN]
    return tuple(dict.fromkeys(asked))


@contextmanager
def _proxy(page: bytes) -> Iterator[int]:
    class Handler(BaseHTTPRequestHandler):
        """Answer with the page, and with nothing else."""

        def do_GET(self) -> None:
            is_page = self.path == PAGE_URL
            self.send_response(200 if is_page else 404)
            self.send_header("Content-Type", "text/html; charset=utf-8")
            self.end_headers()
            self.wfile.write(page if is_page else b"")

        def do_CONNECT(self) -> None:
            self.send_error(403)

        def log_message(self, format: str, *args: object) -> None:
            """Keep the terminal for the account."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    try:
        yield server.server_port
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def variety(png: bytes) -> int:
    """Count the byte values in the lines of a PNG: letters with smooth edges use most."""
    data, offset = b"", 8
    while offset < len(png):
        (length,) = struct.unpack_from(">I", png, offset)
        if png[offset + 4 : offset + 8] == b"IDAT":
            data += png[offset + 8 : offset + 8 + length]
        offset += length + 12
    return len(set(zlib.decompress(data))) if data else 0
