"""The embedded fleet: simulated model servers in a child process, for trying things out.

It is a process of its own, so that the servers' work never delays the gateway's loop, and
it is reached by its command line only: this package knows nothing of the simulator's code.
"""

import asyncio
import json
import sys
from collections.abc import Sequence
from contextlib import suppress

_START_SECONDS = 20.0


class EmbeddedFleetError(RuntimeError):
    """The simulated servers did not come up."""


class EmbeddedFleet:
    """A child process that hosts simulated servers; it ends when its stdin does."""

    def __init__(self, arguments: Sequence[str]) -> None:
        self._arguments = tuple(arguments)
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> tuple[str, ...]:
        """Start the servers; their URLs once all of them listen."""
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
        return tuple(json.loads(line)["urls"])

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
