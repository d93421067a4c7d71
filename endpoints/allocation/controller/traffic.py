"""What work replicas have: asked of whoever knows, before anything is deleted."""

import asyncio
import time
from collections.abc import Sequence
from typing import Final, Protocol

import aiohttp

from endpoints.allocation.emission.identity import Object
from endpoints.engines import detect
from endpoints.engines.exposition import Scrape
from endpoints.probes.fetch import Fetcher, FetchError

_TIMEOUT: Final = 3.0
_MOST_BYTES: Final = 4 * 1024 * 1024
PORT_ANNOTATION: Final = "inferway.dev/metrics-port"


class Traffic(Protocol):
    """Who knows how many requests pods have. None: not known, which is not none."""

    async def in_flight(self, pods: Sequence[Object]) -> float | None:
        """Requests that these pods work on or hold; None when that of any is not known."""


class UnknownTraffic:
    """Nobody knows: draining takes its whole grace period."""

    async def in_flight(self, pods: Sequence[Object]) -> float | None:
        """None."""
        return None


class EngineTraffic:
    """What the engines' metrics say: running and waiting requests.

    The port is that of the annotation ``inferway.dev/metrics-port``, or the first one of the
    first container that has any. A pod that is not ready, or has no address, works on nothing.
    """

    def __init__(self, session: aiohttp.ClientSession) -> None:
        self._session = session

    async def in_flight(self, pods: Sequence[Object]) -> float | None:
        """The sum over these pods."""
        found = await asyncio.gather(*(self._of(pod) for pod in pods))
        known = [one for one in found if one is not None]
        return sum(known) if len(known) == len(found) else None

    async def _of(self, pod: Object) -> float | None:
        address, port = (pod.get("status") or {}).get("podIP"), _port(pod)
        if not address:
            return 0.0
        if port is None:
            return None
        host = f"[{address}]" if ":" in address else address
        fetcher = Fetcher(
            self._session, f"http://{host}:{port}", timeout=_TIMEOUT, max_bytes=_MOST_BYTES
        )
        try:
            page = await fetcher.get("/metrics")
        except FetchError:
            return None
        engine = detect(metrics=page.body) if page.ok else None
        if engine is None or engine.read is None:
            return None
        scrape: Scrape = engine.exposition.read(page.body)
        load = engine.read(scrape, time.monotonic())
        return None if load.running is None else load.running + (load.waiting or 0.0)


def _port(pod: Object) -> int | None:
    said = (pod["metadata"].get("annotations") or {}).get(PORT_ANNOTATION, "")
    if said.isdigit():
        return int(said)
    for container in (pod.get("spec") or {}).get("containers") or ():
        for port in container.get("ports") or ():
            number: int = port["containerPort"]
            return number
    return None
