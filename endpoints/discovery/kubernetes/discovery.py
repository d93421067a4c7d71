"""Every pool that is ours in a cluster, its endpoints and its rules, told to a `Listener` as they
change. What objects mean, the modules beside this one say; here they are watched.

Pods are watched pool by pool, by the pool's own selector. What is not known yet is not told: no
pool's endpoints before its pods were listed once, so a start, or an API server that is away,
never empties a pool.
"""

import asyncio
import logging
from collections.abc import Callable, Iterator, Sequence
from typing import Protocol

from endpoints.discovery.kubernetes.members import NodePlaces, PoolMembers
from endpoints.discovery.kubernetes.pods import trimmed
from endpoints.discovery.kubernetes.pools import MalformedError, PoolSpec, pool_of
from endpoints.discovery.kubernetes.rules import NO_RULES, PoolRules, rules_of
from endpoints.discovery.kubernetes.settings import DiscoverySettings, ServiceSource
from endpoints.discovery.kubernetes.slices import SERVICE_LABEL, endpoints_of_slices
from endpoints.kubernetes.cache import Cache, without_managed_fields
from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.resources import (
    ENDPOINT_SLICES,
    INFERENCE_POOLS,
    NODES,
    PODS,
    Key,
    Object,
    Resource,
)
from routing.endpoint import Endpoint

_log = logging.getLogger(__name__)


class Listener(Protocol):
    """Whoever keeps the pools. Called on the event loop, in the order of what happened."""

    def pool_came(self, spec: PoolSpec) -> None:
        """A pool is there, or says something else than before."""

    def pool_left(self, spec: PoolSpec) -> None:
        """A pool is gone, or not ours any more."""

    def endpoints(self, pool: str, wanted: Sequence[Endpoint]) -> None:
        """A pool's endpoints (its full name) are these now."""

    def rules(self, pool: str, rules: PoolRules) -> None:
        """A pool's objectives and rewrites are these now."""


class KubernetesDiscovery:
    """From `start` to `stop`."""

    def __init__(
        self, connection: Connection, settings: DiscoverySettings, listener: Listener
    ) -> None:
        self._connection = connection
        self._settings = settings
        self._listener = listener
        self._places = NodePlaces(settings.labels.node)
        self._tracked: dict[str, _Tracked] = {}
        self._reconciled = not settings.inference_pools
        """Whether the pools that there are were looked at once."""
        self._complained: set[tuple[str, int]] = set()
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        scopes = settings.namespaces or (None,)
        self._pools: list[Cache] = []
        self._objectives: list[Cache] = []
        self._rewrites: list[Cache] = []
        self._nodes: Cache | None = None
        if settings.inference_pools:
            self._pools = [self._cache(INFERENCE_POOLS, one) for one in scopes]
            self._objectives = self._rule_caches("inferenceobjectives", "InferenceObjective")
            self._rewrites = self._rule_caches("inferencemodelrewrites", "InferenceModelRewrite")
            if settings.nodes:
                self._nodes = self._cache(
                    NODES, None, trim=_only_labels, required=False, metadata_only=True
                )

    # --- what is known -------------------------------------------------------------------------

    @property
    def pools(self) -> tuple[PoolSpec, ...]:
        """The pools that are served."""
        return tuple(tracked.spec for tracked in self._tracked.values())

    def caches(self) -> Iterator[Cache]:
        """What is watched, to look at how that goes."""
        yield from self._pools
        yield from self._objectives
        yield from self._rewrites
        if self._nodes is not None:
            yield self._nodes
        for tracked in self._tracked.values():
            yield tracked.cache

    @property
    def synced(self) -> bool:
        """Whether every pool's endpoints have been known once."""
        return self._reconciled and all(one.told is not None for one in self._tracked.values())

    async def wait_synced(self, seconds: float) -> bool:
        """Wait until `synced`; False when that takes longer."""
        loop = asyncio.get_running_loop()
        deadline = loop.time() + seconds
        while not self.synced:
            left = deadline - loop.time()
            if left <= 0:
                return False
            await asyncio.sleep(min(0.02, left))
        return True

    # --- life ------------------------------------------------------------------------------------

    async def start(self) -> None:
        """Begin to watch; returns at once."""
        watched: list[tuple[Cache, Callable[[frozenset[Key]], object]]] = [
            *((cache, self._pools_changed) for cache in self._pools),
            *((cache, self._rules_changed) for cache in (*self._objectives, *self._rewrites)),
        ]
        if self._nodes is not None:
            watched.append((self._nodes, self._nodes_changed))
        for cache, told in watched:
            cache.subscribe(told)
            await cache.start()
        for source in self._settings.services:
            await self._track(source.spec, source)
        self._task = asyncio.get_running_loop().create_task(self._keep_pools())

    async def stop(self) -> None:
        """End it; the listener hears nothing more."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await asyncio.gather(*(cache.stop() for cache in self.caches()))

    # --- pools -----------------------------------------------------------------------------------

    def _pools_changed(self, _keys: frozenset[Key]) -> None:
        self._wake.set()

    async def _keep_pools(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                await self._reconcile()
            except Exception:
                _log.exception("pools could not be brought up to date")

    async def _reconcile(self) -> None:
        """Track the pools that there are, and no others."""
        listed = all(cache.listed for cache in self._pools)
        wanted = self._wanted()
        for name, known in tuple(self._tracked.items()):
            spec = wanted.get(name)
            if known.service is not None:
                continue
            if spec is not None and _same_pods(spec, known.spec):
                if spec != known.spec:
                    known.spec = spec
                    self._listener.pool_came(spec)
            else:
                await known.cache.stop()
                del self._tracked[name]
                if spec is None:
                    _log.info("pool %s left", name, extra={"pool": name})
                    self._listener.pool_left(known.spec)
        for name, spec in wanted.items():
            tracked = self._tracked.get(name)
            if tracked is None:
                await self._track(spec)
            elif tracked.service is not None:
                self._complain(spec.uid, 0, name, "a Service that is served has its name")
        self._reconciled = self._reconciled or listed

    def _wanted(self) -> dict[str, PoolSpec]:
        """The pools that are ours. One whose cache was never listed keeps nothing out."""
        found: dict[str, PoolSpec] = {}
        for cache in self._pools:
            for item in cache.objects.values():
                spec = self._understood(item)
                if spec is not None and self._settings.wants(spec):
                    found[spec.full_name] = spec
        return found

    def _understood(self, item: Object) -> PoolSpec | None:
        """What the object says; for one that can't be, what it said before, with a complaint."""
        try:
            return pool_of(item)
        except MalformedError as error:
            metadata = item["metadata"]
            name = f"{metadata.get('namespace')}/{metadata['name']}"
            uid, generation = metadata.get("uid") or name, metadata.get("generation") or 0
            self._complain(uid, generation, name, str(error))
            tracked = self._tracked.get(name)
            return None if tracked is None else tracked.spec

    def _complain(self, uid: str, generation: int, name: str, why: str) -> None:
        """Say once what is wrong with a pool, and again when it is another object."""
        if (uid, generation) not in self._complained:
            self._complained.add((uid, generation))
            _log.error("pool %s can't be used: %s", name, why, extra={"pool": name})

    async def _track(self, spec: PoolSpec, service: ServiceSource | None = None) -> None:
        name = spec.full_name
        if service is not None:
            selector = f"{SERVICE_LABEL}={spec.name}"
            cache = self._cache(ENDPOINT_SLICES, spec.namespace, selector=selector)
        else:
            cache = self._cache(PODS, spec.namespace, selector=spec.label_selector, trim=trimmed)
        members = PoolMembers(spec, self._settings.labels, self._places)
        tracked = self._tracked[name] = _Tracked(spec, cache, members, service)
        _log.info(
            "pool %s: ports %s, pods %s",
            name,
            ", ".join(map(str, spec.ports)) or "of the Service",
            spec.label_selector or "of the Service",
            extra={"pool": name},
        )
        self._listener.pool_came(spec)
        self._tell_rules(tracked, always=True)
        cache.subscribe(lambda keys: self._members_changed(tracked, keys))
        await cache.start()

    # --- endpoints -------------------------------------------------------------------------------

    def _members_changed(self, tracked: "_Tracked", keys: frozenset[Key]) -> None:
        """Some pods, or slices, of a pool changed."""
        cache = tracked.cache
        if not cache.listed:
            return
        if tracked.service is not None:
            slices = [cache.objects[key] for key in sorted(cache.objects)]
            self._tell(tracked, endpoints_of_slices(slices, tracked.service.port))
            return
        changed = tracked.members.pods_changed(keys, cache.objects)
        if changed or tracked.told is None:
            self._tell(tracked, tracked.members.endpoints)

    def _nodes_changed(self, keys: frozenset[Key]) -> None:
        assert self._nodes is not None
        names = self._places.update(keys, self._nodes.objects)
        if not names:
            return
        for tracked in self._tracked.values():
            if tracked.members.nodes_changed(names, tracked.cache.objects):
                self._tell(tracked, tracked.members.endpoints)

    def _tell(self, tracked: "_Tracked", endpoints: tuple[Endpoint, ...]) -> None:
        if endpoints != tracked.told:
            tracked.told = endpoints
            self._listener.endpoints(tracked.spec.full_name, endpoints)

    # --- rules -----------------------------------------------------------------------------------

    def _rules_changed(self, _keys: frozenset[Key]) -> None:
        for tracked in self._tracked.values():
            self._tell_rules(tracked)

    def _tell_rules(self, tracked: "_Tracked", *, always: bool = False) -> None:
        spec = tracked.spec
        rules = NO_RULES
        if tracked.service is None:
            objectives = [item for cache in self._objectives for item in cache.objects.values()]
            rewrites = [item for cache in self._rewrites for item in cache.objects.values()]
            rules = rules_of(spec.namespace, spec.name, objectives, rewrites)
        if always or rules != tracked.rules:
            tracked.rules = rules
            self._listener.rules(spec.full_name, rules)

    # --- caches ----------------------------------------------------------------------------------

    def _rule_caches(self, plural: str, kind: str) -> list[Cache]:
        scopes = self._settings.namespaces or (None,)
        resources = self._settings.resources(plural, kind)
        return [
            self._cache(resource, scope, required=False)
            for resource in resources
            for scope in scopes
        ]

    def _cache(
        self,
        resource: Resource,
        namespace: str | None,
        *,
        selector: str | None = None,
        trim: Callable[[Object], Object] = without_managed_fields,
        required: bool = True,
        metadata_only: bool = False,
    ) -> Cache:
        return Cache(
            self._connection,
            resource,
            namespace=namespace,
            label_selector=selector,
            settings=self._settings.cache,
            required=required,
            metadata_only=metadata_only,
            trim=trim,
        )


class _Tracked:
    """One pool that is watched."""

    def __init__(
        self, spec: PoolSpec, cache: Cache, members: PoolMembers, service: ServiceSource | None
    ) -> None:
        self.spec = spec
        self.cache = cache
        self.members = members
        self.service = service
        self.told: tuple[Endpoint, ...] | None = None
        self.rules: PoolRules = NO_RULES


def _same_pods(one: PoolSpec, other: PoolSpec) -> bool:
    """Whether two specs of a pool want the same endpoints."""
    return (one.selector, one.ports, one.uid) == (other.selector, other.ports, other.uid)


def _only_labels(node: Object) -> Object:
    metadata = node["metadata"]
    return {
        "metadata": {
            key: metadata[key]
            for key in ("name", "labels", "uid", "resourceVersion")
            if key in metadata
        }
    }
