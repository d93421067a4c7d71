"""The way from the publisher to its subscribers, and what gets lost on it."""

import random
from collections.abc import Sequence
from typing import TypeAlias

from bench.fleet.settings import EventFaults

Message: TypeAlias = tuple[int, bytes]
"""A batch's sequence number and its payload."""


class Line:
    """Which messages leave now; faults are drawn from the seed, in the order of the batches."""

    def __init__(self, faults: EventFaults, seed: int) -> None:
        self.faults = faults
        self._rng = random.Random(seed)
        self._held: Message | None = None

    def pass_on(self, message: Message) -> Sequence[Message]:
        """What is sent when this batch is ready: usually just that."""
        faults = self.faults
        if faults.silent or self._strikes(faults.lose_rate):
            return ()
        times = 2 if self._strikes(faults.duplicate_rate) else 1
        if self._held is not None:
            late, self._held = self._held, None
            return (*(message,) * times, late)
        if self._strikes(faults.reorder_rate):
            self._held = message
            return ()
        return (message,) * times

    def release(self) -> Sequence[Message]:
        """What was held back for its successor."""
        held, self._held = self._held, None
        return () if held is None else (held,)

    def _strikes(self, rate: float) -> bool:
        return rate > 0 and self._rng.random() < rate
