"""Pools as a cluster has them: made, fed and ended as its objects come, change and go."""

import asyncio
import logging
from collections.abc import Callable, Coroutine, Iterator, Sequence
from ssl import SSLContext

from endpoints.discovery.kubernetes.discovery import KubernetesDiscovery
from endpoints.discovery.kubernetes.pools import H2C, PoolSpec
from endpoints.discovery.kubernetes.rules import PoolRules
from endpoints.kubernetes.connection import Connection, open_connection
from gateway.brains import Brains
from gateway.pool import Pool
from gateway.settings import KubernetesSettings
from routing.endpoint import Endpoint

_log = logging.getLogger("inferway")
_LOOK_SECONDS = 0.25
_LOOKS = 260  # at a pool that left: for a little longer than its endpoints have to drain


class ClusterPools:
    """Keeps `Brains` in step with a cluster, from `start` to `stop`.

    ``new_pool`` makes one that is routed to by its name, ``drop_pool`` ends the routing;
    ``spawn`` runs work beside; ``changed`` is told when `specs` are others.
    """

    def __init__(
        self,
        settings: KubernetesSettings,
        brains: Brains,
        *,
        new_pool: Callable[[str], Pool],
        drop_pool: Callable[[str], None],
        spawn: Callable[[Coroutine[object, object, None]], None],
        changed: Callable[[], None],
        tls: SSLContext | None,
    ) -> None:
        self.settings = settings
        self._brains = brains
        self._new_pool = new_pool
        self._drop_pool = drop_pool
        self._spawn = spawn
        self._changed = changed
        self._tls = tls
        self._members: dict[str, _Member] = {}
        self.specs: dict[str, PoolSpec] = {}
        """The pools that are served, by full name."""
        self.connection: Connection | None = None
        self.discovery: KubernetesDiscovery | None = None

    async def start(self) -> None:
        """Begin; raises `endpoints.kubernetes.connection.NotConfiguredError`."""
        self.connection = await open_connection(self.settings.cluster())
        self.discovery = KubernetesDiscovery(self.connection, self.settings.discovery(), self)
        await self.discovery.start()

    async def stop(self) -> None:
        """Stop watching; the pools stay as they are until they are stopped, which comes next."""
        if self.discovery is not None:
            await self.discovery.stop()
        if self.connection is not None:
            await self.connection.close()
        await asyncio.gather(*(member.pool.stop() for member in self._members.values()))

    async def wait_synced(self, seconds: float) -> bool:
        """Wait until every pool's endpoints are known, and were looked at once."""
        assert self.discovery is not None
        if not await self.discovery.wait_synced(seconds):
            return False
        for member in tuple(self._members.values()):
            await member.started.wait()
            await member.pool.wait_first_round(seconds)
        return True

    # --- what discovery tells ------------------------------------------------------------------

    def pool_came(self, spec: PoolSpec) -> None:
        """Serve it, or go on serving it."""
        name = spec.full_name
        known = self.specs.get(name)
        self.specs[name] = spec
        if spec.app_protocol == H2C and (known is None or known.app_protocol != H2C):
            _log.warning(
                "pool %s speaks HTTP/2 without TLS; our own proxy and probes speak HTTP/1.1 to it",
                name,
                extra={"pool": name},
            )
        if name not in self._members:
            member = self._members[name] = _Member(self._new_pool(name))
            self._spawn(self._run(member))
        self._changed()

    def pool_left(self, spec: PoolSpec) -> None:
        """Give it no new requests; those in flight may end."""
        name = spec.full_name
        self.specs.pop(name, None)
        member = self._members.pop(name, None)
        if member is not None:
            self._drop_pool(name)
            member.left.set()
            member.want(())
        self._changed()

    def pickers(self) -> Iterator[tuple[str, str, str]]:
        """For each pool that names a Service as its picker: its full name, and the Service's."""
        for name, spec in self.specs.items():
            if spec.picker is not None and spec.picker.kind == "Service":
                yield name, spec.namespace, spec.picker.name

    def endpoints(self, pool: str, wanted: Sequence[Endpoint]) -> None:
        """These are its endpoints now."""
        member = self._members.get(pool)
        if member is not None:
            member.want(wanted)

    def rules(self, pool: str, rules: PoolRules) -> None:
        """These are its objectives and rewrites now."""
        self._brains.set_rules(pool, rules)

    async def _run(self, member: "_Member") -> None:
        pool = member.pool
        try:
            await pool.start(self._tls)
            member.start()
            sweeping = asyncio.ensure_future(pool.keep_sweeping())
            try:
                await member.left.wait()
                for _ in range(_LOOKS):
                    if not len(pool.router.fleet):
                        break
                    await asyncio.sleep(_LOOK_SECONDS)
            finally:
                sweeping.cancel()
                await asyncio.gather(sweeping, return_exceptions=True)
        finally:
            await pool.stop()


class _Member:
    """A pool and what is wanted of it, which may be known before it can be applied."""

    def __init__(self, pool: Pool) -> None:
        self.pool = pool
        self.started = asyncio.Event()
        self.left = asyncio.Event()
        self._wanted: tuple[Endpoint, ...] | None = None

    def want(self, wanted: Sequence[Endpoint]) -> None:
        self._wanted = tuple(wanted)
        if self.started.is_set():
            self.pool.apply(self._wanted)

    def start(self) -> None:
        if self._wanted is not None:
            self.pool.apply(self._wanted)
        self.started.set()
