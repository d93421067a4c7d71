"""What is known of a cluster's objects, and for how long it has not been news."""

from collections.abc import Callable, Iterable, Iterator

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from endpoints.kubernetes.cache import Cache

_LABELS = ("namespace", "resource", "selector")


class DiscoveryMetrics(Collector):
    """One sample for each list that is followed; ``caches`` tells which there are now."""

    def __init__(self, caches: Callable[[], Iterable[Cache]]) -> None:
        self._caches = caches

    def collect(self) -> Iterator[Metric]:
        """The families; each is complete when it is given."""
        objects = GaugeMetricFamily(
            "inferway_discovery_objects", "Objects known in the cluster.", labels=_LABELS
        )
        stale = GaugeMetricFamily(
            "inferway_discovery_stale_seconds",
            "For how long the known objects have not been those of now; 0 when they are.",
            labels=_LABELS,
        )
        lists = GaugeMetricFamily(
            "inferway_discovery_lists",
            "Complete lists; more than one: a watch could not go on.",
            labels=_LABELS,
        )
        for cache in self._caches():
            if not cache.listed and not cache.required:
                continue
            labels = (cache.namespace or "", cache.resource.name, cache.label_selector)
            objects.add_metric(labels, len(cache.objects))
            stale.add_metric(labels, cache.stale_seconds)
            lists.add_metric(labels, cache.lists)
        yield objects
        yield stale
        yield lists
