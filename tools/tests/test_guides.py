"""The `bash` and `python` blocks of the README and the guides run from top to bottom.

One document is one shell in an empty folder: `python` blocks are fed to Python, and after a line
that starts the server in the background the test waits until it listens, as a person would.
Ports are replaced by free ones; `sh` blocks, which install packages, are not run.
"""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

import pytest

from fractal_lba_server.drill.processes import free_port
from tools.tests.installed import BIN, program

ROOT = Path(__file__).resolve().parents[2]
DOCUMENTS = [
    "README.md",
    "sdk-python/README.md",
    *sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / "docs/guides").glob("*.md")),
]
BLOCK = re.compile(r"^```(bash|python)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
WAIT = """
for _ in $(seq 300); do
    if (exec 3<>/dev/tcp/127.0.0.1/8080) 2>/dev/null; then break; fi
    sleep 0.1
done
"""

pytestmark = pytest.mark.guides


def script(text: str) -> str:
    """Join the blocks of a document to one program."""
    parts = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    for language, block in BLOCK.findall(text):
        if language == "python":
            parts.append(f"python - <<'PYTHON_BLOCK'\n{block}PYTHON_BLOCK")
        else:
            parts.append(
                re.sub(r"^flk-server serve .*&$", rf"\g<0>{WAIT}", block, flags=re.MULTILINE)
            )
    return "\n".join(parts) + "\n"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_document_does_what_it_says(document: str, tmp_path: Path) -> None:
    program("flk-server")
    text = script((ROOT / document).read_text(encoding="utf-8"))
    assert text.count("\n") > 5, "no block of this document is run"
    public, admin = free_port(), free_port()
    listen = f"--listen 127.0.0.1:{public} --admin-listen 127.0.0.1:{admin}"
    text = text.replace("flk-server serve --data", f"flk-server serve {listen} --data")
    text = text.replace("8080", str(public)).replace("8081", str(admin))
    done = subprocess.run(
        ["bash", "-c", text],
        cwd=tmp_path,
        env={**os.environ, "PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, f"{done.stdout}\n{done.stderr}"
