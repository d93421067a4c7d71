"""What the controller follows in the cluster: capacities, what it wrote for them, and devices."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from endpoints.allocation.controller.feed import DriverPods, Feed
from endpoints.allocation.controller.pool import ManagedPool
from endpoints.allocation.controller.resources import CAPACITIES, Kinds
from endpoints.allocation.emission.identity import (
    CAPACITY_LABEL,
    MANAGED_BY_LABEL,
    MANAGER,
    Object,
)
from endpoints.allocation.inventory import Inventory
from endpoints.kubernetes.cache import Cache, CacheSettings
from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.resources import Resource


class View:
    """Caches of all of it. ``changed`` is called after each change."""

    def __init__(
        self,
        connection: Connection,
        kinds: Kinds,
        inventory: Inventory,
        changed: Callable[[], None],
        *,
        drivers: Mapping[str, DriverPods],
        namespace: str | None,
        caches: CacheSettings | None,
    ) -> None:
        def make_cache(connection: Connection, resource: Resource, **options: Any) -> Cache:  # noqa: ANN401
            return Cache(connection, resource, settings=caches, **options)

        self._changed = changed
        self.feed = Feed(connection, kinds, inventory, drivers, changed, make_cache)
        self.capacities = make_cache(connection, CAPACITIES, namespace=namespace)
        self._owned = {
            key: make_cache(
                connection,
                resource,
                namespace=namespace,
                label_selector=f"{MANAGED_BY_LABEL}={MANAGER}",
            )
            for key, resource in kinds.owned.items()
        }

    async def start(self) -> None:
        """Begin to follow; returns at once."""
        await self.feed.start()
        for cache in (self.capacities, *self._owned.values()):
            cache.subscribe(lambda _: self._changed())
            await cache.start()

    async def stop(self) -> None:
        """Follow no more."""
        await self.feed.stop()
        for cache in (self.capacities, *self._owned.values()):
            await cache.stop()

    async def wait_answered(self, seconds: float) -> None:
        """Until the API server said something of everything, at most so long for each."""
        for cache in self._caches:
            await cache.wait_answered(seconds)

    @property
    def complete(self) -> bool:
        """Whether what may be planned on, and what is ours, was listed: else devices look free."""
        return all(cache.listed for cache in self._caches)

    @property
    def _caches(self) -> tuple[Cache, ...]:
        return (*self.feed.caches, self.capacities, *self._owned.values())

    def pods_of(self, pool: ManagedPool) -> list[Object]:
        """Its pods, whoever made them."""
        return [
            pod
            for (namespace, _), pod in self._owned["", "Pod"].objects.items()
            if namespace == pool.namespace
            and pod["metadata"]["labels"].get(CAPACITY_LABEL) == pool.name
        ]

    def existing(self, pool: ManagedPool) -> list[Object]:
        """Its own objects; pods that another controller made from one of them are not."""
        return [item for uid, item in self._written() if uid == pool.uid]

    def orphans(self, pools: Iterable[str]) -> list[Object]:
        """Objects of ours whose capacity (by uid) is not there, and that are not going already."""
        known = frozenset(pools)
        return [
            item
            for uid, item in self._written()
            if uid not in known and "deletionTimestamp" not in item["metadata"]
        ]

    def _written(self) -> Iterator[tuple[str, Object]]:
        """Each object that a capacity owns, with that capacity's uid."""
        for cache in self._owned.values():
            kind = {"apiVersion": cache.resource.api_version, "kind": cache.resource.kind}
            for item in cache.objects.values():
                for one in item["metadata"].get("ownerReferences") or ():
                    if one.get("kind") == CAPACITIES.kind:
                        yield one["uid"], {**kind, **item}
