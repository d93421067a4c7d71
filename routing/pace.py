"""How near to its target the time between tokens is, learned over the requests."""

from typing import Final

_GAIN: Final = 0.01  # about the last hundred requests count
_MOST: Final = 10.0  # one absurd target must not outweigh all others
_PRIOR: Final = 10  # requests at their target that the first ones are held against


class Pace:
    """The time between tokens where requests went, as a share of what they should have.

    Seconds between tokens matter as they come near to the target: while all of them are far
    below it, slower tokens break no promise, and a later first token still does. ``near`` is a
    forgetting mean of predicted time over target, and 1 where nothing is known or they are late.
    """

    __slots__ = ("_seen", "near", "share")

    def __init__(self) -> None:
        self._seen = 0
        self.share = 1.0
        """Mean of predicted over wanted seconds between tokens, each at most 10."""
        self.near = 1.0
        """The same, at most 1."""

    def observe(self, predicted: float, target: float) -> None:
        """A request went where a token is expected every ``predicted`` seconds."""
        if not target > 0.0:
            return
        self._seen += 1
        gain = max(_GAIN, 1.0 / (_PRIOR + self._seen))
        share = predicted / target if predicted < _MOST * target else _MOST
        self.share += gain * (share - self.share)
        self.near = min(self.share, 1.0)
