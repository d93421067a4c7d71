"""How many users there are, by the time in seconds."""

import math
from collections.abc import Callable

Users = Callable[[float], int | None]
"""Time -> users; None: the end."""


def steps(size: int, seconds: float, count: int) -> Users:
    """``size`` more users every ``seconds``, ``count`` times."""

    def users(time: float) -> int | None:
        step = int(time // seconds)
        return size * (step + 1) if step < count else None

    return users


def spikes(base: int, peak: int, every: float, lasting: float, until: float) -> Users:
    """``base`` users, and ``peak`` in the last ``lasting`` seconds of every ``every``."""

    def users(time: float) -> int | None:
        if time >= until:
            return None
        return peak if time % every >= every - lasting else base

    return users


def day(low: int, high: int, seconds: float, days: float) -> Users:
    """A day that lasts ``seconds``: ``low`` at night, ``high`` at noon, a sine between."""

    def users(time: float) -> int | None:
        if time >= seconds * days:
            return None
        noon = (1 - math.cos(2 * math.pi * time / seconds)) / 2
        return round(low + (high - low) * noon)

    return users
