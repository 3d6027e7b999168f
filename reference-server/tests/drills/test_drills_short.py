"""Every shipped drill keeps its promises, and its negative control breaks the ones it names.

The short forms by default; FLK_DRILLS=long runs the whole scenarios. A drill and its control run
beside each other, as programs.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from fractal_lba_server.drill.postgres import programs
from fractal_lba_server.drill.processes import ProcessError
from fractal_lba_server.drill.scenario import load_scenario, shipped

pytestmark = pytest.mark.drills

LONG = os.environ.get("FLK_DRILLS") == "long"
HANG_S = 600 if LONG else 120


class Running:
    """A drill under way."""

    def __init__(self, name: str, out: Path, *flags: str) -> None:
        form = () if LONG else ("--short",)
        command = ("-m", "fractal_lba_server", "drill", name, "--json", "--out", str(out))
        self._process = subprocess.Popen(
            [sys.executable, *command, *form, *flags],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def wait(self) -> tuple[int, str, str]:
        """Give its exit status and what it said."""
        try:
            out, err = self._process.communicate(timeout=HANG_S)
        finally:
            self._process.kill()
            self._process.wait()
        return self._process.returncode, out, err


def document(done: tuple[int, str, str]) -> dict[str, Any]:
    """Read what a drill said; fails with its last words if that is nothing."""
    assert done[1], done[2][-2000:]
    said: dict[str, Any] = json.loads(done[1])
    return said


def needs(name: str) -> list[str]:
    """Name the programs of Debian packages that a drill needs and that are not here."""
    services = load_scenario(name).part("engines", "live").get("services", ())
    return [service for service in services if not is_here(service)]


def is_here(service: str) -> bool:
    """Tell whether a program is here; Debian keeps those of PostgreSQL off the path."""
    if service != "postgresql":
        return shutil.which(service) is not None
    try:
        return programs().is_dir()
    except ProcessError:
        return False


@pytest.mark.parametrize("name", shipped())
def test_a_drill_holds_and_its_control_fails(name: str, tmp_path: Path) -> None:
    if missing := needs(name):
        pytest.skip(f"apt-get install {' '.join(missing)}")
    drill, control = Running(name, tmp_path), Running(name, tmp_path / "c", "--control")
    done, control_done = drill.wait(), control.wait()
    said, control_said = document(done), document(control_done)
    broken = {row["name"]: row["said"] for row in said["verdicts"] if row["state"] != "holds"}
    assert (done[0], broken) == (0, {}), broken
    assert said["control"] is False
    assert all(any(fault["effects"].values()) for fault in said["incidents"])
    must_fail = load_scenario(name).part("control")["must_fail"]
    states = {row["name"]: row["state"] for row in control_said["verdicts"]}
    named = {promise: states[promise] for promise in must_fail}
    assert named == dict.fromkeys(must_fail, "fails"), control_said["verdicts"]
    assert control_done[0] == 0, control_said["verdicts"]


def test_every_drill_that_was_asked_for_is_shipped() -> None:
    assert set(shipped()) >= {
        "region-kill", "partition", "standby-promotion", "shard-loss", "shard-migration",
        "replication-delay", "hot-tier-flush", "cold-outage", "clock-step", "return-from-the-dead",
    }  # fmt: skip
