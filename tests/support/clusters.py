"""A Kubernetes API to test against: a real cluster's, or the stand-in's."""

import asyncio
import secrets
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any

import pytest

from bench.apiserver.server import ApiServer
from endpoints.kubernetes.cache import Cache, CacheSettings
from endpoints.kubernetes.connection import ClusterSettings, Connection, open_connection
from endpoints.kubernetes.errors import NotFoundError
from endpoints.kubernetes.listwatch import Pacing
from endpoints.kubernetes.objects import Objects
from endpoints.kubernetes.resources import NAMESPACES, PODS, Object, Resource

QUICK = CacheSettings(watch_seconds=30.0, pacing=Pacing(first=0.05, longest=0.2, refused=0.1))
"""A cache that does not keep a test waiting."""

_SERVICE_ACCOUNTS = Resource("", "v1", "serviceaccounts", "ServiceAccount")


@dataclass
class Cluster:
    """What a test is given: a connection, a fresh namespace, and the stand-in if it is one."""

    settings: ClusterSettings
    connection: Connection
    objects: Objects
    namespace: str
    stand_in: ApiServer | None

    @property
    def real(self) -> bool:
        return self.stand_in is None

    def stand_in_only(self, why: str) -> ApiServer:
        """The stand-in; skips the test on a real cluster, saying why."""
        if self.stand_in is None:
            pytest.skip(f"only against the stand-in: {why}")
        return self.stand_in

    def needs_control_plane(self, why: str) -> None:
        """Skips the test against the stand-in, saying why."""
        if self.stand_in is not None:
            pytest.skip(f"needs a real control plane (--kubeconfig): {why}")

    async def create(self, resource: Resource, item: Object) -> Object:
        return await self.objects.create(resource, item, self.namespace)

    async def pod(
        self,
        name: str,
        ip: str,
        *,
        ready: bool = True,
        labels: dict[str, str] | None = None,
        annotations: dict[str, str] | None = None,
        **spec: Any,
    ) -> Object:
        """A pod at that address (on a machine without kubelets: some 127.0.0.x)."""
        metadata = {"name": name, "labels": labels or {}, "annotations": annotations or {}}
        container = {"name": "server", "image": "example.com/server:1"}
        item = {"metadata": metadata, "spec": {"containers": [container], **spec}}
        await self.create(PODS, item)
        return await self.pod_status(name, ip=ip, ready=ready)

    async def pod_status(self, name: str, *, ip: str, ready: bool) -> Object:
        status: Object = {
            "phase": "Running",
            "podIP": ip,
            "podIPs": [{"ip": ip}],
            "conditions": [{"type": "Ready", "status": "True" if ready else "False"}],
        }
        return await self.objects.patch_status(PODS, name, status, self.namespace)

    @asynccontextmanager
    async def cache(self, resource: Resource, **options: Any) -> AsyncIterator[Cache]:
        """A cache of the test's namespace, synced."""
        options = {"namespace": self.namespace, "settings": QUICK, **options}
        cache = Cache(self.connection, resource, **options)
        await cache.start()
        try:
            assert await cache.wait_synced(10.0), cache.condition
            yield cache
        finally:
            await cache.stop()


@asynccontextmanager
async def stand_in_cluster() -> AsyncIterator[Cluster]:
    """The stand-in, with nothing in it but a namespace."""
    server = ApiServer(bookmark_seconds=0.2)
    await server.start()
    try:
        async with _cluster(ClusterSettings(url=server.url), server) as cluster:
            yield cluster
    finally:
        await server.stop()


@asynccontextmanager
async def real_cluster(kubeconfig: str) -> AsyncIterator[Cluster]:
    """The cluster of that file; the namespace is deleted at the end."""
    async with _cluster(ClusterSettings(kubeconfig=kubeconfig), None) as cluster:
        name = "default"
        await eventually(lambda: _exists(cluster, _SERVICE_ACCOUNTS, name))  # pods need it
        yield cluster


@asynccontextmanager
async def _cluster(settings: ClusterSettings, server: ApiServer | None) -> AsyncIterator[Cluster]:
    connection = await open_connection(settings)
    objects = Objects(connection, "inferway-tests")
    name = f"inferway-test-{secrets.token_hex(4)}"
    try:
        await objects.create(NAMESPACES, {"metadata": {"name": name}})
        try:
            yield Cluster(settings, connection, objects, name, server)
        finally:
            if server is None:
                await objects.delete(NAMESPACES, name, propagation="Background")
    finally:
        await connection.close()


async def _exists(cluster: Cluster, resource: Resource, name: str) -> bool:
    try:
        await cluster.objects.get(resource, name, cluster.namespace)
    except NotFoundError:
        return False
    return True


async def eventually(
    holds: Callable[[], bool | Awaitable[bool]], seconds: float = 10.0, what: str = ""
) -> None:
    """Wait until ``holds`` does; fails when that takes longer."""
    async with asyncio.timeout(seconds):
        while True:
            said = holds()
            if said if isinstance(said, bool) else await said:
                return
            await asyncio.sleep(0.02)
    raise AssertionError(what)
