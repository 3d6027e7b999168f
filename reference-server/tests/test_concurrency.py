"""Ten thousand submissions of one record at once: one is the first, all hear the same."""

from __future__ import annotations

import asyncio
import collections
from pathlib import Path

from fault_files import GatedFiles
from region import (
    ACME_2,
    HANG_S,
    SETTLE_S,
    Reply,
    Wire,
    files_are,
    request_bytes,
    running_region,
    signed,
    submit,
    write_home,
)

CONNECTIONS = 256
DUPLICATES = 10_000


async def _send_share(port: int, body: bytes, share: int, replies: list[Reply]) -> None:
    wire = await Wire.open(port)
    for _ in range(share):
        wire.send(request_bytes(body))
        replies.append(await wire.reply())
    wire.close()


def test_ten_thousand_duplicates_have_one_first(tmp_path: Path) -> None:
    files = GatedFiles()
    record = signed()
    # The same content under another key is the same submission.
    other = signed(None, signer=ACME_2, **{
        name: record.record[name] for name in ("merkle_root", "epoch", "shard_id", "pcs_id")
    })  # fmt: skip
    assert (other.content, other.body != record.body) == (record.content, True)
    replies: list[Reply] = []

    async def run() -> None:
        async with running_region(write_home(tmp_path)) as running:
            files.gate.clear()
            core = running.region.driver.core
            extra = DUPLICATES % CONNECTIONS
            shares = [DUPLICATES // CONNECTIONS + (i < extra) for i in range(CONNECTIONS)]
            clients = [
                asyncio.create_task(
                    _send_share(running.port, (record, other)[i % 2].body, share, replies)
                )
                for i, share in enumerate(shares)
            ]
            waiting = running.region.driver._replies
            while len(waiting) < CONNECTIONS:
                await asyncio.sleep(SETTLE_S)
            # All of them are in, and not one may have an answer before the sync returns.
            assert (core.in_flight, core.recent, replies) == (1, 1, [])
            files.gate.set()
            await asyncio.wait_for(asyncio.gather(*clients), HANG_S)
            later = await asyncio.to_thread(submit, running.port, record.body)
            replies.append(later)

    with files_are(files):
        asyncio.run(run())

    assert len(replies) == DUPLICATES + 1
    told = collections.Counter(reply.headers["idempotency-replayed"] for reply in replies)
    assert told == {"false": 1, "true": DUPLICATES}
    assert len({(r.status, r.body, r.headers["pcs-position"]) for r in replies}) == 1
    assert replies[0].outcome["accepted"]


def test_contents_that_race_for_one_id_have_one_winner(tmp_path: Path) -> None:
    files = GatedFiles()
    contents = [signed("race", r=0.3 + i / 1_000) for i in range(64)]
    assert len({record.pcs_id for record in contents}) == 1
    replies: dict[int, list[Reply]] = {i: [] for i in range(len(contents))}

    async def run() -> None:
        async with running_region(write_home(tmp_path)) as running:
            files.gate.clear()
            clients = [
                asyncio.create_task(_send_share(running.port, record.body, 3, replies[i]))
                for i, record in enumerate(contents)
            ]
            while len(running.region.driver._replies) < len(contents):
                await asyncio.sleep(SETTLE_S)
            files.gate.set()
            await asyncio.wait_for(asyncio.gather(*clients), HANG_S)

    with files_are(files):
        asyncio.run(run())

    winners = [i for i, given in replies.items() if given[0].status in (200, 202)]
    assert len(winners) == 1
    (winner,) = winners
    assert [r.headers["idempotency-replayed"] for r in replies[winner]] == [
        "false", "true", "true",
    ]  # fmt: skip
    assert len({reply.body for reply in replies[winner]}) == 1
    for i, given in replies.items():
        if i != winner:
            assert [reply.code for reply in given] == ["pcs_id_conflict"] * 3
