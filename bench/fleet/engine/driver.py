"""Lets an engine's steps pass in real time."""

import asyncio
from collections.abc import Callable
from contextlib import suppress

from bench.fleet.engine.scheduler import Engine
from bench.fleet.engine.sequence import Sequence

_CATCH_UP_STEPS = 16
"""Steps made in one go when the machine is late, before others get their turn."""


class Driver:
    """One task that runs an engine in virtual time.

    A step ends when the model says, not when the machine gets to it: the next one begins at
    that virtual end, so a timer that fires late, or a burst of other work, delays the delivery
    of tokens but never slows the simulated server down. Sequences that arrived after a step's
    virtual start wait for the next one, as they would have. ``after_step`` is called when a step
    is complete, before anybody else learns of it; it may not raise.
    """

    def __init__(self, engine: Engine, after_step: Callable[[], None] | None = None) -> None:
        self._engine = engine
        self._after_step = after_step
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    def now(self) -> float:
        """The clock of arrivals: the event loop's, in seconds."""
        return asyncio.get_running_loop().time()

    def start(self) -> None:
        """Begin to run, on the running event loop."""
        self._task = asyncio.create_task(self._run(), name="engine")

    async def stop(self) -> None:
        """Stop at once; sequences in flight stay where they are."""
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task
            self._task = None

    def submit(self, sequence: Sequence) -> None:
        """Queue a sequence and wake the engine."""
        self._engine.submit(sequence)
        self._wake.set()

    def abort(self, sequence: Sequence) -> None:
        """Take a sequence out at once, whatever it is doing."""
        self._engine.abort(sequence, self.now())
        self._wake.set()

    async def _run(self) -> None:
        engine = self._engine
        end = 0.0
        steps = 0
        while True:
            while not engine.busy:
                self._wake.clear()
                await self._wake.wait()
            start = engine.ready_at(end)
            step = engine.start(start)
            end = start + step.seconds
            delay = end - self.now()
            steps += 1
            if delay > 0 or steps % _CATCH_UP_STEPS == 0:
                await asyncio.sleep(max(delay, 0.0))
            engine.complete(step, end)
            if self._after_step is not None:
                self._after_step()
