"""The contract between an API family and the rest of the gateway."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from routing.request import Chain


@dataclass(slots=True, init=False)
class Call:
    """What the gateway needs to know of one request body; the body itself stays untouched.

    ``model`` is None only for passthrough calls that name none (a GET, say): those go to
    any endpoint. ``chains``, ``prompt_tokens`` and ``exact_tokens``: see `routing.request.Request`.
    ``internal_fields`` names the fields in the body that only the gateway may set.
    ``token_ids`` is a single prompt that came as token ids, and ``cache_salt`` what keeps the
    request's cache apart: with them prompts are compared with what engines report.
    """

    model: str | None
    streamed: bool
    chains: tuple[Chain, ...]
    prompt_tokens: float
    exact_tokens: bool
    max_output_tokens: int | None
    priority: int
    internal_fields: tuple[str, ...]
    token_ids: Sequence[int] | None
    cache_salt: str | None

    def __init__(
        self,
        model: str | None,
        *,
        streamed: bool = False,
        chains: tuple[Chain, ...] = (),
        prompt_tokens: float = 0.0,
        exact_tokens: bool = False,
        max_output_tokens: int | None = None,
        priority: int = 0,
        internal_fields: tuple[str, ...] = (),
        token_ids: Sequence[int] | None = None,
        cache_salt: str | None = None,
    ) -> None:
        # Written out: once compiled it takes a tenth of the time of a generated one.
        self.model = model
        self.streamed = streamed
        self.chains = chains
        self.prompt_tokens = prompt_tokens
        self.exact_tokens = exact_tokens
        self.max_output_tokens = max_output_tokens
        self.priority = priority
        self.internal_fields = internal_fields
        self.token_ids = token_ids
        self.cache_salt = cache_salt


@dataclass(slots=True, init=False)
class Usage:
    """Token counts an engine reported; None: not reported (not zero)."""

    prompt_tokens: int | None
    cached_tokens: int | None
    completion_tokens: int | None

    def __init__(
        self,
        prompt_tokens: int | None = None,
        cached_tokens: int | None = None,
        completion_tokens: int | None = None,
    ) -> None:
        self.prompt_tokens = prompt_tokens
        self.cached_tokens = cached_tokens
        self.completion_tokens = completion_tokens


class ApiError(Exception):
    """An error a client is to see, before it has the shape of an API.

    ``reason`` is the short stable word that metrics and logs use (``unknown_model``,
    ``no_endpoint``, ``invalid_json``, ...); ``param`` names the offending field.
    ``retry_after`` (seconds) becomes the Retry-After header, ``allow`` (methods) the Allow
    header that a 405 must have (RFC 9110 section 15.5.6).
    """

    def __init__(
        self,
        status: int,
        reason: str,
        message: str,
        *,
        param: str | None = None,
        retry_after: int | None = None,
        allow: str | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.param = param
        self.retry_after = retry_after
        self.allow = allow


class Api(Protocol):
    """One API operation of one family: how to read its body and how its errors look."""

    @property
    def name(self) -> str:
        """The operation's name in metrics and logs, for example ``chat``."""

    def read(self, body: bytes) -> Call:
        """Look at a request body once; raise `ApiError` (400) for one that can't be served."""

    def error_body(self, error: ApiError) -> bytes:
        """The JSON body of an error response."""

    def stream_error(self, error: ApiError) -> bytes:
        """The server-sent events that end an already started stream honestly."""

    def usage(self, tail: bytes) -> Usage | None:
        """Token counts from the last bytes of a response, or None when they hold none."""
