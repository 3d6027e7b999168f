"""Object stores: an object is created once, and only "there is none" says that there is none."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from tier_contract import COLD, NAME
from tier_parts import run

from fractal_lba_server.store.tiers.cold_objects import ColdObjects, open_cold
from fractal_lba_server.store.tiers.protocols import TierUnavailableError


async def listed(names: AsyncIterator[str]) -> list[str]:
    return sorted([name async for name in names])


@pytest.fixture(params=["memory", "folder"])
def cold(request: pytest.FixtureRequest, tmp_path: Path) -> ColdObjects:
    return open_cold("memory:" if request.param == "memory" else f"file://{tmp_path}/cold")


@pytest.mark.parametrize("check", COLD)
def test_cold_store(check: Any, cold: ColdObjects) -> None:
    run(check(cold))


def test_tenant_that_is_called_like_a_parent_folder_stays_below_it(tmp_path: Path) -> None:
    cold = open_cold(f"file://{tmp_path}/cold")
    assert run(cold.create("open/t-../x.cold", b"x"))
    assert [p.relative_to(tmp_path).as_posix() for p in tmp_path.rglob("*.cold")] == [
        "cold/open/t-../x.cold"
    ]


def test_folder_that_refuses_is_unavailable(tmp_path: Path) -> None:
    cold = open_cold(f"file://{tmp_path}/cold")
    (tmp_path / "cold" / "open").write_bytes(b"a file where a folder should be")
    for work in (cold.create(NAME, b"x"), cold.read(NAME)):
        with pytest.raises(TierUnavailableError):
            run(work)


def test_object_in_a_folder_is_synced_before_it_counts(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = open_cold(f"file://{tmp_path}/cold")
    synced: list[str] = []

    def fsync(fd: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{fd}"))

    monkeypatch.setattr(os, "fsync", fsync)
    run(cold.create(NAME, b"x"))
    home = str(tmp_path / "cold")
    assert synced == [f"{home}/{NAME}", f"{home}/open/t-acme", f"{home}/open", home]

    def broken(fd: int) -> None:
        raise OSError(5, "input/output error")

    monkeypatch.setattr(os, "fsync", broken)
    with pytest.raises(TierUnavailableError):
        run(cold.create("open/t-acme/other.cold", b"x"))


@pytest.mark.parametrize(
    "work",
    [
        lambda cold: cold.create(NAME, b"x"),
        lambda cold: cold.read(NAME),
        lambda cold: cold.read_range(NAME, 0, 1),
        lambda cold: cold.remove(NAME),
        lambda cold: listed(cold.names("")),
    ],
)
def test_store_that_nobody_answers_for_is_unavailable(
    work: Callable[[ColdObjects], Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    cold = open_cold(
        "s3://bucket/prefix?endpoint=http://127.0.0.1:9&region=x",
        {"AWS_ACCESS_KEY_ID": "k", "AWS_SECRET_ACCESS_KEY": "s"},
    )
    with pytest.raises(TierUnavailableError, match=r"^cold: "):
        run(work(cold))


@pytest.mark.parametrize(
    "url",
    [
        "ftp://x/y",
        "/a/path",
        "s3://user:secret@bucket/x",
        "s3:///x",
        "s3://bucket/x?secret_access_key=abc",
    ],
)
def test_other_urls_are_refused_without_quoting_a_secret(url: str) -> None:
    with pytest.raises(ValueError, match=r"expected|holds no secret") as error:
        open_cold(url, {})
    assert "abc" not in str(error.value)
    assert "user" not in str(error.value)
