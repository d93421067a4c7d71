"""Header fields that only the gateway may set, whichever of its bodies a request came through."""

from collections.abc import Iterable

ONLY_OURS = (
    b"x-gateway-",
    b"x-prefiller-",
    b"x-encoder-hosts-ports",
    b"x-kv-cache-source-",
    b"x-data-parallel-",
    b"x-inferway-",
)
"""How their names begin: they tell an engine or a sidecar where a request goes or where its KV
comes from."""


def internal_fields(names: Iterable[bytes]) -> list[bytes]:
    """Which of the names a client must not send; some servers read an underscore as a hyphen."""
    return [name for name in names if name.replace(b"_", b"-").startswith(ONLY_OURS)]


FROM_PICKERS = tuple(name for name in ONLY_OURS if name not in {b"x-gateway-", b"x-inferway-"})
"""Of those, what an endpoint picker of somebody else may tell a sidecar."""


def for_pickers(name: bytes) -> bool:
    """Whether somebody else's picker may be shown a client's field: objectives, say, but nothing
    that only a picker may say.
    """
    plain = name.replace(b"_", b"-")
    if plain.startswith(b"x-gateway-"):
        return not plain.startswith(b"x-gateway-destination-")
    return not plain.startswith(ONLY_OURS)
