"""Requests that only pretend to be a tenant's cost that tenant nothing and leave nothing."""

from __future__ import annotations

import asyncio
import collections
import os
from collections.abc import Iterator
from pathlib import Path

from region import (
    BETA,
    HANG_S,
    HMAC_KEYS,
    SMALL,
    SMALL_QUOTA,
    Reply,
    ServerProcess,
    Wire,
    ask,
    request_bytes,
    signed,
    submit,
    write_home,
)

from fractal_lba.canonical import jcs
from fractal_lba.sign import HmacSigner
from fractal_lba_server.store.wal import read_frames

FORGED = int(os.environ.get("FLK_FORGED", "10000"))
CONNECTIONS = 16
ELSEWHERE = "127.0.0.2"
"""The tenant's own address. The forger shares one with nobody but himself."""


def forgeries(victim: bytes, known: dict[str, object]) -> Iterator[bytes]:
    """Write requests under a tenant's name without its key, for ever."""
    stranger = HmacSigner(HMAC_KEYS["stranger"], kid="small-1")
    fixed = [signed(signer=stranger, tenant="small").body for _ in range(50)]
    number = 0
    while True:
        number += 1
        yield from (
            fixed[number % len(fixed)],
            # The id and the signature of a record that the tenant did send, with other content.
            jcs({**known, "r": number / 1_000_000}),
            jcs({**known, "sig": "A" * 43 + "="}),
            jcs({**known, "kid": "small-2"}),
            jcs({**known, "shard_id": f"forged/{number}"}),
            victim[:-1],
        )


async def _flood(port: int, requests: Iterator[bytes], count: int) -> list[Reply]:
    replies: list[Reply] = []

    async def send(share: int) -> None:
        wire = await Wire.open(port)
        for _ in range(share):
            wire.send(request_bytes(next(requests)))
            replies.append(await wire.reply())
        wire.close()

    shares = [count // CONNECTIONS] * CONNECTIONS
    await asyncio.wait_for(asyncio.gather(*map(send, shares)), HANG_S)
    return replies


def log_bytes(server: ServerProcess) -> int:
    """Count the bytes of frames in the log."""
    return sum(len(frame.body) for _, frame in read_frames(server.data / "wal" / "open"))


def test_forged_requests_change_neither_quota_nor_answers_nor_log(tmp_path: Path) -> None:
    server = ServerProcess(write_home(tmp_path, limits={"unauthenticated_per_s": 100_000}))
    server.start()
    genuine = signed(signer=SMALL, tenant="small")
    first = submit(server.port, genuine.body, ELSEWHERE)
    assert first.status == 200
    before = log_bytes(server)

    requests = forgeries(genuine.body, dict(genuine.record))
    replies = asyncio.run(_flood(server.port, requests, FORGED))

    codes = collections.Counter(reply.code for reply in replies)
    assert len(replies) == FORGED // CONNECTIONS * CONNECTIONS
    assert set(codes) == {"signature_invalid", "kid_unknown", "pcs_id_mismatch", "json_malformed"}
    assert not [reply for reply in replies if "pcs-position" in reply.headers]
    assert log_bytes(server) == before

    again = submit(server.port, genuine.body, ELSEWHERE)
    assert (again.headers["idempotency-replayed"], again.body) == ("true", first.body)
    left = [signed(signer=SMALL, tenant="small") for _ in range(SMALL_QUOTA - 2)]
    for record in left:
        assert submit(server.port, record.body, ELSEWHERE).status == 200
    assert submit(server.port, left[0].body, ELSEWHERE).code == "rate_limited"
    assert server.stop() == 0


def test_forger_is_slowed_at_his_own_address_and_nobody_else_is(tmp_path: Path) -> None:
    server = ServerProcess(write_home(tmp_path, limits={"unauthenticated_per_s": 20}))
    server.start()
    genuine = signed(signer=BETA, tenant="beta")
    forged = jcs({**genuine.record, "r": 0.5})
    replies = asyncio.run(_flood(server.port, iter([forged] * 2_000), 2_000))
    codes = collections.Counter(reply.code for reply in replies)
    assert set(codes) == {"signature_invalid", "rate_limited"}
    assert codes["signature_invalid"] < codes["rate_limited"]
    for _ in range(100):
        assert submit(server.port, signed().body, ELSEWHERE).status == 200
    assert submit(server.port, genuine.body, ELSEWHERE).status == 200
    assert ask(server.port, "GET", "/health").status == 200
    assert server.stop() == 0
