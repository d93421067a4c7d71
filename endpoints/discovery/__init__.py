"""Discovery: which endpoints should exist, and making the fleet agree with it."""

from endpoints.discovery.keeper import FleetKeeper
from endpoints.discovery.reconcile import Changes, reconcile
from endpoints.discovery.source import Source
from endpoints.discovery.static import StaticSource, endpoint_from_url

__all__ = [
    "Changes",
    "FleetKeeper",
    "Source",
    "StaticSource",
    "endpoint_from_url",
    "reconcile",
]
