"""How long a prefill leg is waited for before the decode endpoint computes the prompt itself.

    budget = (grace + patience x predicted seconds) x stretch

The prediction may be wrong by far, above all at first, and a leg that was given up teaches nobody
how long it would have taken. So each endpoint's *stretch* doubles (64 at most) when a leg was given
up for being slow, and halves (1 at least) when one was answered in time: budgets find to what an
endpoint really needs, and hold soon again.
"""

from typing import Final

_MOST_STRETCH: Final = 64.0
_MOST_ENDPOINTS: Final = 4_096


class Patience:
    """Budgets by endpoint, in seconds."""

    __slots__ = ("_factor", "_grace", "_stretch")

    def __init__(self, factor: float, grace: float) -> None:
        self._factor = factor
        self._grace = grace
        self._stretch: dict[str, float] = {}

    def budget(self, endpoint: str, predicted: float) -> float:
        """How long to wait for a leg that is predicted to take so many seconds."""
        stretch = self._stretch.get(endpoint)
        if stretch is None:
            return self._grace + self._factor * predicted
        return (self._grace + self._factor * predicted) * stretch

    def in_time(self, endpoint: str) -> None:
        """A leg was answered within its budget."""
        stretch = self._stretch.pop(endpoint, 1.0) / 2.0
        if stretch > 1.0:
            self._stretch[endpoint] = stretch

    def too_slow(self, endpoint: str) -> None:
        """A leg was given up."""
        if len(self._stretch) >= _MOST_ENDPOINTS:
            self._stretch.clear()
        stretch = self._stretch.get(endpoint, 1.0) * 2.0
        self._stretch[endpoint] = stretch if stretch < _MOST_STRETCH else _MOST_STRETCH
