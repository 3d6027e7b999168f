"""Fill a data directory offline: ids that look like any other, without a log behind them.

The index is what grows with the ids; so it is filled through the same `Index.apply` that
`flk-server replay` uses. The log is given the same length by one closed, empty stretch: the
server continues numbering behind the ids.
"""

from __future__ import annotations

import time
from hashlib import sha256
from pathlib import Path
from typing import Any

from fractal_lba_server.core.first_write import Apply, Origin, Stored
from fractal_lba_server.core.segment import GENESIS, Header
from fractal_lba_server.store.data_dir import DataDir
from fractal_lba_server.store.sqlite import Index

from . import records

ROWS = 65_536


def fill(path: Path, ids: int) -> dict[str, Any]:
    """Make a data directory whose index holds `ids` outcomes; say what that took."""
    data = DataDir.open(path, region="loc")
    index = Index(data.index)
    start = time.perf_counter()
    outcome = b'{"accepted":true,"escalated":false,"pad":"' + b"x" * 215 + b'"}'
    origin = Origin("loc", "open", data.region_epoch)
    for first in range(0, ids, ROWS):
        index.apply(
            Apply(
                (records.TENANT, sha256(b"resident %d" % number).hexdigest()),
                Stored(number + 1, "0" * 64, 200, outcome, origin, number),
                "h1",
            )
            for number in range(first, min(first + ROWS, ids))
        )
    seconds = time.perf_counter() - start
    index.close()
    data.wal.mkdir(parents=True, exist_ok=True)
    header = Header(ids + 1, GENESIS, 0, data.region_epoch)
    (data.wal / f"seg-{ids + 1:016d}.open").write_bytes(header.to_bytes() + bytes(4096))
    size = sum(file.stat().st_size for file in path.glob("index.sqlite*"))
    data.close()
    return {"ids": ids, "seconds": seconds, "per_s": ids / seconds, "bytes": size}
