"""Whose endpoints a request through Envoy may go to, where one processor picks for several pools.

The protocol names no pool, as the reference picker has only one. What tells it here, in order:

1. gRPC metadata ``x-inferway-pool`` (``namespace/name``), which Envoy can be configured to send
   for each route (``grpc_initial_metadata``);
2. the call's ``:authority``, when it is the Service that exactly one pool names as its picker: so
   the Services of several pools may lead to one processor. Envoy's own default, the name of its
   cluster, counts as well where it ends with the Service's name (``outbound|9002||name.ns.svc``);
3. the addresses of a subset hint;
4. the request's model, as for clients of the proxy.
"""

from collections.abc import Iterable, Mapping
from typing import Final

from gateway.apis.call import ApiError
from gateway.brains import Brains
from gateway.extproc.addresses import AddressBook
from routing.router import Router

POOL_FIELD: Final = b"x-inferway-pool"


class PickedPool:
    """One pool: its brain and its endpoints' addresses."""

    __slots__ = ("book", "name", "router")

    def __init__(self, name: str, router: Router) -> None:
        self.name = name
        self.router = router
        self.book = AddressBook(router.fleet)


class PickerPools:
    """The pools of ``brains``; tell it by `changed` when a pool or a fleet is another."""

    def __init__(self, brains: Brains) -> None:
        self.brains = brains
        self._pools: dict[Router, PickedPool] = {}
        self._by_authority: dict[str, str] = {}
        self.changed()

    def changed(self) -> None:
        """Pools came or went, or their endpoints did."""
        before, self._pools = self._pools, {}
        for name, router in self.brains:
            pool = before.get(router)
            if pool is None or pool.name != name:
                pool = PickedPool(name, router)
            else:
                pool.book.changed()
            self._pools[router] = pool

    def called(self, pickers: Iterable[tuple[str, str, str]]) -> None:
        """Which Service is each pool's picker: pool, the Service's namespace and name."""
        found: dict[str, str] = {}
        several: set[str] = set()
        for pool, namespace, name in pickers:
            base = f"{name}.{namespace}"
            for host in (name, base, f"{base}.svc", f"{base}.svc.cluster.local"):
                if found.setdefault(host, pool) != pool:
                    several.add(host)
        self._by_authority = {host: pool for host, pool in found.items() if host not in several}

    def of(
        self,
        call: Mapping[bytes, bytes],
        subset: Iterable[str] | None,
        model: str | None,
    ) -> PickedPool:
        """The pool of a request; ``call`` are the gRPC call's fields. `ApiError` (503)."""
        router = self._named(call)
        if router is None and subset is not None and len(self._pools) > 1:
            router = self._holding(tuple(subset))
        if router is None:
            router = self.brains.serving(model)
        if router is None:
            raise ApiError(503, "no_pool", "There is no pool of endpoints.", retry_after=1)
        return self._pool(router)

    def _named(self, call: Mapping[bytes, bytes]) -> Router | None:
        name = call.get(POOL_FIELD)
        if name is not None:
            router = self.brains.of(name.decode("latin-1"))
            if router is None:
                raise ApiError(
                    503, "no_pool", f"There is no pool {name.decode('latin-1')!r}.", retry_after=1
                )
            return router
        if not self._by_authority:
            return None
        authority = call.get(b":authority", b"").decode("latin-1")
        host = authority.rpartition("|")[2].partition(":")[0]
        pool = self._by_authority.get(host)
        return None if pool is None else self.brains.of(pool)

    def _holding(self, subset: tuple[str, ...]) -> Router | None:
        for router, pool in self._pools.items():
            if pool.book.within(subset):
                return router
        return None

    def _pool(self, router: Router) -> PickedPool:
        pool = self._pools.get(router)
        if pool is None:  # it came since the last `changed`
            self.changed()
            pool = self._pools[router]
        return pool
