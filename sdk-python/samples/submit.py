"""Submit one record twice: the second answer is the first outcome, byte for byte.

    export FLK_ENDPOINT=http://127.0.0.1:8080 FLK_TENANT=demo PCS_KID=demo PCS_HMAC_KEY=<hex>
    python submit.py [epoch]

Another epoch is another record; the default is 1.
"""

from __future__ import annotations

import os
import sys
from datetime import UTC, datetime

from fractal_lba import Client, HmacSigner, Record


def make_record(epoch: int, shard_id: str = "sample/submit") -> Record:
    """Describe eight points on a line, as `summarize` would."""
    return Record(
        shard_id=shard_id,
        epoch=epoch,
        sent_at=datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ"),
        merkle_root="3f" * 32,
        scales=(2, 4, 8),
        N_j={"2": 2, "4": 4, "8": 8},
        D_hat=1.0,
        coh_star=0.5,
        v_star=(1.0,),
        r=0.5,
        regime="mixed",
        budget=0.35,
    )


def main() -> None:
    """Submit, submit again, compare."""
    record = make_record(int(sys.argv[1]) if len(sys.argv) > 1 else 1)
    endpoint, tenant = os.environ["FLK_ENDPOINT"], os.environ["FLK_TENANT"]
    with Client(endpoint, signer=HmacSigner.from_env(), tenant=tenant) as client:
        first = client.submit(record)
        print("pcs_id", first.outcome.pcs_id)
        print("accepted", str(first.outcome.accepted).lower())
        again = client.submit(record)
        print("replayed", str(again.replayed).lower())
        print("same", str(again.raw.body == first.raw.body).lower())


if __name__ == "__main__":
    main()
