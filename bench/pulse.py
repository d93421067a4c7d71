"""Notices when this process does not get to run: what is timed meanwhile is the machine's time."""

import asyncio

_BEAT_SECONDS = 0.05
PAUSE_SECONDS = 3.0
"""A machine that stands still for longer makes every time-out meaningless: once more, then."""


class Pulse:
    """Beats on the running event loop until `stop`."""

    def __init__(self) -> None:
        self._longest = 0.0
        self._task = asyncio.get_running_loop().create_task(self._beat())

    async def _beat(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            before = loop.time()
            await asyncio.sleep(_BEAT_SECONDS)
            self._longest = max(self._longest, loop.time() - before - _BEAT_SECONDS)

    def stop(self) -> float:
        """The longest pause, in seconds."""
        self._task.cancel()
        return self._longest
