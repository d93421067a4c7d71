"""The endpoint with the fewest requests."""

from typing import ClassVar

import numpy as np

from routing.loads import lowest
from routing.policies.policy import Choice, Slate
from routing.request import Request


class LeastRequest:
    """Fewest requests in flight.

    Score: our own requests in flight there (the ledger, exact now) + the requests that the
    last scrape saw beyond ours (other clients of the same server; 0 without a scrape).
    Parameters: none. Equal scores rotate. Source: the "least request" balancing of common
    proxies, on a ledger instead of scrapes alone, since scrapes make bursts herd.
    """

    name: ClassVar[str] = "least_request"

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by requests in flight."""
        group = slate.group
        size = len(group.endpoints)
        start = self._turn % size
        self._turn += 1
        group.table.refresh(now)
        loads = group.table.requests[group.rows(start)]
        # Loads are whole numbers: a place's fraction decides between equal ones only.
        ranked = lowest(loads + np.arange(size) / size, count)
        return [
            Choice(
                endpoint=(state := group.endpoints[(start + place) % size]),
                score=float(loads[place]),
                cached_tokens=slate.cached_tokens(state),
                predicted_ttft=None,
                explanation="{:g} requests in flight",
                facts=(float(loads[place]),),
            )
            for place in ranked[:count]
        ]
