"""Cold in a real S3: the contract, a whole move, and what a server that checks secrets refuses."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from s3_servers import S3, ceph, moto
from tier_contract import COLD, NAME
from tier_parts import DAY_MS, START_MS, Place, get_all, key_of, rows_of, run, started, stored_of

from fractal_lba_server.core.tiering import (
    TierBook,
    TierPolicy,
    lifecycle,
    lifecycle_document,
)
from fractal_lba_server.store.tiers.cold_objects import open_cold
from fractal_lba_server.store.tiers.protocols import TierUnavailableError
from fractal_lba_server.tiers import Unavailable

pytestmark = pytest.mark.services


@pytest.fixture(scope="module", params=["moto", pytest.param("ceph", marks=pytest.mark.long)])
def s3(request: pytest.FixtureRequest) -> Iterator[S3]:
    with moto() if request.param == "moto" else ceph() as server:
        yield server


@pytest.mark.parametrize("check", COLD)
def test_cold_store(check: Any, s3: S3) -> None:
    cold = open_cold(s3.url(s3.new_bucket()), s3.environment())
    run(check(cold))


def test_payloads_go_to_s3_and_come_back(s3: S3, tmp_path: Path) -> None:
    place = Place(tmp_path)
    bucket = s3.new_bucket()
    place.cold = open_cold(s3.url(bucket), s3.environment())
    place.index.apply(rows_of(40))
    place.clock.now_ms = START_MS + 8 * DAY_MS
    report = run(place.mover(entries_max=4, small_bytes=0).run())
    assert (report.payloads, report.objects, report.stopped) == (40, 10, "")
    assert run(place.mover().run()).merged == 10
    listed = s3.client().list_objects_v2(Bucket=bucket)["Contents"]
    assert [item["Key"].startswith("cold/open/t-acme/") for item in listed] == [True]
    keys = [key_of(number) for number in (1, 20, 40, 1)]
    answers = run(started(place.tiers(), lambda t: get_all(t, keys)))
    assert [a.tier for a in answers] == ["cold", "cold", "cold", "warm"]
    assert answers[0].stored == stored_of(key_of(1), 1)
    s3.client().delete_object(Bucket=bucket, Key=listed[0]["Key"])
    gone = run(started(place.tiers(), lambda t: t.get(key_of(2))))
    assert isinstance(gone, Unavailable), "an object that somebody removed is no new id"
    place.close()


def test_bucket_that_is_not_there_is_unavailable_and_no_absence(s3: S3) -> None:
    cold = open_cold(s3.url("flk-no-such-bucket"), s3.environment())
    with pytest.raises(TierUnavailableError):
        run(cold.create(NAME, b"x"))


def test_lifecycle_is_taken_by_the_server(s3: S3) -> None:
    bucket = s3.new_bucket()
    book = TierBook(TierPolicy(), {"brief": TierPolicy(cold_ttl_s=30 * 86_400)})
    document = lifecycle_document(
        lifecycle(book, ["open"], move_days=None, storage_class="STANDARD")
    )
    client = s3.client()
    client.put_bucket_lifecycle_configuration(Bucket=bucket, LifecycleConfiguration=document)
    rules = client.get_bucket_lifecycle_configuration(Bucket=bucket)["Rules"]
    assert rules[0]["Expiration"]["Days"] == 31


@pytest.mark.long
def test_wrong_secret_is_unavailable_and_no_absence() -> None:
    with ceph() as s3:
        bucket = s3.new_bucket()
        cold = open_cold(s3.url(bucket), s3.environment())
        run(cold.create(NAME, b"x"))
        denied = open_cold(s3.url(bucket), s3.environment(secret="another"))
        for work in (denied.read(NAME), denied.read_range(NAME, 0, 1), denied.create(NAME, b"y")):
            with pytest.raises(TierUnavailableError):
                run(work)
        assert run(cold.read(NAME)) == b"x"
