"""What only the one that leads may run: made anew for each reign, ended with it.

::

    FOLLOWING ──leads──► begin ──► REIGNING ──leads no longer──► end ──► FOLLOWING
                           │ can't begin: once more, while it leads

Nothing is carried from one reign to the next, so nothing of it can be out of date: whoever begins
reads what the last one left in the cluster. A reign is known by the lease's count of holders; one
that another candidate's came after is over, even if we lead again before anybody looked.
"""

import asyncio
import logging
from collections.abc import Callable
from typing import Final, Generic, Protocol, TypeAlias, TypeVar

from endpoints.kubernetes.errors import KubernetesError
from endpoints.kubernetes.leading.election import Election

_log = logging.getLogger(__name__)
_AGAIN_SECONDS: Final = 2.0
Leads: TypeAlias = Callable[[], bool]


class DeposedError(RuntimeError):
    """Something was to be written that only the one that leads may write."""


class Reigning(Protocol):
    """What is run."""

    async def start(self) -> None:
        """Begin. KubernetesError: not now."""

    async def stop(self) -> None:
        """End, whatever is under way; harmless when it never began."""


class Candidate(Protocol):
    """`endpoints.kubernetes.leading.leader.Leader` is one."""

    election: Election
    changed: Callable[[], object]

    def leads(self) -> bool:
        """Whether we may act now."""

    async def start(self) -> None:
        """Run for it."""

    async def stop(self) -> None:
        """Give it up."""


R = TypeVar("R", bound=Reigning)


class Reigns(Generic[R]):
    """From `start` to `stop`. ``make`` is given what to ask before each write."""

    def __init__(self, candidate: Candidate, make: Callable[[Leads], R]) -> None:
        self.candidate = candidate
        self.running: R | None = None
        """What reigns now; None: we follow."""
        self.begun = 0
        """How many reigns of ours there were."""
        self._make = make
        self._number = -1
        self._woken = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Run for the lease; returns at once."""
        self.candidate.changed = self._woken.set
        await self.candidate.start()
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End the reign, then give up the lease, so that nobody acts beside us."""
        if self._task is None:
            return
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)
        self._task = None
        await self._end()
        await self.candidate.stop()

    async def _run(self) -> None:
        while True:
            self._woken.clear()
            number = self._reign()
            if self.running is not None and number != self._number:
                await self._end()
            if self.running is None and number is not None and not await self._begin(number):
                await asyncio.sleep(_AGAIN_SECONDS)
                continue
            await self._woken.wait()

    def _reign(self) -> int | None:
        """The number of the reign that is ours now; None: we follow."""
        return self.candidate.election.transitions if self.candidate.leads() else None

    async def _begin(self, number: int) -> bool:
        running = self._make(lambda: self._reign() == number)
        try:
            await running.start()
        except KubernetesError as error:
            _log.warning("leads, but can't begin: %s", error)
            await running.stop()
            return False
        except BaseException:
            await running.stop()
            raise
        self._number, self.running = number, running
        self.begun += 1
        return True

    async def _end(self) -> None:
        running, self.running = self.running, None
        if running is not None:
            await running.stop()
