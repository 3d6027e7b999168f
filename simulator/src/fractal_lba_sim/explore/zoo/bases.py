"""Small scenarios that fault schedules are drawn on, each with promises that must hold.

The invariant of this file: with the faults that a base allows, none of its promises may fail;
what it promises beside the rules that are always judged is what its topology is for.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from fractal_lba_server.drill.scenario import laid_over

from ..schedule import Schedule

Document = dict[str, Any]

PAIR: Final[Document] = {
    "version": 1,
    "name": "pair",
    "title": "Two regions that both take writes",
    "topology": {
        "regions": [{"code": "euw"}, {"code": "use"}],
        "placements": {
            "open": {"regions": ["euw", "use"], "topology": "active-active", "copies": 2}
        },
        "links": [{"from": "euw", "to": "use", "delay_ms": 20}],
    },
    "settings": {"shipping": {"segment_bytes": 4_000}},
    "load": {
        "duration_s": 6, "rate_per_s": 15, "settle_s": 60, "arrivals": "poisson",
        "repeat_share": 0.2, "rival_share": 0.2, "read_share": 0.1, "patience_ms": 2_000,
        "attempt_timeout_ms": 1_000, "outbox_until": "replicated",
    },
    "promises": {
        "steady_s": 1,
        "digests_equal": True,
        "linearizable": "writes",
        "no_loss_at_level": "replicated",
        "no_loss_end_to_end": True,
    },
}  # fmt: skip
"""Two regions take writes, also rival ones; what is on two disks is kept."""

ALONE: Final[Document] = {
    "version": 1,
    "name": "alone",
    "title": "One region",
    "topology": {"regions": [{"code": "euw"}]},
    "load": {
        "duration_s": 4, "rate_per_s": 15, "settle_s": 30, "arrivals": "poisson",
        "repeat_share": 0.3, "read_share": 0.1, "rival_share": 0.1, "patience_ms": 2_000,
        "attempt_timeout_ms": 1_000,
        "clients": [
            {"name": "one", "endpoints": ["euw"]}, {"name": "two", "endpoints": ["euw"]},
        ],
    },
    "promises": {
        "steady_s": 1,
        "linearizable": "strict",
        "no_loss_at_level": "durable",
        "no_loss_end_to_end": True,
    },
}  # fmt: skip
"""One region: what is acknowledged is durable, and an id is new once."""

TENANTS: Final[Document] = {
    **ALONE,
    "name": "tenants",
    "title": "One region, two tenants who use the same ids",
    "load": {
        **ALONE["load"], "rival_share": 0.5,
        "clients": [
            {"name": "one", "endpoints": ["euw"], "tenant": "acme"},
            {"name": "two", "endpoints": ["euw"], "tenant": "beta"},
        ],
        "tenants": [{"id": "acme"}, {"id": "beta"}],
    },
}  # fmt: skip
"""Two tenants send different records under one id; each has its own."""

STANDBY: Final[Document] = {
    "version": 1,
    "name": "standby",
    "title": "One region writes, another stands by, an arbiter decides",
    "topology": {
        "regions": [{"code": "euw"}, {"code": "use"}],
        "placements": {
            "open": {
                "regions": ["euw", "use"], "topology": "warm-standby", "copies": 2,
                "primary": "euw",
            }
        },
        "links": [{"from": "euw", "to": "use", "delay_ms": 20}],
        "arbiter": True,
    },
    "settings": {
        "probe": {"interval_s": 0.25, "timeout_s": 0.2, "failures": 3, "successes": 1,
                  "checkers": 3, "quorum": 2},
        "lease": {"duration_s": 2, "renew_s": 0.4, "drift_s": 0.1},
    },
    "load": {
        "duration_s": 12, "rate_per_s": 8, "settle_s": 60, "arrivals": "poisson",
        "repeat_share": 0.1, "patience_ms": 3_000, "attempt_timeout_ms": 1_000,
        "outbox_until": "replicated",
        "clients": [{"name": "near-euw", "endpoints": ["euw", "use"]},
                    {"name": "near-use", "endpoints": ["use", "euw"]}],
    },
    "promises": {
        "steady_s": 1,
        "single_writer": True,
        "digests_equal": True,
        "linearizable": "except_displaced",
        "no_loss_at_level": "replicated",
        "no_loss_end_to_end": True,
        "displaced_max": 0,
        "evidence": {"acked": 1},
    },
}  # fmt: skip
"""One writer at a time. What a lost writer alone had acknowledged may be new once more, so an id of
which two writes stand is left out."""


TIERS: Final[Document] = {
    "version": 1,
    "name": "tiers",
    "title": "One region whose payloads move to a cold store after a second",
    "topology": {"regions": [{"code": "euw"}]},
    "settings": {
        "tiers": {
            "default": {
                "class": "warm", "warm_ttl": 1, "cold_reads_per_s": 1000, "cold_reads_burst": 1000,
            },
        },
    },
    "load": {
        "duration_s": 8, "rate_per_s": 15, "settle_s": 30, "arrivals": "poisson",
        "repeat_share": 0.4, "patience_ms": 1_000, "attempt_timeout_ms": 1_000, "warmup_s": 1,
    },
    "promises": {
        "steady_s": 1,
        "linearizable": "strict",
        "no_loss_at_level": "durable",
    },
    "engines": {"live": {"shim": ["quick-mover"]}},
}  # fmt: skip
"""What is cold is slower to answer for, and never new."""

MOVING: Final[Document] = {
    "version": 1,
    "name": "moving",
    "title": "The ids of one region move between dedup shards while writes go on",
    "topology": {"regions": [{"code": "euw"}], "shards": {"count": 2, "store": "memory"}},
    "load": {
        "duration_s": 8, "rate_per_s": 20, "settle_s": 60, "arrivals": "poisson",
        "repeat_share": 0.2,
    },
    "promises": {
        "linearizable": "strict",
        "canary": True,
        "digests_equal": True,
        "no_loss_end_to_end": True,
        "no_loss_at_level": "durable",
        "evidence": {"canaries": 1},
    },
}  # fmt: skip
"""Dedup shards that are asked for every id, and a log that says what they must hold."""


def _varied(name: str, title: str, **parts: Any) -> Document:
    """Lay parts over the standby."""
    made: Document = laid_over(STANDBY, {"name": name, "title": title, **parts})
    return made


def _moving(name: str, *moves: tuple[float, int], **load: float) -> Document:
    """Have the ids move at these moments, each time to so many dedup shards."""
    steps = [{"at_s": at_s, "do": "migrate", "to_shards": count} for at_s, count in moves]
    return {**MOVING, "name": name, "steps": steps, "load": {**MOVING["load"], **load}}


TRIO: Final = ["euw", "use", "aps"]
THREE: Final = {
    "regions": [{"code": code} for code in TRIO],
    "placements": {"open": {"regions": TRIO}},
    "links": [
        {"from": "euw", "to": "use", "delay_ms": 20},
        {"from": "euw", "to": "aps", "delay_ms": 60},
        {"from": "use", "to": "aps", "delay_ms": 80},
    ],
}
FAR: Final = [
    {"from": "euw", "to": "use", "delay_ms": 20},
    {"from": "euw", "to": "aps", "delay_ms": 1_500},
    {"from": "use", "to": "aps", "delay_ms": 1_500},
]
APART: Final = [
    {"name": "near-euw", "endpoints": ["euw"]},
    {"name": "near-use", "endpoints": ["use"]},
]
"""Clients that do not leave a region as long as it answers show who else answers."""

ONE_CLIENT: Final = {
    "repeat_share": 0.4,
    "clients": [{"name": "near-euw", "endpoints": TRIO}],
}


BASES: Final[Mapping[str, Document]] = {
    "pair": PAIR,
    "pair-keys": laid_over(PAIR, {"name": "pair-keys", "promises": {"no_loss_end_to_end": None}}),
    "pair-loss": laid_over(
        PAIR,
        {
            "name": "pair-loss",
            "load": {"settle_s": 5},
            "promises": {"digests_equal": None, "no_loss_end_to_end": None},
        },
    ),
    "pair-durable": laid_over(
        PAIR, {"name": "pair-durable", "promises": {"no_loss_at_level": "durable"}}
    ),
    "alone": ALONE,
    "tiers": TIERS,
    "tiers-served": laid_over(
        TIERS, {"name": "tiers-served", "promises": {"success_share_min": 0.7}}
    ),
    "standby": STANDBY,
    "trio": _varied("trio", "One of three regions writes", topology=THREE, load=ONE_CLIENT),
    "trio-behind": _varied(
        "trio-behind",
        "One of three regions writes, and one is far behind",
        topology={**THREE, "links": FAR},
        load=ONE_CLIENT,
        promises={"linearizable": "strict"},  # two copies of three, and who takes over knows one
    ),
    "long-lease": _varied(
        "long-lease",
        "One region writes, with a lease of six seconds",
        settings={"lease": {"duration_s": 6, "renew_s": 1, "drift_s": 0.2}},
    ),
    "standby-apart": _varied(
        "standby-apart",
        "One region writes, another stands by, and each client reaches one of them",
        load={"clients": APART},
        promises={"no_loss_end_to_end": None},  # a client has no way to the region that writes
    ),
    "by-hand": _varied(
        "by-hand", "One region writes, people promote another", topology={"arbiter": False}
    ),
    "trio-by-hand": _varied(
        "trio-by-hand",
        "One of three regions writes, people promote another",
        topology={**THREE, "arbiter": False},
        load=ONE_CLIENT,
    ),
    "trio-split": _varied(
        "trio-split",
        "One of three regions writes, people promote others, and clients are near both of these",
        topology={**THREE, "arbiter": False},
        load={
            "clients": [
                {"name": "near-use", "endpoints": ["use", "aps", "euw"]},
                {"name": "near-aps", "endpoints": ["aps", "use", "euw"]},
            ],
        },
    ),
    "blips": _varied(
        "blips",
        "Probes are lost now and then, and nothing else is the matter",
        load={"arrivals": "even", "repeat_share": 0, "warmup_s": 1},
        promises={"success_share_min": 0.95},
    ),
    "tenants": TENANTS,
    "moving": MOVING,
    "moving-on": _moving("moving-on", (0.5, 4), rate_per_s=30, repeat_share=0.4),
    "moving-back": _moving("moving-back", (0.5, 4), (3.5, 2), rate_per_s=40, repeat_share=0.5),
    "moving-busy": _moving("moving-busy", (0.5, 4), duration_s=4, rate_per_s=40, repeat_share=0.5),
    "moving-ttl": {
        **MOVING,
        "name": "moving-ttl",
        "settings": {"server": {"dedup_ttl_s": 3_600}},
    },
}


def base(name: str) -> Schedule:
    """Give a base by its name. Raises KeyError, or ScenarioError if it is no scenario."""
    return Schedule.of(BASES[name]).expect_valid()
