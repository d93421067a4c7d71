"""The retry budget: retries as a fraction of traffic, so that an outage is not multiplied.

A token bucket that forgets. Each request puts ``share`` of a token in, each retry takes one
out, and the balance fades towards zero by e every ``memory`` seconds, from either side. A
retry is allowed while the balance plus a reserve of ``minimum_per_second x memory`` covers
it. So, over the last ``memory`` seconds or so,

    retries <= share x requests + minimum_per_second x memory

whatever the traffic: much traffic that fails at once may be retried at once, and a quiet
gateway has its minimum (as a burst, or a second each second). Source: the budgets of
Finagle's RetryBudget, with the window's list of times replaced by exponential forgetting.
"""

from dataclasses import dataclass
from math import exp


@dataclass(frozen=True, slots=True)
class RetrySettings:
    """``share`` of requests that may be retries, ``minimum_per_second``, ``memory`` (s)."""

    share: float = 0.2
    minimum_per_second: float = 3.0
    memory: float = 10.0


class RetryBudget:
    """One bucket for all traffic of a router. Both methods are O(1)."""

    __slots__ = ("_at", "_balance", "_reserve", "_settings", "allowed", "denied")

    def __init__(self, settings: RetrySettings) -> None:
        self.allowed = 0
        """Retries that were allowed, ever."""
        self.denied = 0
        """Retries that were denied, ever."""
        self._settings = settings
        self._reserve = settings.minimum_per_second * settings.memory
        self._balance = 0.0
        self._at = 0.0

    def request(self, now: float) -> None:
        """A request came: it earns a share of a retry."""
        if now != self._at:
            self._fade(now)
        self._balance += self._settings.share

    def allow(self, now: float) -> bool:
        """Whether a retry may be made now; if so, it is paid for."""
        self._fade(now)
        if self._balance + self._reserve < 1.0:
            self.denied += 1
            return False
        self._balance -= 1.0
        self.allowed += 1
        return True

    def _fade(self, now: float) -> None:
        passed = now - self._at
        if passed > 0.0:  # a clock that steps back fades nothing
            self._balance *= exp(-passed / self._settings.memory)
        self._at = now
