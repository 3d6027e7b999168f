"""The closed forms that the engines must reproduce and that claims are checked against.

The invariant of this file: each function is a formula that stands in a textbook or follows in a
line from its docstring, without chance and without a model. Where the server's core has the rule
already, the core's own function is used: what a tier holds is `core.capacity`, how long a dead
region goes unnoticed `core.health.detection`, what moves between rings `fractal_lba.ring`.
The labels A1 to A21 are those of the claims register. Times are seconds, rates per second.
"""

# tidy: long because the closed forms are read as one table

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil, comb, erf, exp, log, pi, sqrt
from typing import Final, NamedTuple

YEAR_S: Final = 365 * 86_400
MONTH_S: Final = 30 * 86_400
DAY_S: Final = 86_400
HOUR_S: Final = 3_600

Z_95: Final = 1.959963984540054
"""Two-sided 95 % point of the standard normal distribution."""

HALVINGS: Final = 200
"""Steps of a search by halves: past the precision of a double."""


class Span(NamedTuple):
    """A time that is uniform between two bounds, above the first and up to the second."""

    above_s: float
    to_s: float

    @property
    def mean_s(self) -> float:
        """Give the mean."""
        return (self.above_s + self.to_s) / 2

    def quantile_s(self, share: float) -> float:
        """Give the time below which this share lies."""
        return self.above_s + share * (self.to_s - self.above_s)


# --- detection and reroute ------------------------------------------------------------------


def detection(interval_s: float, failures: int, timeout_s: float) -> Span:
    """Give how long a dead region goes unnoticed: uniform on ((k-1)I + t, kI + t] (A1)."""
    above_s = (failures - 1) * interval_s + timeout_s
    return Span(above_s, above_s + interval_s)


def false_alarm(probe_loss: float, failures: int) -> float:
    """Give the chance that k probes in a row are lost although the region lives (A1)."""
    return float(probe_loss**failures)


class Reroute(NamedTuple):
    """How long after a region's death clients reach another one."""

    least_s: float
    mean_s: float
    most_s: float


def reroute(
    interval_s: float, failures: int, timeout_s: float, propagation_s: float, ttl_s: float
) -> Reroute:
    """Add detection, propagation and what is left of a DNS entry, U(0, TTL) (A2)."""
    found = detection(interval_s, failures, timeout_s)
    return Reroute(
        found.above_s + propagation_s,
        found.mean_s + propagation_s + ttl_s / 2,
        found.to_s + propagation_s + ttl_s,
    )


def ttl_s_max(
    rto_s: float, interval_s: float, failures: int, timeout_s: float, propagation_s: float
) -> float:
    """Give the longest DNS time to live that keeps a recovery time: RTO - kI - t - p (A2)."""
    return rto_s - failures * interval_s - timeout_s - propagation_s


def reroute_cdf(at_s: float, found: Span, propagation_s: float, ttl_s: float) -> float:
    """Give the chance that a client was rerouted by `at_s`: the sum of two uniform times."""
    left_s = at_s - found.above_s - propagation_s
    short_s, long_s = sorted((found.to_s - found.above_s, ttl_s))
    if left_s <= 0:
        return 0.0
    if short_s == 0:
        return min(1.0, left_s / long_s) if long_s else 1.0
    area = _half(left_s) - _half(left_s - short_s) - _half(left_s - long_s)
    return min(1.0, (area + _half(left_s - short_s - long_s)) / (short_s * long_s))


def _half(side: float) -> float:
    return side * side / 2 if side > 0 else 0.0


# --- what is lost ---------------------------------------------------------------------------


def rpo_shipping(interval_s: float, upload_s: float, transfer_s: float) -> Span:
    """Give the age of what is lost with periodic shipping: u + d + U(0, T) (A3)."""
    return Span(upload_s + transfer_s, upload_s + transfer_s + interval_s)


def interval_s_max(rpo_s: float, upload_s: float, transfer_s: float) -> float:
    """Give the longest close interval that keeps a recovery point: RPO - u - d (A3)."""
    return rpo_s - upload_s - transfer_s


def is_stable_shipping(interval_s: float, upload_s: float) -> bool:
    """Say whether a shipper that sends one segment at a time keeps up: u < T (A3)."""
    return upload_s < interval_s


def rpo_cold_standby(snapshot_s: float, sync_s: float, taking_s: float, copy_s: float) -> Span:
    """Bound the age of what a restore lacks: [s + c, S + Y + s + c); it is not uniform (A4).

    The mean is that of the bounds as long as the phases of snapshots and syncs are independent.
    """
    return Span(taking_s + copy_s, snapshot_s + sync_s + taking_s + copy_s)


def restore_s(size_bytes: float, bytes_per_s: float, *others_s: float) -> float:
    """Give how long a cold standby takes: its other phases, and the size by the bandwidth (A4)."""
    return sum(others_s) + size_bytes / bytes_per_s


def lost_records(rate_per_s: float, lag_s: float) -> float:
    """Give the acknowledged records that are gone with a region that lagged (A3)."""
    return rate_per_s * lag_s


def records_behind(rate_per_s: float, service_per_s: float, pipe_s: float) -> float:
    """Give the mean number of records on an M/M/1 link and in the pipe behind it: r/(1-r) + a d."""
    load = rate_per_s / service_per_s
    return load / (1 - load) + rate_per_s * pipe_s if load < 1 else float("inf")


def lag_mm1_s(rate_per_s: float, service_per_s: float) -> float:
    """Give the mean time through an M/M/1 link; it is exponential: 1/(m - a)."""
    return 1 / (service_per_s - rate_per_s) if service_per_s > rate_per_s else float("inf")


def wait_md1_s(rate_per_s: float, service_per_s: float) -> float:
    """Give the mean wait before transfers of one size, M/D/1: r / (2 m (1 - r))."""
    load = rate_per_s / service_per_s
    return load / (2 * service_per_s * (1 - load)) if load < 1 else float("inf")


def catch_up_s(outage_s: float, rate_per_s: float, capacity_per_s: float) -> float:
    """Give how long a backlog takes to go: a D / (C - a); never if a >= C (A3, A9)."""
    if rate_per_s >= capacity_per_s:
        return float("inf")
    return rate_per_s * outage_s / (capacity_per_s - rate_per_s)


def copy_s(keys: float, copy_per_s: float, grown_per_s: float = 0.0) -> float:
    """Give how long a throttled copy takes: S / (B - w); never if w >= B (A17).

    With double writes from the start nothing grows behind the copy: `grown_per_s` is 0.
    """
    return keys / (copy_per_s - grown_per_s) if copy_per_s > grown_per_s else float("inf")


# --- rings ----------------------------------------------------------------------------------


def moved_share(shards: int, target: int) -> float:
    """Give the mean share of keys that move to added shards: 1 - N/M (A5)."""
    return 1 - shards / target


def moved_share_sd(shards: int, target: int, vnodes: int) -> float:
    """Give how far the moved share is off its mean: a beta distribution (A5)."""
    share = moved_share(shards, target)
    return sqrt(share * (1 - share) / (vnodes * target + 1))


def moved_share_modulo(shards: int) -> float:
    """Give the share that moves from N to N + 1 where the remainder is the shard: N/(N+1) (A5)."""
    return shards / (shards + 1)


def share_cv(shards: int, vnodes: int) -> float:
    """Give the coefficient of variation of one shard's share (A6)."""
    return sqrt((shards - 1) / (shards * vnodes + 1))


def collision(items: float, bits: int) -> float:
    """Give the chance that two of n random values of so many bits are equal (A6, A12)."""
    return -_expm1(-(items * items) / 2.0 ** (bits + 1))


def items_for_collision(chance: float, bits: int) -> float:
    """Give how many random values make two equal ones with this chance (A12)."""
    return sqrt(-log(1 - chance) * 2.0 ** (bits + 1))


def _expm1(x: float) -> float:
    return x + x * x / 2 if abs(x) < 1e-8 else exp(x) - 1


# --- availability ---------------------------------------------------------------------------


def quorum(nodes: int, up: float) -> float:
    """Give the chance that a majority of independent nodes is up (A7)."""
    least = nodes // 2 + 1
    return sum(comb(nodes, j) * up**j * (1 - up) ** (nodes - j) for j in range(least, nodes + 1))


def two_regions(up: float) -> float:
    """Give the chance that one of two independent regions is up (A8)."""
    return 1 - (1 - up) ** 2


def both_down(fail_per_s: float, repair_per_s: float, *, crews: int) -> float:
    """Give the share of time in which both of two regions are down, with one or two crews."""
    a, b = fail_per_s, repair_per_s
    return (a / (a + b)) ** 2 if crews > 1 else 2 * a * a / (b * b + 2 * a * b + 2 * a * a)


def budget_s(availability: float, over_s: float = YEAR_S) -> float:
    """Give the downtime that an availability leaves in a time (A8)."""
    return (1 - availability) * over_s


class Downtime(NamedTuple):
    """Mean and variance of a year's downtime."""

    mean_s: float
    variance_s2: float


def yearly_downtime(per_year: float, mean_s: float, second_moment_s2: float) -> Downtime:
    """Add up outages that come independently: compound Poisson, l E[R] and l E[R^2]."""
    return Downtime(per_year * mean_s, per_year * second_moment_s2)


def slowest_of(count: int, mean_s: float) -> float:
    """Give the mean of the slowest of n parallel exponential times: H_n x mean."""
    return mean_s * sum(1 / j for j in range(1, count + 1))


def in_sequence(phases: Sequence[tuple[float, float]]) -> tuple[float, float]:
    """Add mean and variance of independent phases."""
    return sum(mean for mean, _ in phases), sum(variance for _, variance in phases)


# --- queues ---------------------------------------------------------------------------------


class Outage(NamedTuple):
    """What an outage of the workers leaves behind, in fluid."""

    backlog: float
    drain_s: float
    longest_wait_s: float


def outage(length_s: float, rate_per_s: float, drain_per_s: float, backoff_s: float = 0) -> Outage:
    """Give backlog and drain of an outage; an item that came t into it waits D - t(1 - r) (A9)."""
    backlog = rate_per_s * length_s
    return Outage(backlog, catch_up_s(length_s, rate_per_s, drain_per_s), length_s + backoff_s)


def late_share(
    length_s: float, limit_s: float, window_s: float, load: float, backoff_s: float = 0
) -> float:
    """Give the share of a window's items that wait longer than a limit: fluid, FIFO (A9)."""
    over_s = max(0.0, length_s + backoff_s - limit_s)
    return over_s / ((1 - load) * window_s)


def outage_s_max(
    limit_s: float, late: float, window_s: float, load: float, backoff_s: float = 0
) -> float:
    """Give the longest outage that leaves at most this share late: X - B + q W (1 - r) (A9)."""
    return limit_s - backoff_s + late * window_s * (1 - load)


def erlang_c(workers: int, offered: float) -> float:
    """Give the chance that a task waits, with `offered` = rate x task time (A15)."""
    if offered >= workers:
        return 1.0
    blocked = 1.0
    for n in range(1, workers + 1):
        blocked = offered * blocked / (n + offered * blocked)
    load = offered / workers
    return blocked / (1 - load + load * blocked)


def wait_s_over(limit_s: float, workers: int, rate_per_s: float, task_s: float) -> float:
    """Give the chance that a task waits longer than a limit, M/M/c (A15)."""
    offered = rate_per_s * task_s
    if offered >= workers:
        return 1.0
    return erlang_c(workers, offered) * exp(-(workers - offered) * limit_s / task_s)


def workers_needed(rate_per_s: float, task_s: float, parallel: int, load_max: float = 0.7) -> int:
    """Give the workers that keep the load at most `load_max` (A15)."""
    return ceil(rate_per_s * task_s / (load_max * parallel) - 1e-9)


def sojourn_quantile_s(share: float, workers: int, rate_per_s: float, task_s: float) -> float:
    """Give a percentile of wait and service of M/M/c, by halves of its distribution."""
    offered = rate_per_s * task_s
    if offered >= workers:
        return float("inf")
    waits, rate, leave = erlang_c(workers, offered), 1 / task_s, (workers - offered) / task_s

    def over(at_s: float) -> float:
        if abs(leave - rate) < 1e-12 * rate:
            return exp(-rate * at_s) * (1 + waits * rate * at_s)
        both = (leave * exp(-rate * at_s) - rate * exp(-leave * at_s)) / (leave - rate)
        return (1 - waits) * exp(-rate * at_s) + waits * both

    return largest(lambda at_s: over(at_s) > 1 - share, 0.0, 1e6 * task_s)


# --- polls, batches, alerts -----------------------------------------------------------------


def poll(interval_s: float, fetch_s: float) -> Span:
    """Give how late a change is seen by polling: P/2 + f in the mean, P + f at worst (A10)."""
    return Span(fetch_s, interval_s + fetch_s)


class Batch(NamedTuple):
    """How full a batch gets, and how long its items wait, in fluid."""

    fill: float
    wait_p95_s: float


def batch(rate_per_s: float, interval_s: float, size: int) -> Batch:
    """Give fill and wait of a batcher with a timer and a size (A11)."""
    expected = rate_per_s * interval_s
    longest_s = interval_s if expected < size else size / rate_per_s
    return Batch(min(1.0, expected / size), 0.95 * longest_s)


def alert(held_s: float, scrape_s: float, evaluate_s: float) -> Span:
    """Give when an alert fires after its condition holds: F + U(0, s + e) (A21)."""
    return Span(held_s, held_s + scrape_s + evaluate_s)


def retry_span(base_s: float, retries: int, jitter_s: float) -> Span:
    """Give what the waits of retries that double add up to: base (2^n - 1) + n U(0, j) (A19)."""
    fixed_s = base_s * (2**retries - 1)
    return Span(fixed_s, fixed_s + retries * jitter_s)


def hold_s_max(attempts: int, timeout_s: float, waits: Span) -> float:
    """Give how long a call holds its caller at most (A19)."""
    return attempts * timeout_s + waits.to_s


# --- chance ---------------------------------------------------------------------------------


def none_of(count: int, share: float) -> float:
    """Give the chance that a ramp of this share reaches none of n units (A18)."""
    return float((1 - share) ** count)


def share_error(share: float, requests: int) -> float:
    """Give the half-width of 95 % around a share that was counted over n requests (A18)."""
    return Z_95 * sqrt(share * (1 - share) / requests)


def requests_to_see(share: float, within: float) -> int:
    """Give how many requests show a share within so much, at 95 %."""
    return ceil(Z_95**2 * share * (1 - share) / within**2)


def zero_bound(runs: int, alpha: float = 0.05) -> float:
    """Bound a rate of which nothing was seen in n runs: 1 - alpha^(1/n)."""
    return float(1 - alpha ** (1 / runs))


def divergence_s(share: float, resident: float, new_per_s: float) -> float:
    """Give how long a partition lasts until this share of all keys differs: qK / ((1-q) L) (A16)."""
    return share * resident / ((1 - share) * new_per_s)


def conflict_per_key(a_per_s: float, b_per_s: float, partition_s: float) -> float:
    """Give the chance that both sides of a partition take one key: (1-e^-aD)(1-e^-bD)."""
    return (1 - exp(-a_per_s * partition_s)) * (1 - exp(-b_per_s * partition_s))


def conflict_share(resubmitted: float, lag_s: float, gap_s: float) -> float:
    """Give the share of writes that two regions both take: those that come within the lag.

    A share of all writes is sent again in the other region, after exponential gaps.
    """
    return resubmitted * (1 - exp(-lag_s / gap_s))


def outlives_window(window_s: float, rate_per_s: float) -> float:
    """Give the share of duplicates that come after a dedup window, exponential gaps: e^(-q W)."""
    return exp(-rate_per_s * window_s)


# --- noise ----------------------------------------------------------------------------------


def laplace_scale(sensitivity: float, epsilon: float) -> float:
    """Give b of the Laplace mechanism; its sd is 1.414 b, its 95 % error 3.00 b (A20)."""
    return sensitivity / epsilon


def laplace_error(scale: float, share: float) -> float:
    """Give the error that this share of draws stays below: -b ln(1 - share) (A20)."""
    return -scale * log(1 - share)


def gaussian_scale(sensitivity: float, epsilon: float, delta: float) -> float:
    """Give the sd of the Gaussian mechanism, for epsilon < 1 (A20)."""
    if not 0 < epsilon < 1:
        raise ValueError(f"epsilon: expected between 0 and 1, got {epsilon}")
    return sensitivity * sqrt(2 * log(1.25 / delta)) / epsilon


def detection_sample(before: float, after: float, z_alpha: float, z_beta: float) -> int:
    """Give how many requests tell two error rates apart."""
    spread = z_alpha * sqrt(before * (1 - before)) + z_beta * sqrt(after * (1 - after))
    return ceil((spread / (after - before)) ** 2)


def normal_cdf(z: float) -> float:
    """Give the standard normal distribution."""
    return (1 + erf(z / sqrt(2))) / 2


def normal_quantile(share: float) -> float:
    """Give the point below which this share of a standard normal distribution lies."""
    return largest(lambda z: normal_cdf(z) < share, -40.0, 40.0)


def mean_abs_normal(sd: float) -> float:
    """Give the mean size of a normal error."""
    return sd * sqrt(2 / pi)


# --- search ---------------------------------------------------------------------------------


def largest(holds: Callable[[float], bool], low: float, high: float) -> float:
    """Give the largest value at which something still holds, that holds below it and not above.

    Where it holds nowhere that is `low`, and where it holds everywhere `high`.
    """
    if holds(high):
        return high
    if not holds(low):
        return low
    for _ in range(HALVINGS):
        middle = (low + high) / 2
        if middle in {low, high}:
            break
        if holds(middle):
            low = middle
        else:
            high = middle
    return low
