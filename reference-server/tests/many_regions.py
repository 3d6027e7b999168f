"""Several regions as processes of their own on this machine, each with keys, tenants and peers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from region import ServerProcess, write_home

from fractal_lba_server.drill.processes import free_port
from fractal_lba_server.store.region_key import new_region_key

CODES = ("eu1", "us1", "ap1")


class Regions:
    """The processes of a few regions; `placements` as in the regions file."""

    def __init__(
        self,
        folder: Path,
        codes: Sequence[str] = CODES[:2],
        *,
        placements: Mapping[str, Any] | None = None,
        peers: Mapping[str, Any] | None = None,
        **settings: Any,
    ) -> None:
        ports = [free_port() for _ in range(2 * len(codes))]
        self.folder = folder
        entries = []
        self.servers: dict[str, ServerProcess] = {}
        for code, public, peer in zip(codes, ports[::2], ports[1::2], strict=True):
            home = folder / code
            home.mkdir(parents=True)
            key = new_region_key(home / "region.key")
            entries.append(
                {
                    "code": code,
                    "endpoint": f"http://127.0.0.1:{public}",
                    "peer": f"http://127.0.0.1:{peer}",
                    "public_key": key.public_key.hex(),
                }
            )
            write_home(
                home,
                region=code,
                listen=f"127.0.0.1:{public}",
                regions_file="../regions.yaml",
                peers={
                    "listen": f"127.0.0.1:{peer}", "region_key": "region.key", **(peers or {}),
                },
                **settings,
            )  # fmt: skip
            self.servers[code] = ServerProcess(home)
        if placements is None:
            placements = {"open": {"regions": list(codes), "topology": "active-active"}}
        document = {"version": 1, "regions": entries, "placements": dict(placements)}
        (folder / "regions.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")

    def __getitem__(self, code: str) -> ServerProcess:
        return self.servers[code]

    def start(self) -> None:
        """Start all of them."""
        for server in self.servers.values():
            server.start()

    def end(self) -> None:
        """End whatever still runs."""
        for server in self.servers.values():
            if server.has_started:
                server.end()
