"""What operators see of a gateway: metrics and pages of the parts that it has."""

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

from aiohttp import web
from prometheus_client.registry import Collector

from endpoints.kubernetes.cache import Cache
from gateway.admin.admissionmetrics import AdmissionMetrics, admission_view
from gateway.admin.application import make_app
from gateway.admin.discoverymetrics import DiscoveryMetrics
from gateway.admin.pickermetrics import PickerMetrics
from gateway.admin.scaling import ScalingMetrics, scaling_view
from gateway.admission import Admissions
from gateway.brains import Brains
from gateway.capacity import Capacity
from gateway.pickerbooks import PickerBooks
from gateway.readiness import Readiness
from gateway.telemetry import Telemetry
from routing.router import Router


@dataclass(frozen=True, slots=True)
class Parts:
    """The parts of a gateway that tell something; None: it has no such part.

    ``picked``: the pools that Envoy is served from, by the names that dashboards know;
    ``watched``: what is followed of a cluster; ``certificate_end``: see `make_app`.
    """

    brains: Brains
    telemetry: Telemetry
    readiness: Readiness
    now: Callable[[], float]
    picked: Callable[[], Iterable[tuple[str, Router]]]
    watched: Callable[[], Iterable[Cache]]
    certificate_end: Callable[[], float | None]
    books: PickerBooks | None
    capacity: Capacity | None
    admissions: Admissions | None


def operators_app(parts: Parts) -> web.Application:
    """The operators' HTTP application."""
    capacity = parts.capacity
    return make_app(
        parts.brains,
        parts.telemetry,
        parts.readiness,
        parts.now,
        parts.certificate_end,
        more=tuple(_metrics(parts)),
        holding=lambda: capacity is not None and capacity.rooms.open,
        debug=_pages(parts),
    )


def short_names(brains: Brains) -> Iterator[tuple[str, Router]]:
    """The pools of a cluster by their names alone, where these tell them apart."""
    names = [name.rpartition("/")[2] for name, _ in brains]
    for name, router in brains:
        short = name.rpartition("/")[2]
        yield short if names.count(short) == 1 else name, router


def _metrics(parts: Parts) -> Iterator[Collector]:
    if parts.books is not None:
        yield PickerMetrics(parts.books, parts.telemetry, parts.picked)
    yield DiscoveryMetrics(parts.watched)
    if parts.capacity is not None:
        yield ScalingMetrics(parts.capacity.controllers, parts.capacity.rooms)
    if parts.admissions is not None:
        yield AdmissionMetrics(parts.admissions, parts.now)


def _pages(parts: Parts) -> dict[str, Callable[[], object]]:
    pages: dict[str, Callable[[], object]] = {}
    if (capacity := parts.capacity) is not None:
        pages["scaling"] = lambda: scaling_view(capacity.controllers, capacity.rooms, parts.now())
    if (admissions := parts.admissions) is not None:
        pages["admission"] = lambda: admission_view(admissions, parts.now())
    return pages
