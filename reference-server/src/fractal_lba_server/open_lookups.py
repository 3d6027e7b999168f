"""Opens what stands behind the look-ups of a server: the index alone, tiers, or dedup shards.

The parts that need further packages are imported where they are configured.
"""

# ruff: noqa: PLC0415 - tiers and shards are extras, imported where they are configured

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable, Mapping
from typing import Final

from fractal_lba.errors import ConfigError

from .config import Config
from .core.policy import PolicyBook
from .core.regions import Registry
from .ingest import Driver
from .store.data_dir import DataDir
from .store.index_cold import has_cold
from .store.sqlite import Index

log = logging.getLogger("fractal_lba_server.dedup")

REFILL_S: Final = 1.0
"""How often it is looked for a dedup shard that has forgotten."""


class Behind:
    """What has to be closed again, and what it counts; of the index alone there is nothing."""

    def gauges(self) -> Mapping[str, Callable[[], float]]:
        """Give what a scrape reads."""
        return {}

    async def close(self) -> None:
        """Let go."""


async def open_lookups(
    config: Config,
    *,
    data: DataDir,
    index: Index,
    driver: Driver,
    registry: Registry,
    policies: PolicyBook,
) -> Behind:
    """Put the configured look-ups in place; raises ConfigError."""
    if config.tiers.policy_file is None and has_cold(data.index):
        text = f"{data.index} has let outcomes go to objects: tiers.policy_file must name them"
        raise ConfigError("config_invalid", text)
    if config.dedup.control is not None:
        return await _open_shards(config.dedup.control, config, data, index, driver, registry)
    if config.tiers.policy_file is not None:
        return await _open_tiers(config, data, index, driver, policies)
    return Behind()


async def _open_tiers(
    config: Config, data: DataDir, index: Index, driver: Driver, policies: PolicyBook
) -> Behind:
    try:
        from .lookups import TierLookups
        from .tier_policy import load_tier_policy
        from .tier_service import TierService
    except ImportError as error:
        raise _needs("tiers", error) from None
    tiers = config.tiers
    assert tiers.policy_file is not None
    book = load_tier_policy(
        tiers.policy_file, policies=policies, has_cold=tiers.cold is not None,
        environment=os.environ,
    )  # fmt: skip
    service = await TierService.open(
        index=index, data=data.path, book=book, hot=tiers.hot, cold=tiers.cold,
        namespace=f"flk:{data.region}:{config.node}",
    )  # fmt: skip
    driver.lookups = TierLookups(index, driver.feed, service)
    driver.forget = service.forget

    class Opened(Behind):
        def gauges(self) -> Mapping[str, Callable[[], float]]:
            return service.gauges()

        async def close(self) -> None:
            await service.stop()

    return Opened()


async def _open_shards(
    url: str, config: Config, data: DataDir, index: Index, driver: Driver, registry: Registry
) -> Behind:
    try:
        from .core.dedup import ShardUnavailable, StaleRingEpoch
        from .lookups import ShardLookups, all_entries, own_entries
        from .store.control import ControlError
        from .store.control_engines import open_control
        from .store.shards.opening import open_shard
        from .store.shards.router import ShardedDedup
    except ImportError as error:
        raise _needs("postgres", error) from None
    control = open_control(url)
    held = await control.read()
    if held is None:
        raise ConfigError(
            "config_invalid", "dedup.control holds no ring document: `dedup init` writes it"
        )
    node = f"{data.region}/{config.node}" if config.node else data.region
    shards = ShardedDedup(
        held,
        control=control,
        open_shard=lambda info: open_shard(info.name, info.url, lasting=True),
        node=node,
    )
    await shards.start()
    rank = registry.rank
    lookups = ShardLookups(index, shards, driver.feed, region=data.region, rank=rank)
    driver.lookups = lookups

    async def refill() -> None:
        """Fill dedup shards that have forgotten, from the logs of this process."""
        while True:
            await asyncio.sleep(REFILL_S)
            for found in shards.health():
                if found.forgot:
                    # What is not in the index yet is read before it, so that nothing is missed.
                    waiting = driver.core.unapplied()
                    entries = await asyncio.to_thread(all_entries, data, waiting, rank, node)
                    try:
                        await shards.refill(found.dedup_shard, entries, nodes=config.dedup.nodes)
                    except (ShardUnavailable, StaleRingEpoch, ControlError) as error:
                        log.warning("%s cannot be filled yet: %s", found.dedup_shard, error)

    async def settle() -> None:
        """Complete or release what this process had claimed in its life before."""
        await shards.settle_own(lambda keys: own_entries(index, keys, rank, node))

    following = [asyncio.create_task(run()) for run in (settle, refill)]

    class Opened(Behind):
        def gauges(self) -> Mapping[str, Callable[[], float]]:
            return {
                "dedup_shards": lambda: len(shards.health()),
                "dedup_shards_healthy": lambda: sum(one.healthy for one in shards.health()),
                "dedup_ring_epoch": lambda: shards.document.ring_epoch,
                "dedup_waiting": lambda: sum(lag.entries for lag in shards.lags()),
            }

        async def close(self) -> None:
            for task in following:
                task.cancel()
            await lookups.close()
            await control.close()

    return Opened()


def _needs(extra: str, error: ImportError) -> ConfigError:
    text = f"{error.name} is not installed: pip install 'fractal-lba-server[{extra}]'"
    return ConfigError("config_invalid", text)
