"""How long KV caches take from one endpoint to another: configured at first, then learned.

    seconds = latency + bytes / bandwidth x factor

The bandwidth is that of the first topology level (a label, the most local one first) at which
both endpoints say the same, else the default. What transfers really take is learned as a factor:
the forgetting mean of ``ln(observed / predicted)``, clamped so that one stall says little. A pair
that was seen often enough has its own factor, until then that of its *domain* (the level and what
both say there) counts. Factors fade back to 1 by e every ``memory`` seconds without news, so that
what a storm has taught does not keep a pair apart for good.
"""

from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass
from math import exp, log
from typing import Final

from routing.endpoint import Endpoint

_GAIN: Final = 0.15
_CLAMP: Final = 1.0
_FARTHEST: Final = 3.0  # a factor is within e^-3 .. e^3
_OWN: Final = 3  # observations from which a pair's own factor counts
_MEMORY: Final = 120.0
_MOST_PAIRS: Final = 4_096
_LEAST_SECONDS: Final = 1e-4


@dataclass(frozen=True, slots=True)
class Link:
    """A topology level: what endpoints with the same value of ``label`` reach, in bytes/s."""

    label: str
    bytes_per_second: float


class _Factor:
    __slots__ = ("at", "log_factor", "seen")

    def __init__(self, now: float) -> None:
        self.log_factor = 0.0
        self.seen = 0
        self.at = now

    def value(self, now: float) -> float:
        age = now - self.at
        if age <= 0.0:
            return exp(self.log_factor)
        return exp(self.log_factor * exp(-age / _MEMORY))

    def observe(self, error: float, now: float) -> None:
        """``error``: ln(observed / predicted without any factor)."""
        current = log(self.value(now))
        step = min(max(error - current, -_CLAMP), _CLAMP)
        self.seen += 1
        self.log_factor = current + max(_GAIN, 1.0 / (1.0 + self.seen)) * step
        self.log_factor = min(max(self.log_factor, -_FARTHEST), _FARTHEST)
        self.at = now


class Links:
    """Transfer times between endpoints."""

    def __init__(self, default: float, levels: Sequence[Link], latency: float) -> None:
        self._default = default
        self._levels = tuple(levels)
        self._latency = latency
        self._domains: OrderedDict[str, _Factor] = OrderedDict()
        self._pairs: OrderedDict[tuple[str, str], _Factor] = OrderedDict()
        self.bytes = 0.0
        """Moved so far, as far as it was told."""
        self.seconds = 0.0
        """What that took, summed up."""
        self.predicted = 0.0
        """And what they were predicted to take."""
        self.transfers = 0

    def level(self, source: Endpoint, sink: Endpoint) -> tuple[str, float]:
        """The domain that two endpoints share (empty: none), and its bandwidth as configured."""
        if self._levels and source.labels and sink.labels:
            here, there = dict(source.labels), dict(sink.labels)
            for link in self._levels:
                value = here.get(link.label)
                if value is not None and there.get(link.label) == value:
                    return f"{link.label}={value}", link.bytes_per_second
        return "", self._default

    def seconds_of(self, source: Endpoint, sink: Endpoint, amount: float, now: float) -> float:
        """Predicted seconds for ``amount`` bytes from one to the other; 0 for nothing."""
        if amount <= 0.0:
            return 0.0
        domain, rate = self.level(source, sink)
        return (self._latency + amount / rate) * self._factor(source, sink, domain, now)

    def observe(
        self, source: Endpoint, sink: Endpoint, amount: float, seconds: float, now: float
    ) -> None:
        """``amount`` bytes took so long. Nothing moved, or no time told, teaches nothing."""
        if not (amount > 0.0 and seconds > 0.0):
            return
        self.bytes += amount
        self.seconds += seconds
        self.transfers += 1
        domain, rate = self.level(source, sink)
        error = log(max(seconds, _LEAST_SECONDS) / (self._latency + amount / rate))
        known = self._domains.get(domain)
        if known is None:
            known = self._domains[domain] = _Factor(now)
            if len(self._domains) > _MOST_PAIRS:
                self._domains.popitem(last=False)
        key = (source.name, sink.name)
        pair = self._pairs.get(key)
        if pair is None:
            pair = self._pairs[key] = _Factor(now)
            if len(self._pairs) > _MOST_PAIRS:
                self._pairs.popitem(last=False)
        known.observe(error, now)
        pair.observe(error, now)
        self._pairs.move_to_end(key)

    def _factor(self, source: Endpoint, sink: Endpoint, domain: str, now: float) -> float:
        pair = self._pairs.get((source.name, sink.name))
        if pair is not None and pair.seen >= _OWN:
            return pair.value(now)
        known = self._domains.get(domain)
        return 1.0 if known is None else known.value(now)
