"""How far to believe what we think is in an endpoint's cache: learned from what engines report.

A prediction of *p* cached tokens that turns out as *r* held to the share min(r / p, 1). Trust is
the forgetting mean of that share: a view that fails (a wrong tokenizer or block size, an engine
that restarted unnoticed, another gateway that evicts) is discounted until it holds again, and
predictions are multiplied by it. Finding more than predicted costs nobody anything and does not
count. Engines that report nothing leave it at 1.
"""

from typing import Final

_GAIN: Final = 0.05  # about the last 20 predictions count
_LEAST: Final = 0.02
_FULL: Final = 0.995  # from here on there is no doubt
_MATTERS: Final = 256.0  # tokens: a smaller prediction decides nothing and is mostly rounding


class Trust:
    """The trust in the predictions about one endpoint."""

    __slots__ = ("failed", "held", "share")

    def __init__(self) -> None:
        self.share = 1.0
        """What a prediction is multiplied by, 0.02 to 1."""
        self.held = 0
        """Predictions that held to at least nine tenths."""
        self.failed = 0
        """Predictions that held to less than half."""

    def observe(self, predicted: float, reported: int) -> None:
        """``predicted`` tokens (before the discount) turned out as ``reported``."""
        if predicted < _MATTERS:
            return
        share = min(reported / predicted, 1.0)
        self.held += share >= 0.9
        self.failed += share < 0.5
        trusted = self.share + _GAIN * (share - self.share)
        self.share = 1.0 if trusted > _FULL else max(trusted, _LEAST)

    def forget(self) -> None:
        """The engine is another one now."""
        self.share = 1.0
