"""Probes: visiting every endpoint on its own schedule and telling the fleet what was seen."""

from endpoints.probes.prober import FleetProber
from endpoints.probes.settings import ProbeSettings

__all__ = ["FleetProber", "ProbeSettings"]
