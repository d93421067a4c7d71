"""Times that a role's endpoints have learned, as far as they are believed."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from endpoints.scaling.requests import Gaps, PoolRequests
from routing.endpoint import EndpointState
from routing.router import Router

LEARNED: Final = 20
"""Observations after which learned times are believed."""


@dataclass(frozen=True, slots=True)
class LearnedTimes:
    """Learned times of a role's endpoints; None: not learned yet."""

    fixed: float = 0.0
    slope: float | None = None
    tilt: float = 0.0
    itl_base: float | None = None
    itl_slope: float | None = None
    itl_context: float | None = None

    def believed(self, gaps: Gaps | None, batch: float) -> "LearnedTimes":
        """Learned times between tokens as far as observed ones allow them.

        In an overload the learning takes waits for computing. But a token alone can't take longer
        than the fastest do, nor one in today's batch longer than half of them do.
        """
        base, slope = self.itl_base, self.itl_slope
        if gaps is None or base is None or slope is None:
            return self
        base = min(base, gaps.fastest)
        slope = min(slope, max(gaps.median - base, 0.0) / max(batch, 1.0))
        context = self.itl_context or 0.0
        return replace(self, itl_base=base, itl_slope=slope, itl_context=context)

    def prefill_rate(self, requests: PoolRequests) -> float | None:
        """Tokens/s for prompts as they are, attention over what stands before them included."""
        if self.slope is None:
            return None
        own = requests.own_tokens
        if not own:
            return 1.0 / self.slope
        return own / (self.slope * own + self.tilt * (requests.own_context or 0.0))


def times_of(members: Sequence[EndpointState], router: Router) -> LearnedTimes:
    """Of the kind of hardware that most members have; of the only one when there are none."""
    pools = router.fleet.pools
    kinds = [state.endpoint.hardware for state in members]
    if kinds:
        kind = max(set(kinds), key=kinds.count)
    elif len(pools) == 1:
        kind = next(iter(pools))
    else:
        return LearnedTimes()
    pool = pools.get(kind)
    if pool is None:
        return LearnedTimes()
    prefill, decode = pool.prefill, pool.decode
    found = LearnedTimes()
    if prefill.seen >= LEARNED:
        found = LearnedTimes(prefill.fixed, prefill.slope, prefill.tilt)
    if decode.seen >= LEARNED:
        found = LearnedTimes(
            found.fixed, found.slope, found.tilt, decode.fixed, decode.slope, decode.tilt
        )
    return found
