"""Who waits when a pool is busy, and in which order."""

from gateway.settings.types import Bytes, Count, CountOrZero, Seconds, Section, Text, Weight
from routing.admission.queue import QueueBounds


class AdmissionSettings(Section, frozen=True):
    """How much may wait, for how long, and when an endpoint has room; see `routing.admission`.

    ``longest_wait``: an endpoint has room while a newcomer's prompt would begin within so long.
    """

    max_requests: Count = 1_000
    max_bytes: Bytes = 268_435_456
    patience: Seconds = 60.0
    longest_wait: Seconds = 1.0
    oldest_every: CountOrZero = 20
    weights: dict[Text, Weight] = {}

    def bounds(self) -> QueueBounds:
        """The same for the queue."""
        return QueueBounds(
            requests=self.max_requests,
            bytes=self.max_bytes,
            patience=self.patience,
            oldest_every=self.oldest_every,
            weights=self.weights,
        )
