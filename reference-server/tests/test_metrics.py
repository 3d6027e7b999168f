"""Metrics: what is counted, under which names, and that traffic cannot multiply the series."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from prometheus_client.parser import text_string_to_metric_families

from fractal_lba_server.core.tenants import Directory, Tenant
from fractal_lba_server.metrics import (
    CONTENT_TYPE,
    GAUGES,
    LOCKED_LABEL,
    OTHER_LABEL,
    REQUEST_BUCKETS_S,
    Metrics,
    tenant_label,
)

SALT = b"s" * 32
MILLISECOND_NS = 1_000_000


def metrics() -> Metrics:
    return Metrics(region="loc", salt=SALT)


def samples(found: Metrics) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    """Scrape, and give every sample of the project by its name and its labels but the region."""
    values = {}
    for family in text_string_to_metric_families(found.render().decode()):
        for sample in family.samples:
            labels = dict(sample.labels)
            if sample.name.startswith("flk_"):
                assert labels.pop("region") == "loc"
                values[sample.name, tuple(sorted(labels.items()))] = sample.value
    return values


def value(found: Metrics, name: str, **labels: str) -> float:
    return samples(found)[name, tuple(sorted(labels.items()))]


def tenant(name: str, placement: str = "open") -> Tenant:
    return Tenant(name, 2, None, None, (), placement)


def test_a_scrape_is_text_of_its_content_type() -> None:
    assert CONTENT_TYPE.startswith("text/plain; version=")
    assert value(metrics(), "flk_build_info", version=_release(metrics())) == 1


def _release(found: Metrics) -> str:
    return next(dict(labels)["version"] for name, labels in samples(found) if "build" in name)


@given(st.lists(st.integers(0, 40_000 * MILLISECOND_NS), max_size=20))
def test_a_duration_lies_in_every_bucket_that_is_wide_enough(durations_ns: list[int]) -> None:
    found = metrics()
    for duration_ns in durations_ns:
        found.request("/v1/pcs/submit", 200, duration_ns)
    series = {"route": "/v1/pcs/submit", "status": "200"}
    if not durations_ns:
        assert ("flk_request_duration_seconds_count", ()) not in samples(found)
        return
    scraped = samples(found)

    def read(name: str, **more: str) -> float:
        return scraped[
            f"flk_request_duration_seconds_{name}", tuple(sorted({**series, **more}.items()))
        ]

    assert read("count") == len(durations_ns)
    assert read("sum") == pytest.approx(sum(durations_ns) / 1e9)
    for bound in REQUEST_BUCKETS_S:
        inside = sum(duration_ns / 1e9 <= bound for duration_ns in durations_ns)
        assert read("bucket", le=str(bound)) == inside
    assert read("bucket", le="+Inf") == len(durations_ns)


def test_routes_and_statuses_are_counted_apart() -> None:
    found = metrics()
    for route, status in [("/a", 200), ("/a", 503), ("/b", 200), ("/a", 200)]:
        found.request(route, status, MILLISECOND_NS)
    name = "flk_request_duration_seconds_count"
    assert value(found, name, route="/a", status="200") == 2
    assert value(found, name, route="/a", status="503") == 1
    assert value(found, name, route="/b", status="200") == 1


def test_outcomes_are_counted_by_pseudonym() -> None:
    found = metrics()
    found.tenants_loaded(Directory(tenants=[tenant("acme"), tenant("beta")]))
    found.outcome("acme", 200, replayed=False)
    found.outcome("acme", 200, replayed=True)
    found.outcome("acme", 200, replayed=True)
    found.outcome("beta", 202, replayed=False)
    acme, beta = (tenant_label(name, salt=SALT) for name in ("acme", "beta"))
    assert value(found, "flk_outcomes_total", tenant=acme, status="200", replayed="false") == 1
    assert value(found, "flk_outcomes_total", tenant=acme, status="200", replayed="true") == 2
    assert value(found, "flk_outcomes_total", tenant=beta, status="202", replayed="false") == 1
    assert b"acme" not in found.render()


def test_refusals_are_counted_by_code_and_only_known_callers_by_tenant() -> None:
    found = metrics()
    found.tenants_loaded(Directory(tenants=[tenant("acme")]))
    found.refused("rate_limited", "acme")
    found.refused("rate_limited", "acme")
    found.refused("json_malformed")
    label = tenant_label("acme", salt=SALT)
    assert value(found, "flk_refusals_total", code="rate_limited", tenant=label) == 2
    assert value(found, "flk_refusals_total", code="json_malformed", tenant="") == 1


def test_a_pseudonym_is_stable_while_the_salt_is() -> None:
    assert tenant_label("acme", salt=SALT) == tenant_label("acme", salt=SALT)
    assert tenant_label("acme", salt=SALT) != tenant_label("acme", salt=b"t" * 32)
    assert tenant_label("acme", salt=SALT) != tenant_label("beta", salt=SALT)


def test_a_tenant_that_is_locked_to_regions_has_no_series_of_its_own() -> None:
    found = metrics()
    found.tenants_loaded(Directory(tenants=[tenant("acme", "eu"), tenant("beta", "us")]))
    found.outcome("acme", 200, replayed=False)
    found.outcome("beta", 200, replayed=False)
    labels = {"tenant": LOCKED_LABEL, "status": "200", "replayed": "false"}
    assert value(found, "flk_outcomes_total", **labels) == 2


def test_names_that_are_no_tenants_share_one_series() -> None:
    found = metrics()
    for number in range(1000):
        found.outcome(f"t{number}", 200, replayed=False)
        found.refused("rate_limited", f"t{number}")
    labels = {"tenant": OTHER_LABEL, "status": "200", "replayed": "false"}
    assert value(found, "flk_outcomes_total", **labels) == 1000
    assert (
        sum(name in ("flk_outcomes_total", "flk_refusals_total") for name, _ in samples(found)) == 2
    )


def test_a_group_commit_counts_its_frames_and_bytes() -> None:
    found = metrics()
    found.synced(frames=3, size_bytes=2700, duration_ns=2 * MILLISECOND_NS)
    found.synced(frames=1, size_bytes=900, duration_ns=MILLISECOND_NS)
    assert value(found, "flk_wal_frames_total") == 4
    assert value(found, "flk_wal_bytes_total") == 3600
    assert value(found, "flk_wal_sync_duration_seconds_count") == 2
    assert value(found, "flk_wal_sync_duration_seconds_sum") == pytest.approx(0.003)


def test_a_broken_tenants_file_shows_until_a_good_one_is_read() -> None:
    found = metrics()
    found.tenants_loaded(Directory(tenants=[tenant("acme")]))
    assert value(found, "flk_tenants_file_broken") == 0
    found.tenants_refused()
    assert value(found, "flk_tenants_file_broken") == 1
    assert value(found, "flk_tenants") == 1
    found.tenants_loaded(Directory(tenants=[tenant("acme"), tenant("beta")]))
    assert value(found, "flk_tenants_file_broken") == 0
    assert value(found, "flk_tenants") == 2
    assert value(found, "flk_tenants_reloads_total", result="ok") == 2
    assert value(found, "flk_tenants_reloads_total", result="refused") == 1


@pytest.mark.parametrize("name", sorted(GAUGES))
def test_a_gauge_is_read_when_it_is_scraped(name: str) -> None:
    found, now = metrics(), [1.0]
    found.follow(name, lambda: now[0])
    assert value(found, f"flk_{name}") == 1
    now[0] = 7
    assert value(found, f"flk_{name}") == 7


def test_only_gauges_of_the_table_are_followed() -> None:
    with pytest.raises(KeyError):
        metrics().follow("other", lambda: 0.0)


def test_two_regions_of_one_process_count_apart() -> None:
    first, second = metrics(), metrics()
    first.refused("unavailable")
    assert ("flk_refusals_total", (("code", "unavailable"), ("tenant", ""))) not in samples(second)
