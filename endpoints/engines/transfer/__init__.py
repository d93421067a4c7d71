"""How KV caches travel between servers: one dialect an engine and connector.

| dialect | order | prefill leg | decode leg | they meet by |
|---|---|---|---|---|
| nixl | sequential | ``do_remote_decode``, 1 token | its params, verbatim | request id inside |
| example, lmcache | sequential | 1 token | unchanged | the prompt's content |
| mooncake | concurrent | ``transfer_id``, 1 token | id, bootstrap address, engine | transfer id |
| mooncake-old | concurrent | ``do_remote_decode``, 1 token | bootstrap host and port | request id |
| p2pnccl | sequential | 1 token | unchanged | addresses in the request id |
| offloading | sequential | ``remote_decoder``, 1 token | ``remote_prefiller`` | an id of ours |
| sglang | concurrent | bootstrap host, port, room | the same | the room |

A new one is one module with a `Dialect`, listed here.
"""

import difflib
from collections.abc import Mapping
from types import MappingProxyType
from typing import Final

from endpoints.engines.transfer.bootstrap import Bootstrap
from endpoints.engines.transfer.content import LMCache, SharedStorage
from endpoints.engines.transfer.dialect import Dialect
from endpoints.engines.transfer.mooncake import Mooncake, OlderMooncake
from endpoints.engines.transfer.nixl import Nixl
from endpoints.engines.transfer.offloading import Offloading
from endpoints.engines.transfer.p2pnccl import P2pNccl
from routing.endpoint import Endpoint

__all__ = ["BY_ENGINE", "DIALECTS", "Dialect", "dialect_named", "dialect_of"]

DIALECTS: Final[Mapping[str, Dialect]] = MappingProxyType(
    {
        dialect.name: dialect
        for dialect in (
            Nixl(),
            SharedStorage(),
            LMCache(),
            Mooncake(),
            OlderMooncake(),
            P2pNccl(),
            Offloading(),
            Bootstrap(),
        )
    }
)
"""All dialects by name."""

BY_ENGINE: Final[Mapping[str, str]] = MappingProxyType({"vllm": "nixl", "sglang": "sglang"})
"""What an engine speaks when no label says otherwise."""

_NAMES: Final = MappingProxyType(
    {name: one for one in DIALECTS.values() for name in (one.name, *one.aliases)}
)


def dialect_named(name: str) -> Dialect:
    """The dialect that a label or an option names; ValueError, with close matches, otherwise."""
    known = _NAMES.get(name)
    if known is None:
        close = difflib.get_close_matches(name, _NAMES, n=1)
        hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(DIALECTS)}"
        raise ValueError(f"KV connector {name!r} is not known; {hint}")
    return known


def dialect_of(endpoint: Endpoint, engine: str | None) -> Dialect | None:
    """What an endpoint speaks, by its label or else by its engine; None: nothing we know."""
    if endpoint.connector:
        return _NAMES.get(endpoint.connector)
    return DIALECTS.get(BY_ENGINE.get(engine or "", ""))
