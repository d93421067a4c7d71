"""The contract of an engine: where its pages are and how its metrics read."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from endpoints.engines.exposition import Exposition, Scrape
from routing.fleet import Load

PROCESS_START = "process_start_time_seconds"
"""The standard metric of Prometheus clients: when the process began, in Unix seconds."""

MODELS_PATH = "/v1/models"
"""Every engine here speaks the OpenAI API, so the list of models is at one place."""


@dataclass(frozen=True, slots=True)
class CacheShape:
    """Size of a KV cache: ``blocks`` blocks of ``block_tokens`` tokens each."""

    block_tokens: int
    blocks: int


@dataclass(frozen=True, slots=True)
class Facts:
    """What an engine tells on a JSON page of its own.

    ``keys`` are the top-level keys by which the page is recognised as this engine's: the
    page is an object that has them all (and, when ``only``, no others). ``cache`` reads
    the size of the KV cache from the page, or None when it does not tell.
    """

    path: str
    keys: frozenset[str]
    only: bool = False
    cache: Callable[[Mapping[str, object]], CacheShape | None] | None = None

    def recognises(self, page: object) -> bool:
        """Whether this decoded JSON page is the engine's."""
        if not isinstance(page, dict):
            return False
        return self.keys == page.keys() if self.only else self.keys <= page.keys()


@dataclass(frozen=True, slots=True)
class Engine:
    """How one kind of model server is asked how it does.

    ``metrics_paths`` and ``health_paths`` are tried in order: versions differ. The engine is
    recognised by the prefix of its metric names, by the owner it writes into its list of
    models, or by its facts page. ``read`` turns a scrape taken at a time into a `Load`;
    ``counters`` are metrics that only grow while the engine lives. ``metrics_hint`` tells
    a user how to switch the metrics on.
    """

    name: str
    health_paths: tuple[str, ...]
    metrics_paths: tuple[str, ...] = ()
    metric_prefixes: tuple[str, ...] = ()
    metrics: frozenset[str] = frozenset()
    counters: frozenset[str] = frozenset()
    read: Callable[[Scrape, float], Load] | None = None
    owner: str | None = None
    facts: Facts | None = None
    metrics_hint: str = ""
    exposition: Exposition = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        names = self.metrics | self.counters | {PROCESS_START}
        object.__setattr__(self, "exposition", Exposition(names))

    def recognises_metrics(self, page: bytes) -> bool:
        """Whether some line of a metrics page starts with one of the engine's prefixes."""
        return any(
            page.startswith(prefix) or b"\n" + prefix in page
            for prefix in (text.encode() for text in self.metric_prefixes)
        )
