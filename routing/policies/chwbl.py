"""Consistent hashing with bounded loads."""

from typing import ClassVar

from routing.hashring import HashRing, prefix_key
from routing.policies.policy import Choice, Slate
from routing.request import Request
from routing.scores import at_least


class BoundedLoadHash:
    """The first endpoint on the ring, from the prompt's hash on, that has room for one more.

        room:  load + 1 <= load_factor x (total + 1) / endpoints, or total = 0

    load is the requests in flight there by our own ledger, total that of all candidates. When
    nobody has room, the owner takes it all the same. Score: the place on the ring, counted in
    endpoints, those without room behind all with room.

    Parameters: load_factor (1.25), at least 1; prefix_tokens (nominal tokens, 25, which is 100
    characters), in whole blocks, at least one; replicas (virtual nodes for each endpoint, 256).

    Source: Mirrokni et al., "Consistent hashing with bounded loads" (2018), as in KubeAI's
    ``PrefixHash`` (internal/loadbalancer/balance_chwbl.go at 08e69e5) and its defaults
    (meanLoadFactor 125, replication 256, prefixCharLength 100). A block here is longer than
    its 100 characters. The hash function is another one.
    """

    name: ClassVar[str] = "chwbl"

    def __init__(
        self, load_factor: float = 1.25, prefix_tokens: float = 25.0, replicas: int = 256
    ) -> None:
        at_least("load_factor", load_factor, 1.0)
        at_least("prefix_tokens", prefix_tokens, 1.0)
        self._load_factor = load_factor
        self._prefix_tokens = prefix_tokens
        self._ring = HashRing(replicas)

    def pick(self, request: Request, slate: Slate, now: float, count: int) -> list[Choice]:
        """Rank by the order on the ring, those with room first."""
        endpoints, places = slate.endpoints, slate.group.places
        total = 0
        for state in endpoints:
            total += state.ledger.requests
        bound = self._load_factor * (total + 1) / len(endpoints)
        room: dict[str, int] = {}
        full: dict[str, int] = {}
        for state in endpoints:
            load = state.ledger.requests
            if total == 0 or load + 1 <= bound:
                room[state.name] = load
            else:
                full[state.name] = load
        self._ring.cover(places)
        key = prefix_key(request, self._prefix_tokens)
        ranked = self._ring.walk(key, room, count) if room else []
        if len(ranked) < count and full:
            ranked += self._ring.walk(key, full, count - len(ranked))
        return [
            Choice(
                endpoint=(state := endpoints[places[name]]),
                score=float(rank),
                cached_tokens=slate.cached_tokens(state),
                predicted_ttft=None,
                explanation="next to {:016x} "
                + ("with room" if name in room else "although full")
                + ": {} in flight of {:g}",
                facts=(key, state.ledger.requests, bound),
            )
            for rank, name in enumerate(ranked)
        ]
