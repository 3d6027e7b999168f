"""Hand-overs between real regions: what was acknowledged anywhere is answered by who writes now."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import yaml
from many_regions import Regions
from many_roles import TERMS, ArbiterProcess
from region import JSON, Reply, ServerProcess, ask, environment, signed, wait_until

STANDBY = {
    "open": {"regions": ["eu1", "us1"], "topology": "warm-standby", "primary": "eu1"},
}  # fmt: skip


def submit(server: ServerProcess, name: str, level: str = "durable") -> Reply:
    headers = {**JSON, "pcs-min-ack": level}
    return ask(server.port, "POST", "/v1/pcs/submit", signed(name).body, headers)


def is_ready(server: ServerProcess) -> bool:
    return ask(server.port, "GET", "/readyz").status == 200


def role(server: ServerProcess) -> dict[str, Any]:
    document = json.loads(ask(server.admin_port, "GET", "/admin/region/status").body)
    found: dict[str, Any] = document["placements"][0]
    return found


def flk(*words: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "fractal_lba_server", "region", *map(str, words)],
        env=environment(), capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip


def admin(server: ServerProcess) -> str:
    return f"http://127.0.0.1:{server.admin_port}"


def lead_by(regions: Regions, url: str) -> None:
    for server in regions.servers.values():
        file = server.home / "flk.yaml"
        document = yaml.safe_load(file.read_text(encoding="utf-8"))
        document["arbiter"] = {"url": url, **{
            name: getattr(TERMS, name) for name in ("ttl_ms", "renew_ms", "max_drift_ms")
        }}  # fmt: skip
        file.write_text(yaml.safe_dump(document), encoding="utf-8")


def test_a_writer_dies_returns_and_is_handed_the_placement_back(tmp_path: Path) -> None:
    regions = Regions(tmp_path, placements=STANDBY)
    arbiter = ArbiterProcess(tmp_path / "regions.yaml", f"sqlite:///{tmp_path}/arbiter.sqlite")
    lead_by(regions, arbiter.url)
    eu1, us1 = regions["eu1"], regions["us1"]
    try:
        us1.start()
        eu1.start()
        wait_until(lambda: is_ready(eu1))
        wait_until(lambda: submit(eu1, "first", "replicated").status == 200)
        us1.kill()
        tail = submit(eu1, "tail")
        assert tail.status == 200, "durable here, shipped nowhere"
        eu1.kill()
        us1.start()
        promoted = flk("promote", "--admin", admin(us1))
        assert promoted.returncode == 0, promoted.stderr
        wait_until(lambda: is_ready(us1))
        other = submit(us1, "while away")
        assert other.headers["pcs-position"] == "us1/open/2/1"
        eu1.start()
        wait_until(lambda: role(eu1)["role"] == "standby")
        again = submit(us1, "tail")
        assert (again.status, again.body) == (200, tail.body), "H45: the tail was merged first"
        assert again.headers["idempotency-replayed"] == "true"
        shown = flk("status", "--admin", admin(eu1), "--admin", admin(us1))
        assert shown.returncode == 0, shown.stderr
        assert "writer" in shown.stdout
        # One that takes too long is given up, and its operator asks again.
        wait_until(lambda: flk("failback", "--admin", admin(us1), "--to", "eu1").returncode == 0)
        wait_until(lambda: is_ready(eu1))
        for name, known in (("tail", tail), ("while away", other)):
            found = submit(eu1, name)
            assert (found.status, found.body) == (200, known.body)
        position = submit(eu1, "home again").headers["pcs-position"]
        assert position.startswith("eu1/open/3/")
        refused = submit(us1, "home again")
        assert refused.code in {"not_leader", "not_primary"}
    finally:
        regions.end()
        arbiter.kill()


def test_without_an_arbiter_a_promotion_is_the_word_of_an_operator(tmp_path: Path) -> None:
    regions = Regions(tmp_path, placements=STANDBY)
    eu1, us1 = regions["eu1"], regions["us1"]
    try:
        regions.start()
        wait_until(lambda: is_ready(eu1))
        wait_until(lambda: submit(eu1, "first", "replicated").status == 200)
        refused = submit(us1, "at the standby")
        assert refused.code in {"not_leader", "not_primary"}
        eu1.kill()
        assert flk("promote", "--admin", admin(us1)).returncode == 0
        wait_until(lambda: "eu1" in role(us1)["reason"])
        assert not is_ready(us1), "nobody has said that eu1 is stopped"
        assert flk("promote", "--admin", admin(us1), "--old-is-stopped").returncode == 0
        wait_until(lambda: is_ready(us1))
        assert submit(us1, "first").headers["idempotency-replayed"] == "true"
        eu1.start()
        wait_until(lambda: role(eu1)["role"] == "standby")
        assert submit(eu1, "zombie").status in {421, 503}
        assert not is_ready(eu1)
    finally:
        regions.end()
