"""KV-cache events: engines tell what they store and remove, and the fleet's view follows.

From the wire to the view: ``subscriber`` reads messages, ``sequence`` judges their numbers,
``decoding`` reads their payload, ``translation`` finds our hashes for the engine's, and
`routing.prefix.residency.Residency` holds the outcome. ``feed`` joins these without a socket;
``watch`` does it for the whole fleet.
"""

from endpoints.events.settings import EventSettings
from endpoints.events.watch import EventWatch, FeedView, new_residency

__all__ = ["EventSettings", "EventWatch", "FeedView", "new_residency"]
