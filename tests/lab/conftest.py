"""The lab's servers, for tests that `make lab-test` runs.

Servers that `inferway lab up` started are used; otherwise two are started here, and stopped
afterwards. Each test has a gateway of its own before them, in its own process.
"""

from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import pytest

from bench.lab import machine
from bench.lab.engine import HOST, MODEL, Server
from bench.lab.fleet import LabFleet
from bench.lab.home import home
from bench.lab.install import Installer
from gateway.app import Gateway
from gateway.settings import AdminSettings, ListenSettings, LogSettings, Settings
from tests.lab.servers import until_idle
from tests.support.gateways import until

_HERE = Path(__file__).parent
_FIRST_PORT = 18_100
_SERVERS = 2


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Skip these tests, with the reason, where they can't run or are not asked for."""
    reason = _why_not(str(config.getoption("-m")))
    for item in items:
        if item.path.is_relative_to(_HERE):
            item.add_marker(pytest.mark.lab)
            if reason is not None:
                item.add_marker(pytest.mark.skip(reason=reason))


def _why_not(marker: str) -> str | None:
    if marker != "lab":
        return "takes minutes and real model servers: make lab-test"
    where = home()
    if Installer(where).missing:
        return f"the lab is not installed in {where.root}: make lab"
    if not LabFleet(where).state().servers:
        reasons = machine.obstacles(where.root, _SERVERS, installed=True)
        if reasons:
            return "the lab can't run here: " + "; ".join(reasons)
    return None


@dataclass(frozen=True)
class Lab:
    """The servers, and where their files are."""

    fleet: LabFleet
    servers: tuple[Server, ...]


@pytest.fixture(scope="session")
def lab() -> Iterator[Lab]:
    """Servers that answer."""
    fleet = LabFleet(home())
    already = fleet.state().servers
    if not already:
        wanted = [Server(_FIRST_PORT + 10 * n, 8192, adapter=True) for n in range(_SERVERS)]
        fleet.start(wanted, nice=19)
    running = fleet.state().servers
    fleet.wait(running)
    assert len(running) >= _SERVERS, "these tests need two servers: inferway lab up --servers 2"
    try:
        yield Lab(fleet, tuple(one.server for one in running))
    finally:
        if not already:
            fleet.stop()


@pytest.fixture
async def gateway(lab: Lab) -> AsyncIterator[Gateway]:
    """A gateway that follows the servers' caches, which are empty, and tokenizes prompts."""
    await until_idle(lab.servers)
    async with aiohttp.ClientSession() as session:
        for server in lab.servers:
            async with session.post(f"{server.url}/reset_prefix_cache") as response:
                assert response.status == 200
    plain = msgspec.convert(lab.fleet.configuration(lab.servers), Settings)
    gateway = Gateway(
        msgspec.structs.replace(
            plain,
            listen=ListenSettings(host=HOST, port=0),
            admin=AdminSettings(host=HOST, port=0),
            log=LogSettings(access=False, level="warning"),
            # Slow machines included: here a prompt is always known as tokens.
            tokenizing_deadline=10.0,
        )
    )
    await gateway.start()
    try:
        await until(
            lambda: all(view.connected and not view.catching_up for view in gateway.event_views()),
            30,
        )
        # vLLM tells of a reset with its next step's events.
        async with aiohttp.ClientSession() as session:
            for server in lab.servers:
                body = {"model": MODEL, "prompt": [server.port % 1000] * 40, "max_tokens": 1}
                async with session.post(f"{server.url}/v1/completions", json=body) as response:
                    assert response.status == 200, await response.text()
        await until(lambda: all(view.blocks == 1 for view in gateway.event_views()), 30)
        yield gateway
    finally:
        await gateway.stop()
