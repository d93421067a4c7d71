"""Keeps a cluster's objects, and makes ports and statuses follow them.

Level-triggered: after any change everything is planned anew from what is known, ports and
destinations are made to agree, and the statuses that differ are written. A write that loses
against somebody else's is planned again when the other's change is seen.
"""

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime
from functools import partial
from typing import Final, Protocol

from endpoints.discovery.kubernetes.pods import trimmed
from endpoints.kubernetes.cache import Cache, CacheSettings, without_managed_fields
from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.errors import ConflictError, KubernetesError, NotFoundError
from endpoints.kubernetes.listwatch import Phase
from endpoints.kubernetes.objects import Objects
from endpoints.kubernetes.resources import (
    ENDPOINT_SLICES,
    INFERENCE_POOLS,
    NAMESPACES,
    PODS,
    SECRETS,
    SERVICES,
    Key,
    Object,
    Resource,
)
from gateway.brains import Brains
from gateway.gatewayapi.backends import H2C, SERVICE_NAME, PickerPlan
from gateway.gatewayapi.members import members
from gateway.gatewayapi.plan import GatewayRules, Plan, StatusWrite
from gateway.gatewayapi.planner import plan
from gateway.gatewayapi.ports import ListeningPorts
from gateway.gatewayapi.snapshot import GATEWAY_GROUP, Snapshot, spec_of
from gateway.proxy.destinations import BrainDestination, Destination, PlainDestination
from gateway.proxy.picking import EndpointPicker
from gateway.routes.rules import Target, TargetKind
from routing.fleet import Endpoint

GATEWAY_CLASSES: Final = Resource(
    GATEWAY_GROUP, "v1", "gatewayclasses", "GatewayClass", namespaced=False
)
GATEWAYS: Final = Resource(GATEWAY_GROUP, "v1", "gateways", "Gateway")
HTTP_ROUTES: Final = Resource(GATEWAY_GROUP, "v1", "httproutes", "HTTPRoute")
REFERENCE_GRANTS: Final = Resource(GATEWAY_GROUP, "v1beta1", "referencegrants", "ReferenceGrant")

MANAGER: Final = "inferway-gateway"
_BETWEEN_PLANS: Final = 0.05  # seconds
_FIRST_PODS: Final = 2.0  # seconds to wait for the pods, once
_RETRY: Final = 2.0  # seconds until a status that could not be written is tried again
_STATUS_KINDS: Final = {
    one.kind: one for one in (GATEWAY_CLASSES, GATEWAYS, HTTP_ROUTES, INFERENCE_POOLS)
}
_log = logging.getLogger("inferway.gatewayapi")


class PoolKeeper(Protocol):
    """Whoever keeps the brains of pools."""

    async def keep(self, wanted: Mapping[Key, Callable[[], Sequence[Endpoint]]]) -> None:
        """Have a brain for exactly these pools; their endpoints are told if asked for."""

    def brains(self, pool: Key) -> Brains | None:
        """The pool's; None when there is none."""


class Pickers(Protocol):
    """Whoever talks to other people's endpoint pickers."""

    def picker(self, found: PickerPlan) -> EndpointPicker:
        """The picker of that Service; the same one as long as it is kept, wherever it moves."""

    def keep(self, wanted: Sequence[PickerPlan]) -> None:
        """Close those that are in use no more."""


class _Scoped:
    """One resource in one namespace, in several, or in all of them."""

    def __init__(self, caches: Sequence[Cache]) -> None:
        self.caches = tuple(caches)

    @property
    def objects(self) -> Mapping[Key, Object]:
        """All that is known."""
        if len(self.caches) == 1:
            return self.caches[0].objects
        return {key: item for cache in self.caches for key, item in cache.objects.items()}

    @property
    def listed(self) -> bool:
        """Whether the objects were ever known."""
        return all(cache.listed for cache in self.caches)

    @property
    def settled(self) -> bool:
        """Whether there is no more to be known soon: they are listed, or can't be."""
        refused = {Phase.FORBIDDEN, Phase.MISSING}
        return all(cache.listed or cache.condition.phase in refused for cache in self.caches)


class GatewayController:
    """The Gateways of our class in one cluster, from `start` to `stop`.

    ``namespaces``: look at these only; empty: at all.
    """

    def __init__(
        self,
        connection: Connection,
        rules: GatewayRules,
        ports: ListeningPorts,
        pools: PoolKeeper,
        pickers: Pickers,
        *,
        namespaces: Sequence[str] = (),
        cache_settings: CacheSettings | None = None,
    ) -> None:
        self._rules = rules
        self.ports = ports
        self._pools = pools
        self._pickers = pickers
        self._objects = Objects(connection, MANAGER)

        def cache(
            resource: Resource,
            *,
            field_selector: str | None = None,
            trim: Callable[[Object], Object] = without_managed_fields,
        ) -> _Scoped:
            scopes = (namespaces if resource.namespaced else ()) or (None,)
            return _Scoped(
                [
                    Cache(
                        connection,
                        resource,
                        namespace=scope,
                        field_selector=field_selector,
                        settings=cache_settings,
                        trim=trim,
                    )
                    for scope in scopes
                ]
            )

        self._classes = cache(GATEWAY_CLASSES)
        self._gateways = cache(GATEWAYS)
        self._routes = cache(HTTP_ROUTES)
        self._grants = cache(REFERENCE_GRANTS)
        self._pool_objects = cache(INFERENCE_POOLS)
        self._services = cache(SERVICES)
        self._slices = cache(ENDPOINT_SLICES)
        self._secrets = cache(SECRETS, field_selector="type=kubernetes.io/tls")
        self._namespaces = cache(NAMESPACES)
        self._pods = cache(PODS, trim=trimmed)
        self._changed = asyncio.Event()
        self._loop: asyncio.Task[None] | None = None
        self._pods_followed = False
        self._services_in_use: frozenset[Key] = frozenset()
        self._slice_owners: dict[Key, Key] = {}
        self._plain: dict[Target, tuple[object, PlainDestination]] = {}
        self.plans = 0
        """How often was planned."""

    @property
    def caches(self) -> tuple[Cache, ...]:
        """What is followed."""
        scoped = (
            *(self._classes, self._gateways, self._routes, self._grants, self._pool_objects),
            *(self._services, self._slices, self._secrets, self._namespaces),
        )
        followed = (*scoped, self._pods) if self._pods_followed else scoped
        return tuple(cache for one in followed for cache in one.caches)

    # --- life --------------------------------------------------------------------------------

    async def start(self, seconds: float = 10.0) -> None:
        """Follow the cluster; returns when it has answered, or after so many seconds."""
        for cache in self.caches:
            cache.subscribe(self._slices_changed if cache in self._slices.caches else self._note)
            await cache.start()
        await asyncio.gather(*(cache.wait_answered(seconds) for cache in self.caches))
        self._changed.set()
        self._loop = asyncio.get_running_loop().create_task(self._keep())

    async def stop(self) -> None:
        """Stop following; the ports stay as they are."""
        if self._loop is not None:
            self._loop.cancel()
            with suppress(asyncio.CancelledError):
                await self._loop
        for cache in self.caches:
            await cache.stop()

    def changed(self) -> None:
        """Something outside of the cluster's objects changed: look again."""
        self._changed.set()

    def _note(self, _changed: frozenset[Key]) -> None:
        self._changed.set()

    def _slices_changed(self, keys: frozenset[Key]) -> None:
        """Addresses changed: of a whole cluster, most are of Services that nobody routes to."""
        slices, concerned = self._slices.objects, not keys or not self.plans
        for key in keys:
            owners = {self._slice_owners.pop(key, None)}
            item = slices.get(key)
            if item is not None:
                name = (item["metadata"].get("labels") or {}).get(SERVICE_NAME) or ""
                owners.add((key[0], name))
                self._slice_owners[key] = (key[0], name)
            concerned = concerned or not owners.isdisjoint(self._services_in_use)
        if concerned:
            self._changed.set()

    async def _keep(self) -> None:
        while True:
            await self._changed.wait()
            self._changed.clear()
            try:
                await self._follow()
            except Exception:  # a defect must not end the following of what comes next
                _log.exception("the cluster's objects could not be followed")
            await asyncio.sleep(_BETWEEN_PLANS)

    # --- one round ---------------------------------------------------------------------------

    def snapshot(self) -> Snapshot:
        """The objects as they are known now."""
        return Snapshot(
            gateway_classes=self._classes.objects,
            gateways=self._gateways.objects,
            routes=self._routes.objects,
            grants=self._grants.objects,
            pools=self._pool_objects.objects,
            services=self._services.objects,
            slices=self._slices.objects,
            secrets=self._secrets.objects,
            namespaces=self._namespaces.objects,
        )

    async def _follow(self) -> None:
        needed = (self._gateways, self._classes, self._routes)
        others = (self._pool_objects, self._services, self._slices, self._secrets, self._grants)
        if not all(one.listed for one in needed) or not all(one.settled for one in others):
            return  # an unknown cluster is not an empty one
        found = self._plan()
        self._services_in_use = found.services_in_use
        before = dict(self.ports.bound)
        await self.ports.become(found.ports, await self._destinations(found))
        if self.ports.bound != before:
            found = self._plan()
        await self._write(found.statuses)

    def _plan(self) -> Plan:
        self.plans += 1
        now = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
        return plan(self.snapshot(), self._rules, self.ports.bound, now)

    async def _destinations(self, found: Plan) -> dict[Target, Destination]:
        where: dict[Target, Destination] = {}
        pools = dict(self._pool_objects.objects)  # as planned, whatever comes while we wait
        for target, service in found.services.items():
            endpoints = [Endpoint(one, f"{service.scheme}://{one}") for one in service.addresses]
            where[target] = self._kept(
                target, service, partial(PlainDestination, str(target), endpoints)
            )
        own: dict[Key, Callable[[], Sequence[Endpoint]]] = {}
        for target, picker in found.pools.items():
            key = (target.namespace, target.name)
            if picker is None:
                own[key] = partial(self._members, pools[key])
            else:
                await self.follow_pods()
                endpoints = self._members(pools[key])
                if spec_of(pools[key]).get("appProtocol") == H2C:
                    endpoints = [replace(one, url=f"h2c{one.url[4:]}") for one in endpoints]
                where[target] = self._kept(
                    target,
                    (picker, tuple(endpoints)),
                    partial(self._picked, target, endpoints, picker),
                )
        await self._pools.keep(own)
        for key in own:
            brains = self._pools.brains(key)
            if brains is not None:
                where[Target(TargetKind.POOL, *key)] = BrainDestination(brains)
        self._pickers.keep([picker for picker in found.pools.values() if picker is not None])
        self._plain = {target: kept for target, kept in self._plain.items() if target in where}
        return where

    def _members(self, pool: Object) -> list[Endpoint]:
        return members(pool, self._pods.objects)

    async def follow_pods(self) -> None:
        """Begin to look at pods, which only pools of other people's pickers need."""
        if not self._pods_followed:
            self._pods_followed = True
            for cache in self._pods.caches:
                cache.subscribe(self._note)
                await cache.start()
                await cache.wait_answered(_FIRST_PODS)

    def _picked(
        self, target: Target, endpoints: Sequence[Endpoint], picker: PickerPlan
    ) -> PlainDestination:
        return PlainDestination(
            str(target),
            endpoints,
            self._pickers.picker(picker),
            fail_open=picker.fail_open,
        )

    def _kept(
        self, target: Target, facts: object, make: Callable[[], PlainDestination]
    ) -> PlainDestination:
        """The same destination while nothing about it changes, so that turns go on."""
        known = self._plain.get(target)
        if known is None or known[0] != facts:
            known = self._plain[target] = (facts, make())
        return known[1]

    # --- statuses ----------------------------------------------------------------------------

    async def _write(self, statuses: Sequence[StatusWrite]) -> None:
        for write in statuses:
            try:
                await self._write_one(write)
            except (ConflictError, NotFoundError) as error:
                _log.debug("%s %s changed meanwhile: %s", write.kind, write.key, error)
            except KubernetesError as error:
                _log.warning(
                    "the status of %s %s can't be written: %s",
                    write.kind,
                    "/".join(write.key),
                    error,
                )
                asyncio.get_running_loop().call_later(_RETRY, self._changed.set)

    async def _write_one(self, write: StatusWrite) -> None:
        patch: Object = {"status": write.status}
        if write.version:
            patch["metadata"] = {"resourceVersion": write.version}
        await self._objects.merge_patch(
            _STATUS_KINDS[write.kind],
            write.key[1],
            patch,
            write.key[0] or None,
            subresource="status",
        )
