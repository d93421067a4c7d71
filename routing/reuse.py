"""What room in a cache is worth: how often what lies there is found again, learned."""

from typing import Final

_GAIN: Final = 0.01  # about the last hundred requests count
_PRIOR: Final = 10  # requests without any reuse that the first ones are held against


class Reuse:
    """How many tokens are found in a cache for each one that had to be computed into it.

    With a share ``h`` of the prompts' tokens found and the rest computed, a token that is
    computed is found again ``h / (1 - h)`` times before it leaves: that is what the room which
    it takes would have given to another. ``h`` is a forgetting mean over the requests.
    """

    __slots__ = ("_most", "_seen", "share", "times")

    def __init__(self, most: float) -> None:
        self._most = most
        self._seen = 0
        self.share = 0.0
        """Share of a prompt's tokens that is found, 0..1."""
        self.times = 0.0
        """How often a token is found again, at most ``most``."""

    def observe(self, found: float, asked: float) -> None:
        """A prompt of ``asked`` tokens, of which ``found`` were there."""
        if not asked > 0.0:
            return
        self._seen += 1
        gain = max(_GAIN, 1.0 / (_PRIOR + self._seen))
        self.share += gain * (min(max(found / asked, 0.0), 1.0) - self.share)
        left = 1.0 - self.share
        # Compared without dividing: next to nothing may be left.
        self.times = self._most if self.share >= self._most * left else self.share / left
