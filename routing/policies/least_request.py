"""The endpoint with the fewest requests."""

from heapq import nsmallest

from routing.policies.policy import Choice, Slate
from routing.request import Request


class LeastRequest:
    """Fewest requests in flight.

    Score: our own requests in flight there (the ledger, exact now) + the requests that the
    last scrape saw beyond ours (other clients of the same server; 0 without a scrape).
    Parameters: none. Equal scores rotate. Source: the "least request" balancing of common
    proxies, on a ledger instead of scrapes alone, since scrapes make bursts herd.
    """

    name = "least_request"

    def __init__(self) -> None:
        self._turn = 0

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by requests in flight."""
        size = len(slate.endpoints)
        start = self._turn % size
        self._turn += 1
        loads = [
            state.ledger.requests + state.foreign_waiting + state.foreign_running
            for state in slate.endpoints
        ]
        order = range(start, start + size)  # the rotation decides between equal loads
        best = nsmallest(count, order, key=lambda place: loads[place % size])
        return [
            Choice(
                endpoint=(state := slate.endpoints[place % size]),
                score=loads[place % size],
                cached_tokens=slate.cached_tokens.get(state.name, 0.0),
                predicted_ttft=None,
                reason=f"{loads[place % size]:g} requests in flight",
            )
            for place in best
        ]
