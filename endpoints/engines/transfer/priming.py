"""A request that only computes its prompt: one token, whole, one answer.

Sources: llm-d's routing sidecar sets both limits of chats to 1 and takes ``stream_options`` out;
vLLM's example proxies set ``max_completion_tokens`` only where it is given and relax the least
length. Fields that ask for more than one answer, and a least length above 1, would be refused or
computed for nothing.
"""

from collections.abc import Mapping
from typing import Final

from endpoints.engines.transfer.dialect import Edit

_ONE: Final = b"1"
_DROPPED: Final = frozenset({"stream_options", "min_tokens", "min_completion_tokens"})
_GIVEN: Final[Mapping[str, bytes]] = {"max_completion_tokens": _ONE, "n": _ONE, "best_of": _ONE}


def one_token(api: str, put: Mapping[str, bytes] | None = None) -> Edit:
    """The edit for an operation, with the dialect's own fields ``put`` beside."""
    limit = "max_output_tokens" if api == "responses" else "max_tokens"
    own = {} if put is None else put
    return Edit(put={limit: _ONE, "stream": b"false", **own}, given=_GIVEN, drop=_DROPPED)
