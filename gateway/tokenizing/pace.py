"""How long the work on a prompt of some size takes: what may be done at once, and what may not."""

_FIXED = 50e-6  # seconds that any prompt costs
_RISE, _FALL = 0.5, 0.05  # how far one observation moves the rate


class Pace:
    """Seconds for a size, by a rate that rises fast and falls slowly; ``rate`` is a first guess."""

    def __init__(self, rate: float) -> None:
        self.rate = rate

    def expected(self, size: int) -> float:
        """Seconds that ``size`` characters or bytes will take."""
        return _FIXED + self.rate * size

    def observe(self, size: int, seconds: float) -> None:
        """Learn from work that is done; too small a size tells nothing of the rate."""
        if size >= 256:
            seen = max(seconds - _FIXED, 0.0) / size
            self.rate += (seen - self.rate) * (_RISE if seen > self.rate else _FALL)
