"""The embedded fleet: simulated model servers in a child process, for trying things out.

It is a process of its own, so that the servers' work never delays the gateway's loop, and
it is reached by its command line only: this package knows nothing of the simulator's code.
"""

import asyncio
import sys
from collections.abc import Sequence
from contextlib import suppress

import msgspec

from endpoints.engines.transfer.mooncake import PORT_LABEL as BOOTSTRAP_LABEL
from endpoints.engines.transfer.offloading import PORT_LABEL as P2P_LABEL
from endpoints.engines.transfer.p2pnccl import ADDRESS_LABEL as ZMQ_LABEL
from endpoints.events.source import ADDRESS_LABEL, REPLAY_LABEL, TOPIC_LABEL
from gateway.settings import EndpointSettings
from routing.roles import CONNECTOR_LABELS, ROLE_LABELS

_START_SECONDS = 20.0
_ROLE_LABEL = ROLE_LABELS[-1]


class _Events(msgspec.Struct):
    endpoint: str
    replay_endpoint: str
    topic: str


class _Ready(msgspec.Struct):
    urls: list[str]
    kv_events: list[_Events] = []
    roles: list[str] = []
    connector: str = ""


class EmbeddedFleetError(RuntimeError):
    """The simulated servers did not come up."""


class EmbeddedFleet:
    """A child process that hosts simulated servers; it ends when its stdin does."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = tuple(arguments)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> tuple[EndpointSettings, ...]:
        """Start the servers; what is to be known of them once all of them listen."""
        self._process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "bench.fleet",
            "--json-ready",
            *self._arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
        )
        assert self._process.stdout is not None
        try:
            line = await asyncio.wait_for(self._process.stdout.readline(), _START_SECONDS)
        except TimeoutError:
            await self.stop()
            raise EmbeddedFleetError(f"no server after {_START_SECONDS:g} s") from None
        if not line:
            raise EmbeddedFleetError(f"exit code {await self._process.wait()}")
        ready = msgspec.json.decode(line, type=_Ready)
        labels: list[dict[str, str]] = [{} for _ in ready.urls]
        for own, events in zip(labels, ready.kv_events, strict=False):
            own[ADDRESS_LABEL] = events.endpoint
            own[REPLAY_LABEL] = events.replay_endpoint
            own[TOPIC_LABEL] = events.topic
        for own, url, role in zip(labels, ready.urls, ready.roles, strict=False):
            own[_ROLE_LABEL] = role
            own[CONNECTOR_LABELS[-1]] = ready.connector
            # A simulated server is its own bootstrap server.
            own[BOOTSTRAP_LABEL] = own[P2P_LABEL] = url.rpartition(":")[2]
            own[ZMQ_LABEL] = url.removeprefix("http://")
        return tuple(
            EndpointSettings(url=url, labels=own)
            for url, own in zip(ready.urls, labels, strict=True)
        )

    async def stop(self) -> None:
        """End the child and wait for it."""
        if self._process is None or self._process.returncode is not None:
            return
        with suppress(ProcessLookupError):
            self._process.terminate()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()
