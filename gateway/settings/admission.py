"""Who waits when a pool is busy, and in which order."""

from gateway.settings.types import (
    Bytes,
    Count,
    CountOrZero,
    Priority,
    Seconds,
    Section,
    Text,
    Weight,
)
from routing.admission.queue import BandBounds, QueueBounds


class BandSettings(Section, frozen=True):
    """How much of one priority may wait, within the bounds of the whole; null: no bound more."""

    max_requests: CountOrZero | None = None
    max_bytes: Bytes | None = None

    def bounds(self) -> BandBounds:
        """The same for the queue."""
        return BandBounds(self.max_requests, self.max_bytes)


class AdmissionSettings(Section, frozen=True):
    """How much may wait, for how long, and when an endpoint has room; see `routing.admission`.

    ``longest_wait``: an endpoint has room while a newcomer's prompt would begin within so long.
    """

    max_requests: Count = 1_000
    max_bytes: Bytes = 268_435_456
    patience: Seconds = 60.0
    longest_wait: Seconds = 1.0
    oldest_every: CountOrZero = 20
    bands: dict[Priority, BandSettings] = {}
    other_bands: BandSettings = BandSettings()
    weights: dict[Text, Weight] = {}

    def bounds(self) -> QueueBounds:
        """The same for the queue."""
        return QueueBounds(
            requests=self.max_requests,
            bytes=self.max_bytes,
            patience=self.patience,
            oldest_every=self.oldest_every,
            bands={priority: band.bounds() for priority, band in self.bands.items()},
            other_bands=self.other_bands.bounds(),
            weights=self.weights,
        )
