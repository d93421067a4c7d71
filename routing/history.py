"""Who was sent which prompt: the view of routers that keep a record of their own choices.

Policies that in their own projects match against an approximate tree or table carry one of
these, so that they know what they would know there, whatever the gateway's index knows.
"""

from collections import OrderedDict
from collections.abc import Iterable

from routing.endpoint import EndpointState
from routing.prefix.index import PrefixIndex
from routing.request import Request

HISTORY_BYTES = 1 << 26
"""Memory of a history, by the prefix index's account."""

_MOST_ENDPOINTS = 4_096
_SWEEP_NODES = 8  # nodes of forgotten endpoints given back with each request


class SentPrompts:
    """Prompts by endpoint, in bounded memory: least recently used prefixes go first.

    An endpoint that left is noticed when another one of its name turns up (or the same one at
    another address): nothing is held of it then. Until then it takes memory, within the bound.
    """

    def __init__(self, byte_budget: int = HISTORY_BYTES) -> None:
        self._index = PrefixIndex(byte_budget)
        self._known: OrderedDict[str, tuple[EndpointState, str]] = OrderedDict()

    @property
    def bytes_used(self) -> int:
        """Memory of the prompts."""
        return self._index.bytes_used

    def match(
        self, request: Request, endpoints: Iterable[EndpointState], most_blocks: int | None = None
    ) -> dict[str, int]:
        """Leading blocks of the request's prompts that each of ``endpoints`` was sent.

        Only those that were sent any; of several prompts the sum. The endpoint that was sent
        a prefix first comes first. ``most_blocks``: look at that many blocks of a prompt only.
        """
        held: dict[str, int] = {}
        for chain in request.chains:
            looked_at = chain if most_blocks is None else chain[:most_blocks]
            for name, blocks in self._index.match(looked_at).items():
                held[name] = held.get(name, 0) + blocks
        if not held:
            return held
        current = {state.name for state in endpoints if state.name in held and self._knows(state)}
        return {name: blocks for name, blocks in held.items() if name in current}

    def sent(self, request: Request, state: EndpointState, capacity: int) -> None:
        """The endpoint was chosen for the request; it holds at most ``capacity`` blocks."""
        name = state.name
        if not self._knows(state):
            self._index.forget(name)
        self._known[name] = (state, state.endpoint.url)
        self._known.move_to_end(name)
        if len(self._known) > _MOST_ENDPOINTS:
            gone, _ = self._known.popitem(last=False)
            self._index.forget(gone)
        self._index.sweep(_SWEEP_NODES)
        self._index.capacity(name, capacity)
        for chain in request.chains:
            self._index.stored(name, chain)

    def _knows(self, state: EndpointState) -> bool:
        known = self._known.get(state.name)
        return known is not None and known[0] is state and known[1] == state.endpoint.url
