"""What recent traffic used of the caches: a bounded sample of prompts that found a warm prefix.

Read from the decisions that the router keeps anyway, now and then, so that the hot path does
nothing for it.
"""

from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

from routing.decision import Decision
from routing.request import Request

_HASH_BYTES = 8


@dataclass(frozen=True, slots=True)
class Use:
    """A request that found ``share`` (0..1) of its prompt warm.

    ``scale``: real tokens for each nominal token of the request.
    """

    at: float
    request: Request
    share: float
    scale: float

    @property
    def weight(self) -> int:
        """Bytes that its chains take."""
        chains = [*self.request.chains, *(self.request.token_chains or {}).values()]
        return sum(len(chain) for chain in chains) * _HASH_BYTES


class RecentUse:
    """The uses of the last ``window`` seconds, the newest of them, at most so many and so heavy.

    A prefix that was used once in the window is taken to be used again: chat turns and shared
    documents come back within minutes, and what is older than that is not worth a machine.
    """

    def __init__(
        self, window: float = 600.0, most: int = 4_096, byte_budget: int = 16 << 20
    ) -> None:
        self.window = window
        self._most = most
        self._budget = byte_budget
        self._bytes = 0
        self._uses: deque[Use] = deque()
        self._seen: Decision | None = None  # the newest decision looked at

    def __len__(self) -> int:
        return len(self._uses)

    @property
    def bytes_used(self) -> int:
        """What the chains of the sample take."""
        return self._bytes

    def look(self, recent: Iterable[Decision], now: float) -> None:
        """Take in the decisions since the last look; ``recent``: newest last."""
        fresh: list[Decision] = []
        for decision in recent:
            if decision is self._seen:
                fresh.clear()
                continue
            fresh.append(decision)
        if fresh:
            self._seen = fresh[-1]
        for decision in fresh:
            use = _use(decision)
            if use is not None:
                self._uses.append(use)
                self._bytes += use.weight
        self._forget(now)

    def uses(self, now: float) -> tuple[Use, ...]:
        """The sample, oldest first."""
        self._forget(now)
        return tuple(self._uses)

    def _forget(self, now: float) -> None:
        uses = self._uses
        while uses and (
            now - uses[0].at > self.window or len(uses) > self._most or self._bytes > self._budget
        ):
            self._bytes -= uses.popleft().weight


def _use(decision: Decision) -> Use | None:
    """What one decision says was used; None when nothing was warm."""
    request, prompt = decision.request, decision.prompt_tokens
    cached = decision.predicted_cached_tokens
    if not request.chains or prompt <= 0.0 or cached <= 0.0 or request.prompt_tokens <= 0.0:
        return None
    return Use(decision.at, request, min(cached / prompt, 1.0), prompt / request.prompt_tokens)
