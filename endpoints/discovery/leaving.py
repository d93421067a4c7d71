"""How an endpoint leaves: one contract, whoever ends it. Pure.

    SERVING ──retire──► DRAINING ──quiet, or grace over──► DRAINED ──► gone from discovery
       ▲                   │                                  │
       └──────restore──────┴──────────────restore─────────────┘

- *retired*: somebody here wants it gone while it still exists, such as a scale-down. It gets
  nothing new at once, and may be ended once it is drained, not before.
- *vanished*: discovery does not name it any more, because its pod ended by itself or a file
  changed. The same happens, from DRAINING on; only that nobody waits for the result.

What is in flight may end; after the grace period it is left to its fate.
"""

from dataclasses import dataclass

from routing.endpoint import SCRAPE_FRESH_SECONDS, EndpointState


@dataclass(slots=True)
class Leaving:
    """One retired endpoint on its way out."""

    name: str
    since: float
    grace: float
    drained_at: float | None = None
    """When it was found quiet, or given up; None: it still drains."""
    cut: int = 0
    """Requests of ours that were still in flight when the grace period was over."""

    @property
    def drained(self) -> bool:
        """Whether it may be ended."""
        return self.drained_at is not None


def quiet(state: EndpointState, since: float, now: float, settle: float) -> bool:
    """Whether nothing is in flight on an endpoint that was given nothing new ``since`` then.

    Other gateways may have sent it requests, too. Only the engine knows of those: it is asked by
    a scrape that was taken ``settle`` seconds after the others could know. An engine that says
    nothing about its requests, or nothing at all, is given those seconds.
    """
    if state.ledger.requests:
        return False
    load = state.load
    if load is not None and load.running is not None and load.at >= since + settle:
        return load.running + (load.waiting or 0.0) < 1.0
    tells = load is not None and load.running is not None and load.age(now) < SCRAPE_FRESH_SECONDS
    return not tells and now - since >= settle
