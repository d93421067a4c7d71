"""Our gateway as a process of its own, and what it says and uses."""

import asyncio
import os
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import yaml
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from bench import processes
from bench.processes import Started

_START_SECONDS = 60.0
_SERVING = re.compile(
    r"serving clients on (?P<clients>https?://127\.0\.0\.1:\d+), "
    r"operators on (?P<admin>http://127\.0\.0\.1:\d+)"
)


class Usage(Struct, frozen=True):
    """What the gateway's process has at a moment."""

    rss_bytes: int
    descriptors: int


class Books(Struct, frozen=True):
    """What the gateway believes to be in flight, and what it counted."""

    ledger_requests: int
    in_flight: int
    retries: int


class GatewayProcess:
    """`inferway serve` with a configuration file in a directory."""

    def __init__(self, directory: Path) -> None:
        self.config = directory / "inferway.yaml"
        self._log = directory / "gateway.log"
        self._process: Started | None = None
        self.url = self.admin = ""

    def configure(self, settings: Mapping[str, object]) -> None:
        """Write the configuration, whole or not at all."""
        beside = self.config.with_suffix(".new")
        beside.write_text(yaml.safe_dump(dict(settings), sort_keys=False))
        beside.replace(self.config)

    async def start(self) -> None:
        """Start it and wait until it serves. RuntimeError when it does not."""
        command = [
            *(sys.executable, "-m", "gateway.cli", "serve", "--config", str(self.config)),
            *("--host", "127.0.0.1", "--port", "0", "--admin-port", "0"),
        ]
        self._process = processes.start(command, os.environ, self._log, nice=0)
        loop = asyncio.get_running_loop()
        end = loop.time() + _START_SECONDS
        while loop.time() < end and self._process.running:
            found = _SERVING.search(self._log.read_text(errors="replace"))
            if found is not None:
                self.url, self.admin = found["clients"], found["admin"]
                return
            await asyncio.sleep(0.05)
        words = self._process.last_words()
        await self.stop()
        raise RuntimeError(f"the gateway did not start: {words}")

    async def stop(self) -> None:
        """Stop it."""
        if self._process is not None:
            await asyncio.to_thread(self._process.stop)
            self._process = None

    def usage(self) -> Usage:
        """What its process has now."""
        assert self._process is not None
        process = self._process.process()
        if process is None:
            raise RuntimeError(f"the gateway ended: {self._process.last_words()}")
        return Usage(process.memory_info().rss, process.num_fds())

    async def books(self) -> Books:
        """Its ledgers and counters."""
        async with aiohttp.ClientSession(self.admin) as session:
            async with session.get("/debug/endpoints") as response:
                endpoints: list[dict[str, Any]] = await response.json()
            values = await metric_sums(session)
        return Books(
            ledger_requests=sum(one["ledger"]["requests"] for one in endpoints),
            in_flight=int(values["inferway_in_flight_requests"]),
            retries=int(values.get("inferway_retries_total", 0)),
        )


async def metric_sums(session: aiohttp.ClientSession) -> dict[str, float]:
    """Every sample of the gateway's metrics, summed over its labels."""
    async with session.get("/metrics") as response:
        page = await response.text()
    sums: dict[str, float] = {}
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            sums[sample.name] = sums.get(sample.name, 0.0) + sample.value
    return sums
