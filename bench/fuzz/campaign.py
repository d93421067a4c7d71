"""Many trials on one event loop, and their statistics."""

import asyncio
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Self

import uvloop
from hypothesis import HealthCheck, given, settings
from hypothesis import seed as seeded
from hypothesis import strategies as st

from bench.fuzz.mutations import Said, client_inputs, endpoint_outputs, honest_inputs
from bench.fuzz.scene import DefectError
from bench.fuzz.trial import Outcome, try_client, try_endpoint, try_honest_client

_TELLING_PART = 40  # characters of a complaint by which defects are told apart


@dataclass(frozen=True, slots=True)
class Side:
    """Who says mutated bytes, and how they are judged."""

    name: str
    inputs: st.SearchStrategy[Said]
    judge: Callable[[Said], Awaitable[Outcome]]


SIDES = (
    Side("client", client_inputs, try_client),
    Side("honest client", honest_inputs, try_honest_client),
    Side("endpoint", endpoint_outputs, try_endpoint),
)


class Campaign:
    """Rounds of trials that go on after a defect and keep the smallest input of each kind."""

    def __init__(self) -> None:
        self.outcomes: dict[str, Counter[str]] = {side.name: Counter() for side in SIDES}
        self.defects: dict[str, tuple[Said, int]] = {}
        """The smallest input and the number of inputs, by how the complaint begins."""
        self._began = time.process_time()

    def __enter__(self) -> Self:
        self._runner = asyncio.Runner(loop_factory=uvloop.new_event_loop)
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._runner.close()

    @property
    def cpu_seconds(self) -> float:
        """CPU time of this process since the campaign began."""
        return time.process_time() - self._began

    def round(self, side: Side, trials: int, seed: int) -> None:
        """That many trials of one side."""

        @seeded(seed)
        @settings(
            max_examples=trials,
            deadline=None,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(side.inputs)
        def attempt(said: Said) -> None:
            self._attempt(side, said)

        attempt()

    def _attempt(self, side: Side, said: Said) -> None:
        async def judged() -> Outcome:
            return await side.judge(said)

        try:
            outcome = self._runner.run(judged())
        except DefectError as error:
            self.outcomes[side.name]["defect"] += 1
            key = f"{side.name}: {str(error)[:_TELLING_PART]}"
            smallest, count = self.defects.get(key, (said, 0))
            smaller = said if len(said.data) < len(smallest.data) else smallest
            self.defects[key] = (smaller, count + 1)
        else:
            self.outcomes[side.name][outcome.kind] += 1
