"""Keep records on disk while the server is away, and send them once it is back.

    export FLK_ENDPOINT=http://127.0.0.1:8080 FLK_TENANT=demo PCS_KID=demo PCS_HMAC_KEY=<hex>
    python offline_outbox.py DIRECTORY [first epoch]

Start it with the server stopped, then start the server: what was enqueued is durable before
`enqueue` returns, survives the end of this program too, and is sent with the same bytes.
"""

from __future__ import annotations

import os
import sys

from submit import make_record

from fractal_lba import Client, HmacSigner, open_outbox

RECORDS = 3
FLUSH_TIMEOUT_S = 60


def main() -> None:
    """Enqueue, wait for the server, and show that nothing is left."""
    directory = sys.argv[1]
    first_epoch = int(sys.argv[2]) if len(sys.argv) > 2 else 1
    endpoint, tenant = os.environ["FLK_ENDPOINT"], os.environ["FLK_TENANT"]
    signer = HmacSigner.from_env()
    with (
        open_outbox(directory) as outbox,
        Client(endpoint, signer=signer, tenant=tenant, outbox=outbox) as client,
    ):
        for epoch in range(first_epoch, first_epoch + RECORDS):
            client.enqueue(make_record(epoch, "sample/outbox"))
        print("kept", RECORDS, flush=True)
        client.flush(FLUSH_TIMEOUT_S)
        left = outbox.stats()
        print("waiting", left.entries)
        print("dead", left.dead)


if __name__ == "__main__":
    main()
