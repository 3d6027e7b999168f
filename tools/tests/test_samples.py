"""The samples run against a real server, and print what they always print."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tools.tests.installed import RunningServer

SAMPLES = Path(__file__).resolve().parents[2] / "sdk-python" / "samples"

PCS_ID = hashlib.sha256(f"{'3f' * 32}|1|sample/submit".encode()).hexdigest()
"""The id of the one record of `submit.py`, by the rule of canonical 5.5."""

PRINTED = {
    "submit.py": [
        f"pcs_id {PCS_ID}",
        "accepted true",
        "replayed true",
        "same true",
    ],
    "submit_many.py": ["accepted 100", "failed 0"],
    "offline_outbox.py": ["kept 3", "waiting 0", "dead 0"],
}
ARGUMENTS = {"offline_outbox.py": ["outbox"]}

pytestmark = pytest.mark.guides


@pytest.mark.parametrize("name", sorted(PRINTED))
def test_sample_prints_the_same_lines(server: RunningServer, name: str) -> None:
    settings = {
        "FLK_ENDPOINT": server.endpoint,
        "FLK_TENANT": "demo",
        "PCS_KID": "demo",
        "PCS_HMAC_KEY": server.key,
    }
    done = subprocess.run(
        [sys.executable, str(SAMPLES / name), *ARGUMENTS.get(name, [])],
        cwd=server.folder,
        env={**os.environ, **settings},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert (done.returncode, done.stdout.splitlines()) == (0, PRINTED[name]), done.stderr


def test_every_sample_is_run() -> None:
    assert {path.name for path in SAMPLES.glob("*.py")} == set(PRINTED)
