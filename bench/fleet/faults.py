"""Failures on purpose: which request suffers what."""

import random
from dataclasses import dataclass

from bench.fleet.errors import RequestError, bad_request, of_kind, of_status
from bench.fleet.settings import Faults, StreamFault

RETURN_ERROR_HEADER = "X-Return-Error"
"""A request with this header gets the error status that it names."""


@dataclass(frozen=True, slots=True)
class Reset:
    """The connection is reset before any answer."""


@dataclass(frozen=True, slots=True)
class BreakStream:
    """A stream goes wrong after so many tokens; an answer that doesn't stream is spared."""

    fault: StreamFault
    after_tokens: int


Fate = RequestError | Reset | BreakStream | None
"""What is to happen to a request; None: nothing."""


class FaultInjector:
    """Draws each request's fate from the seed, in the order of the requests."""

    def __init__(self, faults: Faults, seed: int) -> None:
        self.faults = faults
        self._rng = random.Random(seed)

    def draw(self, asked_for: str | None) -> Fate:
        """The next request's fate; ``asked_for`` is the value of X-Return-Error, if any."""
        if asked_for is not None:
            return _asked_for(asked_for)
        faults = self.faults
        for kind, rate in faults.errors.items():
            if self._strikes(rate):
                return of_kind(kind)
        if self._strikes(faults.reset_rate):
            return Reset()
        if self._strikes(faults.stream_fault_rate):
            return BreakStream(faults.stream_fault, faults.stream_fault_after)
        return None

    def _strikes(self, rate: float) -> bool:
        return rate > 0 and self._rng.random() < rate


def _asked_for(value: str) -> RequestError:
    if not (value.isascii() and value.isdigit() and 400 <= int(value) <= 599):
        message = f"{RETURN_ERROR_HEADER} must be a status from 400 to 599, not {value!r}."
        return bad_request(message, RETURN_ERROR_HEADER)
    return of_status(int(value))
