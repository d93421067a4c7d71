"""Our gateway as a process of its own, and what it says and uses."""

import asyncio
import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import aiohttp
import psutil
import yaml
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

_START_SECONDS = 60.0
_STOP_SECONDS = 15.0
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
        self._process: asyncio.subprocess.Process | None = None
        self.url = self.admin = ""

    def configure(self, settings: Mapping[str, object]) -> None:
        """Write the configuration, whole or not at all."""
        beside = self.config.with_suffix(".new")
        beside.write_text(yaml.safe_dump(dict(settings), sort_keys=False))
        beside.replace(self.config)

    async def start(self) -> None:
        """Start it and wait until it serves. RuntimeError when it does not."""
        command = [
            *(sys.executable, "-m", "bench.chaos.served", "serve", "--config", str(self.config)),
            *("--host", "127.0.0.1", "--port", "0", "--admin-port", "0"),
        ]
        with self._log.open("wb") as log:
            self._process = await asyncio.create_subprocess_exec(
                *command, stdin=asyncio.subprocess.PIPE, stdout=log, stderr=log
            )
        loop = asyncio.get_running_loop()
        end = loop.time() + _START_SECONDS
        while loop.time() < end and self._process.returncode is None:
            found = _SERVING.search(self._log.read_text(errors="replace"))
            if found is not None:
                self.url, self.admin = found["clients"], found["admin"]
                return
            await asyncio.sleep(0.05)
        await self.stop()
        raise RuntimeError(f"the gateway did not start: {self._last_words()}")

    async def stop(self) -> None:
        """Stop it."""
        process, self._process = self._process, None
        if process is None or process.returncode is not None:
            return
        process.terminate()
        try:
            await asyncio.wait_for(process.wait(), _STOP_SECONDS)
        except TimeoutError:
            process.kill()
            await process.wait()

    def usage(self) -> Usage:
        """What its process has now."""
        assert self._process is not None
        try:
            process = psutil.Process(self._process.pid)
            return Usage(process.memory_info().rss, process.num_fds())
        except (psutil.NoSuchProcess, psutil.ZombieProcess):
            raise RuntimeError(f"the gateway ended: {self._last_words()}") from None

    def _last_words(self) -> str:
        return self._log.read_text(errors="replace").strip()[-1000:]

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
