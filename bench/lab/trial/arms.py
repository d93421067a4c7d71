"""The gateways that are compared, each started anew for every run."""

import asyncio
import os
import shutil
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import yaml

from bench import processes
from bench.lab.engine import HOST, MODEL, Server
from bench.lab.fleet import LabError, LabFleet, free_port

_START_SECONDS = 180.0  # a busy machine starts things slowly


@dataclass(frozen=True, slots=True)
class Start:
    """What a gateway is told."""

    fleet: LabFleet
    servers: Sequence[Server]
    port: int
    spare_port: int

    @property
    def urls(self) -> list[str]:
        """Where the servers are."""
        return [server.url for server in self.servers]


@dataclass(frozen=True, slots=True)
class Arm:
    """A gateway: its name, what it is, and its command line."""

    name: str
    what: str
    command: Callable[[Start], list[str]]


def _inferway(start: Start, *more: str) -> list[str]:
    return [
        *(sys.executable, "-m", "gateway.cli", "serve", *start.urls, "--host", HOST),
        *("--port", str(start.port), "--admin-port", str(start.spare_port), *more),
    ]


def _with_events(start: Start) -> list[str]:
    config = start.fleet.home.root / "trial.yaml"
    config.write_text(yaml.safe_dump(start.fleet.configuration(start.servers)))
    return [
        *(sys.executable, "-m", "gateway.cli", "serve", "--config", str(config), "--host", HOST),
        *("--port", str(start.port), "--admin-port", str(start.spare_port)),
    ]


def _rust_router(executable: str, verb: str, *more: str) -> Callable[[Start], list[str]]:
    def command(start: Start) -> list[str]:
        beside = str(Path(sys.executable).parent)
        found = shutil.which(executable, path=os.pathsep.join((beside, os.environ["PATH"])))
        if found is None:
            raise LabError(f"{executable} is not installed: make rivals")
        return [
            *(found, *([verb] if verb else []), "--worker-urls", *start.urls),
            *("--policy", "cache_aware"),
            *("--host", HOST, "--port", str(start.port), "--prometheus-host", HOST),
            *("--prometheus-port", str(start.spare_port), *more),
        ]

    return command


ARMS: tuple[Arm, ...] = (
    Arm("inferway", "default policy, nothing configured", _inferway),
    Arm("inferway-events", "default policy, caches followed, prompts tokenized", _with_events),
    Arm(
        "round-robin", "our gateway, round_robin", lambda s: _inferway(s, "--policy", "round_robin")
    ),
    Arm(
        "vllm-router",
        "--policy cache_aware",
        _rust_router("vllm-router", "", "--log-level", "warning"),
    ),
    Arm(
        "sglang-router",
        "--policy cache_aware --backend openai",
        _rust_router("sglang-router", "launch", "--log-level", "warn", "--backend", "openai"),
    ),
)
NAMES = tuple(arm.name for arm in ARMS)


async def _serves(url: str) -> bool:
    """Whether a short question is answered: not before the servers behind are known."""
    body = {"model": MODEL, "messages": [{"role": "user", "content": "a"}], "max_tokens": 1}
    try:
        async with (
            aiohttp.ClientSession() as http,
            http.post(f"{url}/v1/chat/completions", json=body) as response,
        ):
            return response.status == 200
    except aiohttp.ClientError:
        return False


@asynccontextmanager
async def running(arm: Arm, fleet: LabFleet, servers: Sequence[Server]) -> AsyncIterator[str]:
    """The URL of a fresh gateway before the servers. Raises `LabError`, OSError."""
    start = Start(fleet, servers, free_port(), free_port())
    log = fleet.home.logs / f"trial-{arm.name}.log"
    process = processes.start(arm.command(start), os.environ, log, nice=0)
    url = f"http://{HOST}:{start.port}"
    try:
        loop = asyncio.get_running_loop()
        end = loop.time() + _START_SECONDS
        while not await _serves(url):
            if not process.running or loop.time() > end:
                raise LabError(f"{arm.name} does not serve: {process.last_words()}")
            await asyncio.sleep(0.2)
        yield url
    finally:
        await asyncio.to_thread(process.stop)
