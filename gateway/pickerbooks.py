"""What an endpoint picker counts, in the terms of the inference extension's own metrics.

Filled by the external processor, exported by `gateway.admin.pickermetrics` under the names that
dashboards for the reference endpoint picker know. Our own metrics (`gateway.telemetry`) count the
same requests in our terms; nothing is counted twice under one name.
"""

from typing import NamedTuple

from gateway.objectives import DEFAULT_TENANT
from gateway.record import RequestRecord
from gateway.telemetry import Histogram

MOST_LABELS = 1_000
"""Values of a label that clients choose; further ones count as `OTHER`, as in the reference."""
OTHER = "other"

_SECONDS = (
    *(0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0),
    *(25.0, 50.0, 100.0, 250.0, 600.0, 1_200.0, 3_600.0),
)
_TOKEN_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_BYTES = tuple(float(1 << power) for power in range(6, 31, 2))
_TOKENS = tuple(float(1 << power) for power in range(3, 21))


class Flow(NamedTuple):
    """Whose request it is, in the labels that all of a request's metrics have."""

    model: str
    """As asked for."""
    target: str
    """As the endpoint gets it."""
    fairness: str = DEFAULT_TENANT
    priority: int = 0


class Rewrite(NamedTuple):
    """A model that was replaced by another; ``name`` is what decided so."""

    name: str
    model: str
    target: str


class FlowBooks:
    """What is counted of one flow. What engines or Envoy do not tell is not observed."""

    __slots__ = (
        "cached_tokens",
        "duration",
        "errors",
        "first_token",
        "input_tokens",
        "normalized",
        "output_tokens",
        "per_token",
        "request_bytes",
        "requests",
        "response_bytes",
        "running",
    )

    def __init__(self) -> None:
        self.requests = 0
        self.running = 0
        self.errors: dict[str, int] = {}
        """By canonical code."""
        self.duration = Histogram(_SECONDS)
        self.request_bytes = Histogram(_BYTES)
        self.response_bytes = Histogram(_BYTES)
        self.input_tokens = Histogram(_TOKENS)
        self.output_tokens = Histogram(_TOKENS)
        self.cached_tokens = Histogram(_TOKENS)
        self.normalized = Histogram(_TOKEN_SECONDS)
        """Duration over output tokens."""
        self.first_token = Histogram(_SECONDS)
        self.per_token = Histogram(_TOKEN_SECONDS)


_CODES = {
    400: "BadRequest",
    401: "Unauthorized",
    403: "Forbidden",
    404: "NotFound",
    429: "ResourceExhausted",
    499: "ClientClosedRequest",
    500: "Internal",
    503: "ServiceUnavailable",
}
"""HTTP status -> the reference's canonical names; others are named by their number."""


class PickerBooks:
    """The books of one external processor. ``pool`` is the name that its pool goes by."""

    def __init__(self, pool: str) -> None:
        self.pool = pool
        self.flows: dict[Flow, FlowBooks] = {}
        self.rewrites: dict[Rewrite, int] = {}
        self.attempts: dict[tuple[str, str], int] = {}
        """Choices that were made, by target model and endpoint."""
        self.rejected: dict[str, int] = {}
        """Requests that no endpoint was found for, by target model."""
        self._names: set[str] = set()
        self._fairness: set[str] = set()

    def flow(self, model: str, target: str, fairness: str, priority: int) -> Flow:
        """The flow of a request, with labels that clients can't multiply without end."""
        return Flow(
            bounded(model, self._names),
            bounded(target, self._names),
            bounded(fairness, self._fairness),
            priority,
        )

    def started(self, flow: Flow) -> None:
        """A request of that flow was read."""
        books = self._of(flow)
        books.requests += 1
        books.running += 1

    def chosen(self, flow: Flow, endpoint: str | None) -> None:
        """An endpoint was chosen, or None could be."""
        if endpoint is None:
            self.rejected[flow.target] = self.rejected.get(flow.target, 0) + 1
        else:
            key = (flow.target, endpoint)
            self.attempts[key] = self.attempts.get(key, 0) + 1

    def rewritten(self, rewrite: Rewrite) -> None:
        """A model was replaced."""
        name = Rewrite(rewrite.name, bounded(rewrite.model, self._names), rewrite.target)
        self.rewrites[name] = self.rewrites.get(name, 0) + 1

    def finished(self, flow: Flow, record: RequestRecord) -> None:
        """A request that had started is over."""
        books = self._of(flow)
        books.running -= 1
        books.request_bytes.observe(record.bytes_in)
        if record.status >= 400:
            code = _CODES.get(record.status, str(record.status))
            books.errors[code] = books.errors.get(code, 0) + 1
            return
        books.duration.observe(record.duration)
        if record.bytes_out:
            books.response_bytes.observe(record.bytes_out)
        if record.ttft is not None:
            books.first_token.observe(record.ttft)
        if record.inter_token is not None:
            books.per_token.observe(record.inter_token)
        if record.prompt_tokens is not None:
            books.input_tokens.observe(record.prompt_tokens)
        if record.cached_tokens is not None:
            books.cached_tokens.observe(record.cached_tokens)
        if record.completion_tokens is not None:
            books.output_tokens.observe(record.completion_tokens)
            if record.completion_tokens:
                books.normalized.observe(record.duration / record.completion_tokens)

    def keep_endpoints(self, names: set[str]) -> None:
        """Forget all endpoints but ``names``: in a cluster they never recur."""
        self.attempts = {key: count for key, count in self.attempts.items() if key[1] in names}

    def _of(self, flow: Flow) -> FlowBooks:
        known = self.flows.get(flow)
        if known is None:
            known = self.flows[flow] = FlowBooks()
        return known


def bounded(value: str, seen: set[str]) -> str:
    """The value, or `OTHER` when too many were seen before it."""
    if value in seen:
        return value
    if len(seen) >= MOST_LABELS:
        return OTHER
    seen.add(value)
    return value
