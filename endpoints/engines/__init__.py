"""The engines: how each kind of model server tells its health, models and load.

A new engine is one module with one `Engine` value, listed here.
"""

import difflib
from collections.abc import Mapping
from types import MappingProxyType

from endpoints.engines.engine import CacheShape, Engine, Facts
from endpoints.engines.generic import GENERIC
from endpoints.engines.llamacpp import LLAMACPP
from endpoints.engines.sglang import SGLANG
from endpoints.engines.trtllm import TRTLLM
from endpoints.engines.vllm import VLLM

__all__ = [
    "ENGINES",
    "GENERIC",
    "CacheShape",
    "Engine",
    "Facts",
    "detect",
    "engine_named",
]

ENGINES: Mapping[str, Engine] = MappingProxyType(
    {engine.name: engine for engine in (VLLM, SGLANG, LLAMACPP, TRTLLM, GENERIC)}
)
"""All engines by name, in the order in which detection asks for their pages."""


def engine_named(name: str) -> Engine:
    """The engine that a configuration names; ValueError, with the close matches, otherwise."""
    engine = ENGINES.get(name)
    if engine is None:
        close = difflib.get_close_matches(name, ENGINES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(ENGINES)}"
        raise ValueError(f"engine {name!r} is not known; {hint}")
    return engine


def detect(
    *, metrics: bytes | None = None, owner: str | None = None, facts: Mapping[str, object] = {}
) -> Engine | None:
    """The engine that wrote these pages, by the surest sign present; None when none fits.

    ``metrics`` is a metrics page, ``owner`` the ``owned_by`` in its list of models, and
    ``facts`` the decoded JSON pages by path. Metric names are sure; an owner is
    rarely changed; a facts page is told by its keys.
    """
    for engine in ENGINES.values():
        if metrics is not None and engine.recognises_metrics(metrics):
            return engine
    for engine in ENGINES.values():
        if owner is not None and engine.owner == owner:
            return engine
    for engine in ENGINES.values():
        if engine.facts is not None and engine.facts.recognises(facts.get(engine.facts.path)):
            return engine
    return None
