"""When to look again: regular intervals, and exponential back-off after failures."""

_MAX_DOUBLINGS = 30  # keeps the power finite; every ceiling is reached long before


def backoff(first: float, failures: int, ceiling: float) -> float:
    """Seconds to wait after ``failures`` (>= 1) in a row: ``first``, doubled each, bounded."""
    return min(first * 2.0 ** min(failures - 1, _MAX_DOUBLINGS), ceiling)


class Pacer:
    """Decides when one page of one endpoint is due.

    Every ``interval`` seconds while it can be read; after failures from ``retry_first`` on,
    doubled each time, bounded by ``retry_ceiling``. It starts as due.
    """

    def __init__(self, interval: float, retry_first: float, retry_ceiling: float) -> None:
        self._interval = interval
        self._retry_first = retry_first
        self._retry_ceiling = retry_ceiling
        self._failures = 0
        self._due_at: float | None = None

    def due(self, now: float) -> bool:
        """Whether it is time to look."""
        return self._due_at is None or now >= self._due_at

    def succeeded(self, now: float) -> None:
        """It was read."""
        self._failures = 0
        self._due_at = now + self._interval

    def failed(self, now: float) -> None:
        """It could not be read."""
        self._failures += 1
        self._due_at = now + backoff(self._retry_first, self._failures, self._retry_ceiling)

    def reset(self) -> None:
        """Look at once: what was known may have changed."""
        self._failures = 0
        self._due_at = None
