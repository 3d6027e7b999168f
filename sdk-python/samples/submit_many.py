"""Submit a hundred records at once; answers come in the order of the records.

export FLK_ENDPOINT=http://127.0.0.1:8080 FLK_TENANT=demo PCS_KID=demo PCS_HMAC_KEY=<hex>
python submit_many.py [first epoch]
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

from submit import make_record

from fractal_lba import Client, HmacSigner, Record

RECORDS = 100


def make_records(first_epoch: int) -> Iterator[Record]:
    """Make the records one by one: a stream may be longer than memory."""
    for epoch in range(first_epoch, first_epoch + RECORDS):
        yield make_record(epoch, "sample/many")


def main() -> None:
    """Count what was accepted, and name what was not recorded."""
    first_epoch = int(sys.argv[1]) if len(sys.argv) > 1 else 1
    endpoint, tenant = os.environ["FLK_ENDPOINT"], os.environ["FLK_TENANT"]
    accepted = failed = 0
    with Client(endpoint, signer=HmacSigner.from_env(), tenant=tenant) as client:
        for item in client.submit_many(make_records(first_epoch), concurrency=8):
            if item.result is not None:
                accepted += item.result.outcome.accepted
            elif item.error is not None:
                failed += 1
                print("failed", first_epoch + item.index, item.error.code)
    print("accepted", accepted)
    print("failed", failed)


if __name__ == "__main__":
    main()
