"""What one request leaves behind: filled by the proxy, read by telemetry and the access log."""

from dataclasses import dataclass


@dataclass(slots=True, init=False)
class SplitRecord:
    """What became of a request whose prompt another endpoint was to compute."""

    connector: str
    """The dialect in which the KV cache was handed over."""
    prefill_endpoint: str
    """The last endpoint that was sent the prompt."""
    prefill_seconds: float | None
    """From sending the prefill leg to its answer; None: it was never answered well."""
    prefill_failures: tuple[str, ...]
    """Why prefill legs failed, one word each."""
    fallback: str
    """Why the decode endpoint computed the prompt after all; empty when it did not."""
    transfer_seconds: float | None
    transfer_bytes: float | None
    """What moving the KV cache took, as far as it shows in the time to the first token."""
    stranded_tokens: int
    """Prompt tokens whose KV stayed pinned for nobody."""

    def __init__(self) -> None:
        self.connector = ""
        self.prefill_endpoint = ""
        self.prefill_seconds = None
        self.prefill_failures = ()
        self.fallback = ""
        self.transfer_seconds = None
        self.transfer_bytes = None
        self.stranded_tokens = 0


@dataclass(slots=True, init=False)
class RequestRecord:
    """One request from its first byte to its end. Times are seconds, sizes bytes.

    What is not known is None, never 0: an engine that reports no cached tokens has not
    reported that there were none.
    """

    request_id: str
    client: str
    """The client's IP address."""
    method: str
    path: str
    """Without the query string."""
    started: float
    """When the request's first byte came, on the clock of the event loop."""
    api: str
    """The operation's name (``chat``, ``completions``, ...); empty when there is none."""
    model: str
    """As the client named it, so anything at all; empty when it named none."""
    streamed: bool
    status: int
    """As the client saw it; 499 when it left before the end."""
    reason: str
    """Why it did not go well, one short stable word (``client_gone``, ...); empty when it did."""
    endpoint: str
    """The last endpoint that was sent the request; empty when none was."""
    attempts: int
    """Tries at endpoints, connecting included."""
    retries: tuple[str, ...]
    """For each attempt that another one followed, why it failed."""
    failed_endpoints: tuple[str, ...]
    """The endpoint of each failed attempt, the last one included."""
    bytes_in: int
    bytes_out: int
    """Bytes of the bodies."""
    ttft: float | None
    """From ``started`` to the first piece of a streamed answer."""
    duration: float
    """From ``started`` to the end."""
    output_events: int
    """Events of the answer's stream, about one a token."""
    inter_token: float | None
    """Mean time between two events of the stream."""
    waited_seconds: float | None
    """In the gateway, until an endpoint had room or was there; None: it did not have to."""
    decision_seconds: float | None
    """What choosing the endpoint took."""
    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None
    """Counts as the engine reported them."""
    predicted_cached_tokens: float | None
    predicted_ttft: float | None
    """What the decision expected of the endpoint that it chose."""
    split: SplitRecord | None
    """None: one endpoint was to do it all."""

    def __init__(
        self,
        request_id: str,
        client: str,
        method: str,
        path: str,
        started: float,
        *,
        bytes_in: int = 0,
        api: str = "",
        model: str = "",
        status: int = 0,
        endpoint: str = "",
        attempts: int = 0,
        duration: float = 0.0,
    ) -> None:
        # Written out: once compiled it takes a tenth of the time of a generated one.
        self.request_id = request_id
        self.client = client
        self.method = method
        self.path = path
        self.started = started
        self.api = api
        self.model = model
        self.streamed = False
        self.status = status
        self.reason = ""
        self.endpoint = endpoint
        self.attempts = attempts
        self.retries = ()
        self.failed_endpoints = ()
        self.bytes_in = bytes_in
        self.bytes_out = 0
        self.ttft = None
        self.duration = duration
        self.output_events = 0
        self.inter_token = None
        self.waited_seconds = None
        self.decision_seconds = None
        self.prompt_tokens = None
        self.cached_tokens = None
        self.completion_tokens = None
        self.predicted_cached_tokens = None
        self.predicted_ttft = None
        self.split = None
