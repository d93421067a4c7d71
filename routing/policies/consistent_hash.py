"""The endpoint that the prompt's beginning hashes to."""

from typing import ClassVar

from routing.hashring import HashRing, prefix_key
from routing.policies.policy import Choice, Slate
from routing.request import Request
from routing.scores import at_least


class ConsistentHash:
    """Hash the first tokens of the prompt onto a ring of virtual nodes; load is not looked at.

        point = hash of the blocks that cover prefix_tokens
        endpoint = owner of the first virtual node at or after point

    Score: the place on the ring, counted in endpoints (0 is the owner). The fallbacks are the
    next ones on the ring. Parameters: prefix_tokens (nominal tokens, 1,024), rounded down to
    whole blocks; replicas (virtual nodes for each endpoint, 160).

    Source: vLLM Router, ``consistent_hash`` (src/policies/consistent_hash.rs at 080589a):
    160 virtual nodes. There the key is the session or user that a header or field names, else
    the whole body; here, where a policy sees prompts only, the beginning of the prompt stands
    for the conversation. There an owner that is not well is replaced by the first worker that
    is; here by the next on the ring. The hash function is another one.
    """

    name: ClassVar[str] = "consistent_hash"

    def __init__(self, prefix_tokens: float = 1_024.0, replicas: int = 160) -> None:
        at_least("prefix_tokens", prefix_tokens, 1.0)
        self._prefix_tokens = prefix_tokens
        self._ring = HashRing(replicas)

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by the order on the ring."""
        places = slate.group.places
        self._ring.cover(places)
        key = prefix_key(request, self._prefix_tokens)
        return [
            Choice(
                endpoint=(state := slate.endpoints[places[name]]),
                score=float(rank),
                cached_tokens=slate.cached_tokens(state),
                predicted_ttft=None,
                explanation="{2} after the owner of {0:016x}" if rank else "owner of {0:016x}",
                facts=(key, name, rank),
            )
            for rank, name in enumerate(self._ring.walk(key, places, count))
        ]
