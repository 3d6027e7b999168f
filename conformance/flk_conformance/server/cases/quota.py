"""The quota of a tenant: who is charged, who is refused, and when to come back."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Callable, Iterator
from functools import partial, wraps

from .. import judge
from ..features import Tenant
from ..judge import require
from ..records import Submission
from ..trial import BATCH, NDJSON, Absent, Trial, case
from ..wire import Reply

_Run = Callable[[Trial], None]
_Enter = Callable[[_Run], _Run]

LONGEST_REFILL_S = 5.0
"""A quota that takes longer to fill again is not tested: it would hold up every run."""

SLACK = 5
"""Tokens that a bucket may win while it is emptied on a busy machine."""

_BUCKET = threading.Lock()
"""One case at a time: there is one bucket."""


def quota_case(name: str, cites: str, *, needs: str = "submit") -> _Enter:
    """Enter a case that uses up the quota; it runs beside the others, but not beside its like."""

    def enter(run: _Run) -> _Run:
        @wraps(run)
        def alone(trial: Trial) -> None:
            with _BUCKET:
                run(trial)

        return case(name, cites, needs=needs, slow=True)(alone)

    return enter


def _bounded(trial: Trial) -> Tenant:
    tenant = trial.features.bounded
    if tenant is None or tenant.quota is None or tenant.key() is None:
        raise Absent("no tenant with a quota is listed")
    if tenant.quota.burst / max(tenant.quota.per_s, 1e-9) > LONGEST_REFILL_S:
        raise Absent(f"the quota takes more than {LONGEST_REFILL_S:.0f} s to fill again")
    return tenant


def _fill(tenant: Tenant) -> None:
    """Wait until the whole quota is there."""
    assert tenant.quota is not None
    time.sleep(tenant.quota.burst / tenant.quota.per_s)


def _fresh(trial: Trial, tenant: Tenant) -> Iterator[Submission]:
    key = next(tenant.keys_with())
    while True:
        yield trial.records.fresh(key)


def _use_up(trial: Trial, tenant: Tenant) -> tuple[Submission, Reply]:
    """Submit until a record is refused; give that one."""
    assert tenant.quota is not None
    most = 10 * tenant.quota.burst + 10
    for one in itertools.islice(_fresh(trial, tenant), most):
        reply = trial.client.ask(
            "POST", "/v1/pcs/submit", [("Content-Type", "application/json")], one.body
        )
        if reply.status == 429:
            return one, reply
        judge.recorded(reply)
    raise judge.Failed(f"{most} records were taken of a tenant with burst {tenant.quota.burst}")


@quota_case("quota/9.8/1", "formats 9.8")
def over_quota(trial: Trial) -> None:
    """A record over the quota is 429 rate_limited with Retry-After."""
    tenant = _bounded(trial)
    _, reply = _use_up(trial, tenant)
    require(reply.header("retry-after"), "429 without Retry-After")
    judge.refused(reply, 429, "rate_limited")
    require(int(reply.header("retry-after") or 0) >= 1, "Retry-After: 0")


@quota_case("quota/9.8/2", "formats 9.8")
def retry_after_is_enough(trial: Trial) -> None:
    """After Retry-After the record that was refused is taken, as new."""
    tenant = _bounded(trial)
    one, reply = _use_up(trial, tenant)
    seconds = int(reply.header("retry-after") or 0)
    require(seconds <= LONGEST_REFILL_S, f"Retry-After: {seconds}")
    time.sleep(seconds)
    judge.recorded(trial.send(one))


@quota_case("quota/9.1/1", "formats 9.1")
def burst_is_given(trial: Trial) -> None:
    """A full quota lets its burst through, and not much more."""
    tenant = _bounded(trial)
    assert tenant.quota is not None
    _fill(tenant)
    made = _fresh(trial, tenant)
    rows = [next(made) for _ in range(tenant.quota.burst + SLACK + 10)]
    statuses = [reply.status for reply in trial.at_once([partial(trial.send, row) for row in rows])]
    taken = statuses.count(200)
    most = tenant.quota.burst + SLACK
    require(tenant.quota.burst <= taken <= most, f"of {len(rows)} records {taken} were taken")
    require(set(statuses) <= {200, 429}, f"{statuses}")


@quota_case("quota/9.1/2", "formats 9.1")
def signature_before_quota(trial: Trial) -> None:
    """Over the quota, a bad signature is still 401: strangers learn nothing of it."""
    tenant = _bounded(trial)
    one, _ = _use_up(trial, tenant)
    text = one.sig
    body = one.altered(sig=f'"{"B" if text[0] == "A" else "A"}{text[1:]}"')
    judge.refused(trial.submit(body), 401, "signature_invalid")


@quota_case("quota/9.1/3", "formats 9.1")
def other_tenant_is_served(trial: Trial) -> None:
    """One tenant over its quota leaves the others theirs."""
    _use_up(trial, _bounded(trial))
    judge.recorded(trial.send(trial.records.fresh(trial.key())))


@quota_case("quota/9.7/1", "formats 9.7")
def strangers_are_not_charged_to_the_tenant(trial: Trial) -> None:
    """Forged requests in a tenant's name take nothing of its quota."""
    tenant = _bounded(trial)
    assert tenant.quota is not None
    _fill(tenant)
    made = _fresh(trial, tenant)
    good = [next(made) for _ in range(tenant.quota.burst)]
    forged = next(made).altered(budget="0.356")
    named = ("X-Tenant-Id", tenant.id)
    for _ in range(3 * tenant.quota.burst):
        judge.refused(trial.submit(forged, named), 401, "signature_invalid")
    for one in good:
        judge.recorded(trial.send(one))


@quota_case("quota/8.4/1", "formats 8.4", needs="batch")
def batch_pays_per_line(trial: Trial) -> None:
    """A batch is charged per line: what the quota does not cover is refused, line by line."""
    tenant = _bounded(trial)
    assert tenant.quota is not None
    _fill(tenant)
    made = _fresh(trial, tenant)
    rows = [next(made) for _ in range(2 * tenant.quota.burst + SLACK)]
    body = b"".join(row.body + b"\n" for row in rows)
    found = judge.items(trial.ask("POST", BATCH, [NDJSON], body))
    statuses = [item["status"] for item in found]
    require(len(found) == len(rows), f"{len(rows)} lines, {len(found)} items")
    require(set(statuses) == {200, 429}, f"{statuses}")
    require(statuses == sorted(statuses), "a line that was refused stands before one taken")
    require(statuses.count(200) >= tenant.quota.burst, f"{statuses.count(200)} lines were taken")


@quota_case("quota/9.1/4", "formats 9.1")
def refused_by_quota_is_not_recorded(trial: Trial) -> None:
    """What the quota refused was not recorded."""
    tenant = _bounded(trial)
    one, _ = _use_up(trial, tenant)
    trial.reader(tenant)
    trial.unrecorded(one)
