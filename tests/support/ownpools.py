"""Brains for the InferencePools that are left to us, kept by nobody else."""

import asyncio
from collections.abc import Callable, Mapping, Sequence

from gateway.brains import Brains
from gateway.gatewayapi.snapshot import Key
from gateway.pool import Pool
from routing.fleet import Endpoint


class OwnPools:
    """One `Pool` for each, started with its first endpoints and stopped when it is not wanted.

    ``new_pool`` makes one by its name (``namespace/name``); ``end`` is told of one that left.
    """

    def __init__(self, new_pool: Callable[[str], Pool], end: Callable[[Pool], None]) -> None:
        self._new_pool = new_pool
        self._end = end
        self._pools: dict[Key, tuple[Pool, Brains]] = {}
        self._endpoints: dict[Key, Sequence[Endpoint]] = {}
        self._sweeping: dict[Key, asyncio.Task[None]] = {}

    async def keep(self, wanted: Mapping[Key, Callable[[], Sequence[Endpoint]]]) -> None:
        """Have a brain for exactly these pools, with these endpoints."""
        for key in [key for key in self._pools if key not in wanted]:
            pool, _ = self._pools.pop(key)
            self._endpoints.pop(key, None)
            self._sweeping.pop(key).cancel()
            self._end(pool)
            await pool.stop()
        for key, tell in wanted.items():
            endpoints = tell()
            if key not in self._pools:
                pool = self._new_pool("/".join(key))
                await pool.start()
                self._pools[key] = (pool, Brains({pool.name: pool.router}))
                self._sweeping[key] = asyncio.get_running_loop().create_task(pool.keep_sweeping())
            if self._endpoints.get(key) != endpoints:
                self._endpoints[key] = endpoints
                self._pools[key][0].apply(endpoints)

    def brains(self, pool: Key) -> Brains | None:
        """The pool's; None when there is none."""
        known = self._pools.get(pool)
        return None if known is None else known[1]

    async def stop(self) -> None:
        """Stop them all."""
        await self.keep({})
