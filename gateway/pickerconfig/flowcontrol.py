"""llm-d's flow control, as bounds of our line before a busy pool (`gateway.admission`).

The same idea: requests wait before the endpoints, by priority. What differs is said in notes: one
fair order instead of policies to choose from, and room that is told by the ledger and learned times
instead of a detector's thresholds. Bands that the file does not name have the default band's
bounds.
"""

import re
from collections.abc import Mapping
from typing import Any, Final

import msgspec

from endpoints.allocation.quantity import NANO, parse_quantity
from gateway.settings import AdmissionSettings, BandSettings

_UNITS: Final[Mapping[str, float]] = {
    "ns": 1e-9,
    "us": 1e-6,
    "µs": 1e-6,
    "ms": 1e-3,
    "s": 1.0,
    "m": 60.0,
    "h": 3_600.0,
}
_PART = re.compile(r"(\d+\.?\d*|\.\d+)(ns|us|µs|ms|s|m|h)")
_WHOLE = re.compile(r"(?:(?:\d+\.?\d*|\.\d+)(?:ns|us|µs|ms|s|m|h))+|0")
_FOREVER: Final = 86_400.0
_NO_BOUND: Final = 1 << 40
_MOST: Final = 1_000_000_000
_BAND_BYTES: Final = 1_000_000_000
"""What a band may hold where the file does not say, as there."""
_LEAST_BYTES: Final = 1_024

FAIRNESS: Final = "global-strict-fairness-policy"
"""Their default: one order for all tenants."""


class _Part(msgspec.Struct, frozen=True, forbid_unknown_fields=True, rename="camel", kw_only=True):
    """A part of the section."""


class _Band(_Part, frozen=True):
    """One priority, or the template of those that are not named."""

    priority: int | None = None
    max_bytes: str | int | float | None = None
    max_requests: int | None = None
    fairness_policy_ref: str | None = None
    ordering_policy_ref: str | None = None


class _FlowControl(_Part, frozen=True):
    """The section ``flowControl``."""

    max_bytes: str | int | float | None = None
    max_requests: int | None = None
    default_request_ttl: str | None = msgspec.field(default=None, name="defaultRequestTTL")
    default_priority_band: _Band | None = None
    priority_bands: tuple[_Band, ...] = ()
    usage_limit_policy_plugin_ref: str | None = None
    enable_eviction: bool | None = None


def admission_of(section: Mapping[str, Any] | None) -> AdmissionSettings:
    """The bounds that a section sets; None: those of the gate without one. ValueError."""
    try:
        wanted = msgspec.convert(section or {}, _FlowControl)
    except msgspec.ValidationError as error:
        raise ValueError(str(error)) from None
    bands: dict[int, BandSettings] = {}
    for at, band in enumerate(wanted.priority_bands):
        where = f"priorityBands[{at}]"
        if band.priority is None:
            raise ValueError(f"{where} has no priority")
        if band.priority in bands:
            raise ValueError(f"{where}: there is a band of priority {band.priority} already")
        bands[band.priority] = _band(band, where)
    other = wanted.default_priority_band or _Band()
    return AdmissionSettings(
        max_requests=_count(wanted.max_requests, "maxRequests") or _MOST,
        max_bytes=_bytes(wanted.max_bytes, "maxBytes") or _NO_BOUND,
        patience=_seconds(wanted.default_request_ttl) or _FOREVER,
        bands=bands,
        other_bands=_band(other, "defaultPriorityBand"),
    )


def notes_on(section: Mapping[str, Any] | None) -> list[str]:
    """What a section asks for and is done differently here."""
    wanted = msgspec.convert(section or {}, _FlowControl)
    bands = [*wanted.priority_bands, wanted.default_priority_band or _Band()]
    notes = []
    if any((band.fairness_policy_ref or FAIRNESS) == FAIRNESS for band in bands):
        notes.append("flowControl: tenants (fairness ids) always get fair shares of the work here")
    if any(band.ordering_policy_ref not in {None, "fcfs-ordering-policy"} for band in bands):
        notes.append("flowControl: a tenant's requests go in order of arrival here")
    return notes


def _band(band: _Band, where: str) -> BandSettings:
    held = _bytes(band.max_bytes, f"{where}.maxBytes")
    return BandSettings(
        max_requests=_count(band.max_requests, f"{where}.maxRequests") or None,
        max_bytes=max(held or _BAND_BYTES, _LEAST_BYTES),
    )


def _count(value: int | None, where: str) -> int | None:
    if value is not None and not 0 <= value <= _MOST:
        raise ValueError(f"{where} is {value}; it must be a whole number from 0 (no bound)")
    return value


def _bytes(value: str | int | float | None, where: str) -> int | None:
    if value is None:
        return None
    try:
        found = parse_quantity(value)
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if found < 0:
        raise ValueError(f"{where} is {value}; it must not be negative")
    return min(max(-(-found // NANO), _LEAST_BYTES), _NO_BOUND) if found else 0


def _seconds(duration: str | None) -> float | None:
    """A duration as Go writes it, ``1m30s``; 0: as long as the client waits."""
    if duration is None:
        return None
    if not _WHOLE.fullmatch(duration):
        raise ValueError(
            f"defaultRequestTTL: {duration!r} is no duration; write it such as 30s or 1m30s"
        )
    found = sum(float(number) * _UNITS[unit] for number, unit in _PART.findall(duration))
    return min(found, _FOREVER)
