"""The arbiter's state in PostgreSQL: it outlasts a restart of either, and has one owner."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from engines import PostgresServer
from many_roles import ArbiterProcess, roles_of, wait_until

from fractal_lba_server.net.region_client import CallRefusedError, call

pytestmark = pytest.mark.services


@pytest.fixture(scope="module")
def postgres() -> Iterator[PostgresServer]:
    with PostgresServer.running() as server:
        assert isinstance(server, PostgresServer)
        yield server


def test_leases_outlast_the_arbiter_and_the_database(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    with roles_of(tmp_path, arbiter=postgres.url) as (world, arbiter):
        eu1, us1 = world.regions["eu1"], world.regions["us1"]
        wait_until(lambda: eu1.may_write, "no first lease")
        assert us1.keeper is not None
        us1.keeper.promote("open", region_epoch=1)
        wait_until(lambda: us1.may_write, "no take-over")
        assert arbiter is not None
        arbiter.kill()
        wait_until(lambda: not us1.may_write, "wrote on without a lease")
        again = ArbiterProcess(world.file, postgres.url, listen=arbiter.address)
        try:
            wait_until(lambda: us1.may_write, "no lease after the restart")
            assert us1.status.region_epoch == 2
            postgres.kill()
            wait_until(lambda: not us1.may_write, "granted without its state")
            with pytest.raises(CallRefusedError) as caught:
                call(again.url, "GET", "/arbiter/v1/status", timeout_s=10)
            assert caught.value.status == 503
            postgres.start()
            wait_until(lambda: us1.may_write, "no lease after the database came back")
            assert not eu1.may_write
        finally:
            again.kill()


def test_of_two_arbiters_on_one_database_the_first_ends(
    tmp_path: Path, postgres: PostgresServer
) -> None:
    with roles_of(tmp_path, arbiter=postgres.url) as (world, first):
        assert first is not None
        second = ArbiterProcess(world.file, postgres.url)
        try:
            assert first.process.wait(20) == 1
            assert call(second.url, "GET", "/healthz") == {"ok": True}
        finally:
            second.kill()
