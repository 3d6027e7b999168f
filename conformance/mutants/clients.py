"""Family Q, second half: other ways to choose an endpoint, to wait and to answer (retry 27-43)."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import replace
from typing import Any

from fractal_lba import client, endpoints, many
from fractal_lba.base import Item
from fractal_lba.call import Sleep
from fractal_lba.endpoints import Endpoint, EndpointState, Fleet
from fractal_lba.errors import ConfigError
from fractal_lba.retry import Result

from .patching import Patch, mutation


def refuses(id: str, also: Callable[[Result], bool]) -> None:
    """Register a mutant that leaves an endpoint after other results."""

    @mutation(id)
    def change(patch: Patch) -> None:
        right = endpoints._refused
        patch.swap(right, lambda result: right(result) or also(result))


refuses("Q05", lambda result: result.status == 429)
refuses("Q06", endpoints._ambiguous)


@mutation("Q07")
def any_region(patch: Patch) -> None:
    """Begin in the listed regions, and go on in others."""
    right = Fleet.of.__func__  # type: ignore[attr-defined]  # a class method has one

    def of(cls: type[Fleet], *args: Any, **more: Any) -> Fleet:
        fleet: Fleet = right(cls, *args, **more)
        others = [i for i in range(len(fleet.endpoints)) if i not in fleet.eligible]
        return replace(fleet, eligible=(*fleet.eligible, *others))

    patch.set(Fleet, "of", classmethod(of))


@mutation("Q08")
def any_host(patch: Patch) -> None:
    """Follow a hint to a host that the caller did not name."""
    right = Fleet.hinted

    def hinted(self: Fleet, url: str, region_epoch: int, **facts: Any) -> Fleet | None:
        fleet = self
        if self._index_of(url) is None:
            try:
                found = Endpoint(url)
            except ConfigError:
                return None
            fleet = replace(
                self,
                endpoints=(*self.endpoints, found),
                states=(*self.states, EndpointState()),
                eligible=(*self.eligible, len(self.endpoints)),
            )
        return right(fleet, url, region_epoch, **facts)

    patch.set(Fleet, "hinted", hinted)


@mutation("Q09")
def deaf_waits(patch: Patch) -> None:
    right = client.Client._perform

    def perform(self: Any, effect: Any, run: Any) -> Any:
        if isinstance(effect, Sleep):
            self._clock.wait(effect.wait_ms, None)
            return None
        return right(self, effect, run)

    patch.set(client.Client, "_perform", perform)


@mutation("Q10")
def as_they_come(patch: Patch) -> None:
    def unordered(
        records: Iterable[Any],
        work: Callable[[int, Any], Item],
        width: int,
        stop: Callable[[], object],
    ) -> Iterator[Item]:
        with ThreadPoolExecutor(width) as pool:
            pending = [pool.submit(work, index, record) for index, record in enumerate(records)]
            for done in as_completed(pending):
                yield done.result()
        stop()

    patch.swap(many.in_order, unordered)


@mutation("Q11")
def first_error_raises(patch: Patch) -> None:
    right = client.Client.submit_many

    def submit_many(self: Any, *args: Any, **more: Any) -> Iterator[Item]:
        for item in right(self, *args, **more):
            if item.error is not None:
                raise item.error
            yield item

    patch.set(client.Client, "submit_many", submit_many)
