"""The arbiter as a process, with keepers of two or three regions around it (spec/roles.md)."""

from __future__ import annotations

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from many_roles import TERMS, ArbiterProcess, RoleWorld, roles_of, wait_until

from fractal_lba_server.arbiter import Arbiter
from fractal_lba_server.core import roles
from fractal_lba_server.net.region_client import call
from fractal_lba_server.role_keeper import RoleKeeper, RoleRefusedError
from fractal_lba_server.steady_clock import steady_ns
from fractal_lba_server.store.leases import open_leases
from fractal_lba_server.store.roles import RoleFiles


def state_of(folder: Path) -> str:
    return f"sqlite:///{folder}/arbiter.sqlite"


def writers(world: RoleWorld) -> list[str]:
    return [code for code, each in world.regions.items() if each.may_write]


def test_the_primary_gets_the_first_lease_and_the_standby_a_hint(tmp_path: Path) -> None:
    with roles_of(tmp_path, arbiter=state_of(tmp_path)) as (world, _):
        wait_until(lambda: writers(world) == ["eu1"], "no first lease")
        us1 = world.regions["us1"]
        wait_until(lambda: us1.said[-1].leader == "https://eu1.example", "no hint")
        assert us1.status.role == "standby"
        assert us1.status.lease_ms is None
        lease_ms = world.regions["eu1"].status.lease_ms
        assert lease_ms is not None
        assert 0 < lease_ms <= 950
        keeper = us1.keeper
        assert keeper is not None
        both = next(one for one in keeper.status() if one.placement == "both")
        assert (both.role, both.topology) == ("writer", "active-active")


def test_a_dead_primary_is_followed_after_its_lease_and_comes_back_as_a_standby(
    tmp_path: Path,
) -> None:
    with roles_of(tmp_path, arbiter=state_of(tmp_path)) as (world, _):
        eu1, us1 = world.regions["eu1"], world.regions["us1"]
        wait_until(lambda: eu1.may_write, "no first lease")
        eu1.write(5)
        eu1.ship("us1")
        eu1.write(2)
        until_ns = eu1.said[-1].until_ns
        eu1.stop()
        assert us1.keeper is not None
        us1.keeper.promote("open", region_epoch=1)
        wait_until(lambda: us1.may_write, "no take-over")
        assert time.time_ns() > until_ns
        assert us1.status.region_epoch == 2
        assert us1.fences == {"eu1": 2}
        us1.write(3)
        eu1.start()
        wait_until(lambda: eu1.status.role == "returning", "it did not step down")
        assert not eu1.may_write
        wait_until(lambda: eu1.adopted == 2, "its batches stay below the fence")
        eu1.ship("us1")
        assert us1.streams["eu1"] == 7
        wait_until(lambda: eu1.status.role == "standby", "it did not come home")
        assert eu1.adopted == 2


def test_a_hand_over_is_fast_and_loses_nothing(tmp_path: Path) -> None:
    with roles_of(tmp_path, arbiter=state_of(tmp_path)) as (world, _):
        eu1, us1 = world.regions["eu1"], world.regions["us1"]
        wait_until(lambda: eu1.may_write, "no first lease")
        eu1.write(5)
        assert eu1.keeper is not None
        eu1.keeper.failback("open", to="us1")
        assert not eu1.may_write
        assert eu1.status.role == "draining"
        eu1.ship("us1")
        wait_until(lambda: us1.may_write, "no hand-over")
        wait_until(lambda: eu1.status.role == "standby", "not a standby")
        assert eu1.said[-1].leader == "https://us1.example"


def test_of_two_operators_who_promote_at_once_one_is_refused(tmp_path: Path) -> None:
    codes = ("eu1", "us1", "ap1")
    with roles_of(tmp_path, arbiter=state_of(tmp_path), codes=codes) as (world, _):
        wait_until(lambda: world.regions["eu1"].may_write, "no first lease")
        first, second = world.regions["us1"].keeper, world.regions["ap1"].keeper
        assert first is not None
        assert second is not None
        first.promote("open", region_epoch=1)
        with pytest.raises(RoleRefusedError, match="by now"):
            second.promote("open", region_epoch=1)
        wait_until(lambda: world.regions["us1"].may_write, "no take-over")
        assert writers(world) == ["us1"]
        with pytest.raises(RoleRefusedError, match="no placement"):
            first.promote("nowhere", region_epoch=1)


def test_a_fence_stops_whoever_writes_until_a_promotion(tmp_path: Path) -> None:
    with roles_of(tmp_path, arbiter=state_of(tmp_path)) as (world, _):
        eu1, us1 = world.regions["eu1"], world.regions["us1"]
        wait_until(lambda: eu1.may_write, "no first lease")
        assert us1.keeper is not None
        us1.keeper.fence("open", region_epoch=1)
        wait_until(lambda: eu1.status.role == "fenced", "not fenced")
        assert writers(world) == []
        assert eu1.keeper is not None
        eu1.keeper.promote("open", region_epoch=2)
        wait_until(lambda: eu1.may_write, "not promoted")
        assert eu1.status.region_epoch == 3


def test_without_the_arbiter_the_lease_runs_out_and_its_restart_brings_it_back(
    tmp_path: Path,
) -> None:
    with roles_of(tmp_path, arbiter=state_of(tmp_path)) as (world, arbiter):
        eu1 = world.regions["eu1"]
        wait_until(lambda: eu1.may_write, "no first lease")
        assert arbiter is not None
        arbiter.kill()
        wait_until(lambda: not eu1.may_write, "wrote on without a lease")
        wait_until(lambda: eu1.said[-1].until_ns == 0, "was not told")
        assert eu1.keeper is not None
        with pytest.raises(RoleRefusedError, match="arbiter"):
            eu1.keeper.promote("open", region_epoch=1)
        again = ArbiterProcess(world.file, state_of(tmp_path), listen=arbiter.address)
        try:
            wait_until(lambda: eu1.may_write, "no lease after the restart")
            assert call(again.url, "GET", "/arbiter/v1/status")["placements"][0]["granted"]
        finally:
            assert again.stop() == 0


def test_of_two_arbiters_on_one_state_the_first_ends(tmp_path: Path) -> None:
    with roles_of(tmp_path, arbiter=state_of(tmp_path)) as (world, first):
        wait_until(lambda: world.regions["eu1"].may_write, "no first lease")
        assert first is not None
        second = ArbiterProcess(world.file, state_of(tmp_path))
        try:
            assert first.process.wait(10) == 1
        finally:
            second.kill()


def test_a_clock_that_is_set_makes_no_lease_longer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with roles_of(tmp_path, arbiter=state_of(tmp_path)) as (world, arbiter):
        eu1 = world.regions["eu1"]
        wait_until(lambda: eu1.may_write, "no first lease")
        real = time.time_ns
        monkeypatch.setattr(time, "time_ns", lambda: real() - 3_600 * 10**9)
        assert arbiter is not None
        arbiter.kill()
        wait_until(lambda: not eu1.may_write, "an hour back, an hour more")
        monkeypatch.undo()
        assert eu1.keeper is not None


def test_no_arbiter_three_regions_promote_by_hand(tmp_path: Path) -> None:
    with roles_of(tmp_path, codes=("eu1", "us1", "ap1")) as (world, _):
        eu1, us1 = world.regions["eu1"], world.regions["us1"]
        wait_until(lambda: eu1.may_write, "not confirmed by its peers")
        eu1.write(4)
        world.regions["ap1"].streams["eu1"] = 4
        eu1.stop()
        assert us1.keeper is not None
        us1.keeper.promote("open", region_epoch=1)
        wait_until(lambda: "eu1" in us1.status.reason, "took over without a word")
        assert not us1.may_write
        with pytest.raises(RoleRefusedError, match="look again"):
            us1.keeper.promote("open", region_epoch=1, old_is_stopped=True)
        us1.keeper.promote("open", region_epoch=65, old_is_stopped=True)
        wait_until(lambda: us1.may_write, "no take-over")
        assert us1.streams["eu1"] == 4, "what ap1 held was fetched"
        assert us1.status.region_epoch == 129
        eu1.start()
        wait_until(lambda: eu1.adopted == 129, "it did not step down")
        eu1.ship("us1")
        wait_until(lambda: eu1.status.role == "standby", "it did not come home")
        us1.keeper.failback("open", to="eu1")
        us1.ship("eu1")
        wait_until(lambda: eu1.may_write, "no hand-over without an arbiter")
        assert eu1.keeper is not None
        with pytest.raises(RoleRefusedError, match="by now"):
            eu1.keeper.fence("open", region_epoch=1)
        eu1.keeper.fence("open", region_epoch=eu1.status.region_epoch)
        assert not eu1.may_write
        eu1.keeper.fenced("open", 1_000)
        wait_until(lambda: eu1.status.region_epoch == 1_000, "did not hear of the epoch")


def test_a_region_that_cannot_keep_its_role_stops_and_says_so(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with roles_of(tmp_path, arbiter=state_of(tmp_path)) as (world, _):
        eu1 = world.regions["eu1"]
        wait_until(lambda: eu1.may_write, "no first lease")

        def broken(*_: Any) -> None:
            raise OSError("no space")

        monkeypatch.setattr(eu1, "adopt", broken)
        assert eu1.keeper is not None
        eu1.keeper.fenced("open", 7)
        wait_until(lambda: bool(eu1.failure), "not told")
        assert "no space" in eu1.failure
        assert not eu1.may_write


@pytest.mark.parametrize(
    "body",
    [
        {}, {"placement": "both", "region_epoch": 1, "leader": None},
        {"placement": "open", "region_epoch": "1", "leader": None},
        {"placement": "open", "region_epoch": 1, "leader": 3},
    ],
)  # fmt: skip
def test_a_peer_that_asks_nonsense_is_refused(tmp_path: Path, body: dict[str, Any]) -> None:
    with roles_of(tmp_path) as (world, _):
        keeper = world.regions["eu1"].keeper
        assert keeper is not None
        with pytest.raises(ValueError, match=r"expected|placement"):
            keeper.answer_peer(None, body)
        with pytest.raises(ValueError, match="not yours"):
            keeper.answer_peer("zz9", {"placement": "open", "region_epoch": 1, "leader": None})


@pytest.mark.parametrize("text", ["", "[]", '{"role": "king"}', "{"])
def test_a_damaged_role_is_a_clear_refusal(tmp_path: Path, text: str) -> None:
    with roles_of(tmp_path) as (world, _):
        eu1 = world.regions["eu1"]
        eu1.stop()
        file = eu1.data / "roles" / "open.json"
        good = json.loads(file.read_text())
        for bad in (
            text,
            json.dumps({**good, "region_epoch": 0}),
            json.dumps({**good, "step": "x"}),
        ):
            file.write_text(bad)
            with pytest.raises(ValueError, match="restore the file"):
                RoleKeeper(
                    registry=world.registry, region="eu1", data=eu1.data, links=eu1,
                    emit=eu1.said.append,
                )  # fmt: skip


def test_a_role_is_kept_whole(tmp_path: Path) -> None:
    files = RoleFiles(tmp_path)
    kept = roles.Kept(roles.PROMOTING, 7, None, roles.LEARN, old_is_stopped=True)
    assert files.read("open") is None
    files.write("open", kept)
    assert RoleFiles(tmp_path).read("open") == kept


def test_the_steady_clock_goes_on() -> None:
    assert steady_ns() < steady_ns()


def test_an_arbiter_that_lost_its_state_grants_nothing_until_an_operator_mends_it(
    tmp_path: Path,
) -> None:
    with roles_of(tmp_path, arbiter=state_of(tmp_path)) as (world, arbiter):
        eu1, us1 = world.regions["eu1"], world.regions["us1"]
        wait_until(lambda: eu1.may_write, "no first lease")
        assert us1.keeper is not None
        us1.keeper.promote("open", region_epoch=1)
        wait_until(lambda: us1.may_write and eu1.status.role == "standby", "no take-over")
        assert arbiter is not None
        arbiter.kill()
        for file in tmp_path.glob("arbiter.sqlite*"):
            file.unlink()
        again = ArbiterProcess(world.file, state_of(tmp_path), listen=arbiter.address)
        try:
            wait_until(lambda: "old copy" in us1.status.reason, "not said")
            wait_until(lambda: not us1.may_write, "wrote on without a lease")
            assert not eu1.may_write
            us1.keeper.promote("open", region_epoch=2)
            wait_until(lambda: us1.may_write, "not mended")
            assert us1.status.region_epoch == 3
        finally:
            again.kill()


# --- failover flap


def promotions(folder: Path, *, rest_ms: int) -> int:
    """Let whoever leads look down every other ten seconds for ten minutes; count promotions."""
    world = RoleWorld(folder)
    world.close()

    async def run() -> int:
        clock = [0]
        store = open_leases(state_of(folder))
        names = ["ck1", "ck2", "ck3"]
        arbiter = Arbiter(
            world.registry, store, terms=TERMS, checkers=names, quorum=2, automatic=True,
            rest_ms=rest_ms, now_ns=lambda: clock[0],
        )  # fmt: skip
        await arbiter.start()
        for second in range(600):
            clock[0] = second * 10**9
            status = await arbiter.status()
            leader = status["placements"][0]["holder"]
            ready = {leader: second // 10 % 2 == 0}
            for name in names:
                await arbiter.vote(name, ready, dict.fromkeys(world.codes, True))
        placement = (await arbiter.status())["placements"][0]
        await store.close()
        return int(placement["region_epoch"]) - 1

    return asyncio.run(run())


def test_h59_automatic_promotion_does_not_swing(tmp_path: Path) -> None:
    steady, literal = tmp_path / "steady", tmp_path / "literal"
    steady.mkdir()
    literal.mkdir()
    assert 0 < promotions(steady, rest_ms=60_000) <= 10
    assert promotions(literal, rest_ms=0) > 100
