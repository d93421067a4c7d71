"""What is counted about requests, cheaply enough to count it for every one of them.

Plain integers, written by the event loop's one thread and read when the exporter asks.
Labels never take values that clients can invent: a model is counted under its name only
once the fleet is known to serve it.
"""

from bisect import bisect_left
from collections.abc import Callable, Iterable
from typing import Final

from gateway.record import RequestRecord, SplitRecord

UNKNOWN_MODEL: Final = "unknown"
"""The label of every model that the fleet does not serve."""
OTHER_MODEL: Final = "other"
"""The label of the models beyond the first so many."""
MAX_MODELS: Final = 500
"""Models counted apart: adapters may come and go for as long as the gateway runs."""

_REQUEST_BOUNDS: tuple[float, ...] = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 25.0, 50.0, 100.0, 250.0, 600.0),
)
_FIRST_TOKEN_BOUNDS: tuple[float, ...] = (
    *(0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 320.0),
)
_INTER_TOKEN_BOUNDS: tuple[float, ...] = (
    *(0.001, 0.0025, 0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05),
    *(0.075, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5),
)
_DECISION_BOUNDS: tuple[float, ...] = (
    *(0.00001, 0.000025, 0.00005, 0.0001, 0.0002, 0.0005),
    *(0.001, 0.0025, 0.005, 0.01, 0.05),
)


class Histogram:
    """Counts by upper bound (inclusive, as Prometheus has it), and the sum of what was seen."""

    __slots__ = ("bounds", "counts", "sum")

    def __init__(self, bounds: tuple[float, ...]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        """How many fell into each bucket alone; the last one has no bound."""
        self.sum = 0.0

    def observe(self, value: float) -> None:
        """Count one value."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.sum += value


class CachedTokens:
    """How much of the prompts was in a cache, as one source has it; both in tokens.

    ``queried`` sums the prompts of exactly those requests that the source said something
    about, so that ``cached / queried`` is a hit ratio also when some engines report nothing.
    """

    __slots__ = ("cached", "queried")

    def __init__(self) -> None:
        self.queried = 0
        self.cached = 0.0

    def add(self, prompt_tokens: int, cached_tokens: float) -> None:
        """Count one request; no more can be cached than was asked for."""
        self.queried += prompt_tokens
        self.cached += cached_tokens if cached_tokens < prompt_tokens else prompt_tokens


class ModelTelemetry:
    """What is counted apart for each model."""

    __slots__ = (
        "completion_tokens",
        "first_token_seconds",
        "inter_token_seconds",
        "predicted",
        "prompt_tokens",
        "reported",
        "request_seconds",
        "requests",
    )

    def __init__(self) -> None:
        self.requests: dict[tuple[str, int], int] = {}
        """Finished requests by API name and status."""
        self.request_seconds = Histogram(_REQUEST_BOUNDS)
        """Whole duration of the requests that an endpoint answered well."""
        self.first_token_seconds = Histogram(_FIRST_TOKEN_BOUNDS)
        self.inter_token_seconds = Histogram(_INTER_TOKEN_BOUNDS)
        """One value a request: the mean time between its events."""
        self.prompt_tokens = 0
        self.completion_tokens = 0
        self.predicted = CachedTokens()
        """As decisions expected it."""
        self.reported = CachedTokens()
        """As engines reported it."""


class SplitTelemetry:
    """What is counted of requests whose prompt another endpoint was to compute."""

    __slots__ = (
        "failures",
        "fallbacks",
        "prefill_seconds",
        "requests",
        "stranded_tokens",
        "transfer_bytes",
        "transfer_seconds",
    )

    def __init__(self) -> None:
        self.requests: dict[str, int] = {}
        """By connector; those that were never sent anywhere have none."""
        self.failures: dict[str, int] = {}
        """Prefill legs that failed, by reason."""
        self.fallbacks: dict[str, int] = {}
        """Requests whose decode endpoint computed the prompt after all, by cause."""
        self.prefill_seconds = Histogram(_FIRST_TOKEN_BOUNDS)
        """From sending a prefill leg to its answer."""
        self.transfer_seconds = Histogram(_REQUEST_BOUNDS)
        self.transfer_bytes = 0.0
        self.stranded_tokens = 0

    def finished(self, split: SplitRecord) -> None:
        """A split request is over."""
        self.requests[split.connector] = self.requests.get(split.connector, 0) + 1
        for reason in split.prefill_failures:
            self.failures[reason] = self.failures.get(reason, 0) + 1
        if split.fallback:
            self.fallbacks[split.fallback] = self.fallbacks.get(split.fallback, 0) + 1
        if split.prefill_seconds is not None:
            self.prefill_seconds.observe(split.prefill_seconds)
        if split.transfer_seconds is not None:
            self.transfer_seconds.observe(split.transfer_seconds)
        if split.transfer_bytes is not None:
            self.transfer_bytes += split.transfer_bytes
        self.stranded_tokens += split.stranded_tokens


class EndpointTelemetry:
    """What is counted apart for each endpoint."""

    __slots__ = ("failures", "requests")

    def __init__(self) -> None:
        self.requests = 0
        """Finished requests that it was the last to be sent."""
        self.failures = 0
        """Attempts that failed there, also those that another endpoint made good."""


def _knows_none(_model: str) -> bool:
    return False


class Telemetry:
    """Counters and histograms of one gateway.

    ``knows`` says whether the fleet serves a model (`routing.fleet.Fleet.knows`). It is asked
    only about names that no endpoint has been sent yet; without it, such a name counts as
    unknown. ``max_models`` are counted apart.
    """

    def __init__(
        self, knows: Callable[[str], bool] = _knows_none, max_models: int = MAX_MODELS
    ) -> None:
        self._knows = knows
        self._max_models = max_models
        self.models: dict[str, ModelTelemetry] = {}
        """By label: names that the fleet serves, "" for calls without one, unknown, other."""
        self.endpoints: dict[str, EndpointTelemetry] = {}
        self.errors: dict[str, int] = {}
        """Requests that did not go well, by reason."""
        self.retries: dict[str, int] = {}
        """Failed attempts that another one followed, by reason."""
        self.decision_seconds = Histogram(_DECISION_BOUNDS)
        self.splits = SplitTelemetry()
        self.in_flight = 0

    def started(self) -> None:
        """A request is there."""
        self.in_flight += 1

    def finished(self, record: RequestRecord) -> None:
        """A request is over; each one that started is reported here once."""
        self.in_flight -= 1
        model = self.models.get(record.model) or self._model(record)
        key = (record.api, record.status)
        model.requests[key] = model.requests.get(key, 0) + 1
        if record.decision_seconds is not None:
            self.decision_seconds.observe(record.decision_seconds)
        if record.endpoint:
            self._endpoint(record.endpoint).requests += 1
            if not record.reason:
                model.request_seconds.observe(record.duration)
        if record.reason:
            self.errors[record.reason] = self.errors.get(record.reason, 0) + 1
        if record.ttft is not None:
            model.first_token_seconds.observe(record.ttft)
            if record.inter_token is not None:
                model.inter_token_seconds.observe(record.inter_token)
        if record.prompt_tokens is not None:
            model.prompt_tokens += record.prompt_tokens
            if record.cached_tokens is not None:
                model.reported.add(record.prompt_tokens, record.cached_tokens)
            if record.predicted_cached_tokens is not None:
                model.predicted.add(record.prompt_tokens, record.predicted_cached_tokens)
        if record.completion_tokens is not None:
            model.completion_tokens += record.completion_tokens
        if record.split is not None:
            self.splits.finished(record.split)
        for reason in record.retries:
            self.retries[reason] = self.retries.get(reason, 0) + 1
        for endpoint in record.failed_endpoints:
            self._endpoint(endpoint).failures += 1

    def requests_of(self, endpoint: str) -> int:
        """Finished requests that the endpoint was the last to be sent."""
        known = self.endpoints.get(endpoint)
        return 0 if known is None else known.requests

    def keep_endpoints(self, names: Iterable[str]) -> None:
        """Forget all endpoints but ``names``; to be told when the fleet changed.

        In a cluster names never recur: without this the books would grow with every pod.
        """
        kept = set(names)
        self.endpoints = {name: seen for name, seen in self.endpoints.items() if name in kept}

    def _model(self, record: RequestRecord) -> ModelTelemetry:
        """The books of a model that has none under its name so far."""
        label = record.model
        if label:
            # A request that an endpoint was sent names a model that the fleet serves.
            if not record.endpoint and not self._knows(label):
                label = UNKNOWN_MODEL
            elif len(self.models) >= self._max_models:
                label = OTHER_MODEL
        known = self.models.get(label)
        if known is None:
            known = self.models[label] = ModelTelemetry()
        return known

    def _endpoint(self, name: str) -> EndpointTelemetry:
        known = self.endpoints.get(name)
        if known is None:
            known = self.endpoints[name] = EndpointTelemetry()
        return known
