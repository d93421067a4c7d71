"""The contract of a KV-transfer dialect: what two servers are told so that one continues the other.

A request that is split has two legs. The *prefill leg* computes the prompt on one server; the
*decode leg*, the client's own request, runs on another one, which takes the KV cache from the
first. How they find each other differs by engine and connector, and that is all a dialect says:

    leg = dialect.prefill(handover, api)         # what differs in the prefill leg
    leg = dialect.decode(handover, answer)       # what differs in the decode leg

Pure: a dialect never sees a socket, nor the body. It names fields and values, and whoever carries
the request puts them into a body that otherwise stays as the client wrote it.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from types import MappingProxyType
from typing import Final
from urllib.parse import urlsplit

from endpoints.engines.transfer.answer import PrefillAnswer
from routing.endpoint import Endpoint

LEASE_LABEL: Final = "kv-lease"
"""Label of an endpoint: seconds for which it keeps computed KV for a decode leg."""

_HARMLESS: Final = frozenset({b"null", b"false", b"1", b"0"})
WHOLE_FIELDS: Final = frozenset({"n", "best_of", "prompt_logprobs", "use_beam_search", "echo"})
"""Fields of requests that are not split, unless they say null, false, 0 or 1: several answers to
one prompt would each take KV that can be taken once, and what is told about the prompt's own
tokens is known only to who computes them."""


def keeps_whole(name: str, value: bytes) -> bool:
    """Whether a field of the client's, as JSON, asks for what only an unsplit request can give."""
    return name in WHOLE_FIELDS and value not in _HARMLESS


class NoHandoverError(ValueError):
    """The KV can't be handed over; the decode leg computes the prompt itself.

    ``reason`` is a short stable word for metrics (``no_params``, ``incomplete_params``,
    ``no_address``, ...).
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Order(Enum):
    """When the decode leg is sent."""

    SEQUENTIAL = "sequential"
    """After the prefill leg was answered."""
    CONCURRENT = "concurrent"
    """With the prefill leg: the decode server waits for the KV."""


@dataclass(frozen=True, slots=True)
class Edit:
    """What changes in a body: top-level fields and their values as JSON."""

    put: Mapping[str, bytes] = field(default_factory=dict)
    """Set, whether or not the body has them."""
    given: Mapping[str, bytes] = field(default_factory=dict)
    """Set where the body has them, left out where it does not."""
    drop: frozenset[str] = frozenset()
    """Taken out."""


UNCHANGED: Final = Edit()


@dataclass(frozen=True, slots=True)
class Leg:
    """What differs in one leg from the client's request."""

    edit: Edit = UNCHANGED
    headers: tuple[tuple[bytes, bytes], ...] = ()
    request_id: str | None = None
    """The id that both engines must see; None: the request's own."""


@dataclass(frozen=True, slots=True)
class Place:
    """One side of a handover: where it listens, and what its labels say."""

    name: str
    host: str
    """Without brackets."""
    port: int
    labels: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def of(cls, endpoint: Endpoint) -> "Place":
        """The place of an endpoint."""
        parts = urlsplit(endpoint.url)
        port = parts.port or (443 if parts.scheme == "https" else 80)
        return cls(endpoint.name, parts.hostname or "", port, dict(endpoint.labels))

    @property
    def url_host(self) -> str:
        """The host as it stands in URLs: IPv6 in brackets."""
        return f"[{self.host}]" if ":" in self.host else self.host

    def number(self, label: str, default: int) -> int:
        """A label that is a whole number. Raises `NoHandoverError` for one that is none."""
        text = self.labels.get(label)
        if text is None:
            return default
        if not (text.isascii() and text.isdigit()):
            raise NoHandoverError(
                "bad_label", f"label {label} of {self.name!r} is {text!r}; give a whole number"
            )
        return int(text)


@dataclass(frozen=True, slots=True)
class Handover:
    """One try at handing a request's KV from one server to another."""

    prefill: Place
    decode: Place
    request_id: str
    """As the engines see it: a new one for each try."""
    room: int
    """A random number for this try, 0 to 2**63 - 1."""
    facts: Mapping[str, str] = field(default_factory=dict)
    """What the prefill server told on the dialect's page of facts."""


class Dialect:
    """How one connector of one engine hands over KV; the defaults are those of most.

    ``name`` and ``aliases`` are what configurations call it; ``apis`` are the operations whose
    bodies it can go into; ``lease`` is for how many seconds KV waits on the prefill server when
    its labels do not say, None: it lies in a cache like any other and is pinned for nobody.
    """

    name: str = ""
    aliases: tuple[str, ...] = ()
    order: Order = Order.SEQUENTIAL
    apis: frozenset[str] = frozenset({"chat", "completions", "responses", "messages"})
    lease: float | None = None
    alone: bool = True
    """Whether a decode server also answers requests without a prefill leg."""
    restores_usage: bool = False
    """Whether cached tokens in the decode server's usage are to be those of the prefill server."""

    def prefill(self, handover: Handover, api: str) -> Leg:
        """What differs in the prefill leg. Raises `NoHandoverError`."""
        raise NotImplementedError

    def decode(self, handover: Handover, answer: PrefillAnswer | None) -> Leg:
        """What differs in the decode leg; concurrent ones get no answer. `NoHandoverError`."""
        raise NotImplementedError

    def lease_seconds(self, prefill: Place) -> float | None:
        """For how long KV that nobody fetches stays pinned on a prefill server."""
        text = prefill.labels.get(LEASE_LABEL)
        if text is None or self.lease is None:
            return self.lease
        try:
            seconds = float(text)
        except ValueError:
            return self.lease
        return seconds if 0.0 < seconds < float("inf") else self.lease

    def facts_url(self, prefill: Place) -> str | None:
        """A page that the prefill server must be asked once before the first handover."""
        del prefill
        return None

    def read_facts(self, page: bytes) -> Mapping[str, str]:
        """What that page says. Raises ValueError for one that can't be read."""
        del page
        return MappingProxyType({})
