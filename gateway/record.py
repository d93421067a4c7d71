"""What one request leaves behind: filled by the proxy, read by telemetry and the access log."""

from dataclasses import dataclass, field


@dataclass(slots=True)
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
    api: str = ""
    """The operation's name (``chat``, ``completions``, ...); empty when there is none."""
    model: str = ""
    """As the client named it, so anything at all; empty when it named none."""
    streamed: bool = False
    status: int = 0
    """As the client saw it; 499 when it left before the end."""
    reason: str = ""
    """Why it did not go well, one short stable word (``client_gone``, ...); empty when it did."""
    endpoint: str = ""
    """The last endpoint that was sent the request; empty when none was."""
    attempts: int = 0
    """Tries at endpoints, connecting included."""
    retries: list[str] = field(default_factory=list)
    """For each attempt that another one followed, why it failed."""
    failed_endpoints: list[str] = field(default_factory=list)
    """The endpoint of each failed attempt, the last one included."""
    bytes_in: int = 0
    bytes_out: int = 0
    """Bytes of the bodies."""
    ttft: float | None = None
    """From ``started`` to the first piece of a streamed answer."""
    duration: float = 0.0
    """From ``started`` to the end."""
    output_events: int = 0
    """Events of the answer's stream, about one a token."""
    inter_token: float | None = None
    """Mean time between two events of the stream."""
    decision_seconds: float | None = None
    """What choosing the endpoint took."""
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    """Counts as the engine reported them."""
    predicted_cached_tokens: float | None = None
    predicted_ttft: float | None = None
    """What the decision expected of the endpoint that it chose."""
