"""Simulated model servers as processes of their own, which can be killed, stopped and told."""

import asyncio
import json
import signal
import sys
from collections.abc import Mapping, Sequence

import aiohttp
import msgspec

_START_SECONDS = 30.0


class _Events(msgspec.Struct):
    endpoint: str
    replay_endpoint: str
    topic: str


class _Ready(msgspec.Struct):
    urls: list[str]
    kv_events: list[_Events] = []


class ChildServer:
    """One simulated server; the same port after each start."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = tuple(arguments)
        self.port = 0
        self.labels: Mapping[str, str] = {}

    async def start(self) -> None:
        """Start it and wait until it listens. Raises RuntimeError when it does not."""
        self._process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "bench.fleet", "--json-ready"),
            *("--port", str(self.port), *self._arguments),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            # It complains of every client that leaves, which is what this is about.
            stderr=asyncio.subprocess.DEVNULL,
        )
        assert self._process.stdout is not None
        async with asyncio.timeout(_START_SECONDS):
            line = await self._process.stdout.readline()
        if not line:
            raise RuntimeError("a simulated server did not start")
        ready = msgspec.json.decode(line, type=_Ready)
        self.port = int(ready.urls[0].rsplit(":", 1)[1])
        for events in ready.kv_events:
            self.labels = {
                "kv_events": events.endpoint,
                "kv_events_replay": events.replay_endpoint,
                "kv_events_topic": events.topic,
            }

    async def kill(self) -> None:
        """End it at once, as a crash would."""
        if self._process.returncode is None:
            self._process.kill()
            await self._process.wait()

    def freeze(self) -> None:
        """Stop it where it is: its sockets stay open, and nobody answers."""
        self._process.send_signal(signal.SIGSTOP)

    def thaw(self) -> None:
        """Let it go on."""
        self._process.send_signal(signal.SIGCONT)

    async def tell(self, path: str, changes: Mapping[str, object]) -> None:
        """POST something to it directly. Raises aiohttp.ClientError."""
        async with (
            aiohttp.ClientSession(f"http://127.0.0.1:{self.port}", raise_for_status=True) as http,
            http.post(path, data=json.dumps(changes)) as response,
        ):
            await response.read()
