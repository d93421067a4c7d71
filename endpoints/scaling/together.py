"""Several pools that want to start endpoints at once: who may, so that no stampede arises.

Machines, image registries and weights are shared, so of many starts at once all get slow. Pools
that are empty and have requests waiting come first, whoever waits longest before the others, each
with one endpoint of every role (a split pool with both, or it could serve nothing); what is left
goes round, one start a pool at a time. What is not granted is asked for again at the next decision.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from endpoints.scaling.role import Role


@dataclass(frozen=True, slots=True)
class Asking:
    """One pool: what there is of each role, what is wanted, and how long requests have waited."""

    pool: str
    present: Mapping[Role, int]
    wanted: Mapping[Role, int]
    waiting_seconds: float = 0.0

    @property
    def empty(self) -> bool:
        """Whether it can serve nothing: some role has no endpoint."""
        return any(not self.present.get(role, 0) for role in self.wanted)


def grant(pools: Sequence[Asking], starting: int, most: int) -> dict[str, dict[Role, int]]:
    """The replicas that each pool may have now: ``most`` endpoints start at once in all.

    ``starting``: those that do already. Fewer than there are is never held back. One pool is
    always let go on, however many roles it has: else nobody ever would.
    """
    granted = {one.pool: _without_starts(one) for one in pools}
    left = most - starting
    first = sorted(
        (one for one in pools if one.empty and _starts(one, granted[one.pool])),
        key=lambda one: (-one.waiting_seconds, one.pool),
    )
    for place, one in enumerate(first):
        missing = [
            role
            for role, count in one.wanted.items()
            if count and not granted[one.pool].get(role, 0)
        ]
        if len(missing) > left and not (place == 0 and not starting):
            break
        for role in missing:
            granted[one.pool][role] = 1
        left -= len(missing)
    while left > 0:
        given = 0
        for one in sorted(pools, key=lambda asking: (-asking.waiting_seconds, asking.pool)):
            open_ = _starts(one, granted[one.pool])
            if open_ and left > 0 and all(granted[one.pool].values()):
                role = max(open_, key=lambda each: open_[each])
                granted[one.pool][role] += 1
                left -= 1
                given += 1
        if not given:
            break
    return granted


def _without_starts(one: Asking) -> dict[Role, int]:
    return {role: min(count, one.present.get(role, 0)) for role, count in one.wanted.items()}


def _starts(one: Asking, granted: Mapping[Role, int]) -> dict[Role, int]:
    """What is wanted beyond what is granted, by role."""
    return {
        role: count - granted[role] for role, count in one.wanted.items() if count > granted[role]
    }
