"""The three views of who holds what, merged into one answer for each request.

- *exact* (`Residency`): what engines report of their caches, block by block and tier by tier;
- *predicted* (`Recent`): what was routed a moment ago, which no engine can have reported yet:
  it lets a burst of siblings follow the first of them;
- *approximate* (`PrefixIndex`): everything that was routed, within the capacity of each
  engine's cache: for engines that report nothing, and prompts whose token ids are unknown.

An endpoint that reports its cache is believed exactly, plus what was routed there too lately
to be reported; any other one is believed to hold what it was sent.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from routing.loads import Group
from routing.prefix.index import PrefixIndex
from routing.prefix.match import NOTHING, Match, together
from routing.prefix.residency import Held, Residency
from routing.request import Chain, Request

_FEW_HOLDERS = 32  # a prefix with more holders is looked up, not spelled out
_RECENT_BYTES = 64 << 20
_NOBODY: Mapping[str, Held] = {}


@dataclass(frozen=True, slots=True)
class ViewTokens:
    """What each view says of one prompt and one endpoint, in tokens; None: it has no say."""

    exact: int | None
    """In the GPU's memory."""
    reachable: int | None
    """In any tier."""
    predicted: float | None
    approximate: float | None


class Recent:
    """Prefixes that endpoints were sent within the last ``seconds`` to twice that.

    Two small indices take turns: what is in neither any more was not routed lately.
    """

    __slots__ = ("_began", "_earlier", "_later", "_seconds")

    def __init__(self, seconds: float) -> None:
        self._seconds = seconds
        self._began = 0.0
        self._earlier: PrefixIndex | None = None
        self._later = PrefixIndex(_RECENT_BYTES)

    def stored(self, endpoint: str, chain: Chain, now: float) -> None:
        """The endpoint was sent this prompt."""
        self._turn(now)
        self._later.stored(endpoint, chain)

    def match(self, chain: Chain, now: float) -> dict[str, int]:
        """Leading blocks of the prompt that each endpoint was sent lately."""
        self._turn(now)
        held = self._later.match(chain)
        if self._earlier is not None:
            for name, blocks in self._earlier.match(chain).items():
                if blocks > held.get(name, 0):
                    held[name] = blocks
        return held

    def cleared(self, endpoint: str) -> None:
        """The endpoint lost its cache."""
        self._later.cleared(endpoint)
        if self._earlier is not None:
            self._earlier.cleared(endpoint)

    def _turn(self, now: float) -> None:
        passed = now - self._began
        if passed < self._seconds:
            return
        self._earlier = self._later if passed < 2.0 * self._seconds else None
        self._later = PrefixIndex(_RECENT_BYTES)
        self._began = now


class Views:
    """All that is known about what is cached where."""

    def __init__(
        self, approximate: PrefixIndex, residency: Residency, recent_seconds: float = 2.0
    ) -> None:
        self.approximate = approximate
        self.residency = residency
        self._recent = Recent(recent_seconds)

    # -- asking ----------------------------------------------------------------------------

    def look(self, request: Request, group: Group, now: float, scale: float) -> Match:
        """Who holds how much of the request's prompt, in blocks of its own chains.

        ``scale``: tokens for each nominal token of the request's model.
        """
        chains = request.chains
        if not chains:
            return NOTHING
        if len(chains) > 1:
            return together(self.approximate.match(chain) for chain in chains)
        if request.token_chains is None or not self.residency.sizes:
            return self.approximate.look(chains[0], _FEW_HOLDERS)
        return self._merged(request, request.token_chains, group, now, scale)

    def _merged(
        self,
        request: Request,
        token_chains: Mapping[int, Chain],
        group: Group,
        now: float,
        scale: float,
    ) -> Match:
        chain, residency = request.chains[0], self.residency
        exact = residency.look(token_chains)
        recent = self._recent.match(chain, now)
        block_tokens = request.block_tokens * scale
        few: dict[str, float] = {}
        fetch: dict[str, float] = {}
        guessed: Match | None = None
        for state in group.endpoints:
            name = state.name
            if residency.size_of(name) in token_chains:
                held = exact.get(name)
                blocks = 0.0 if held is None else held.gpu_tokens / block_tokens
                reachable = 0.0 if held is None else held.reachable_tokens / block_tokens
                lately = float(recent.get(name, 0))
                blocks = max(blocks, lately)
                if reachable > blocks:
                    fetch[name] = reachable - blocks
            else:
                if guessed is None:
                    guessed = self.approximate.look(chain, _FEW_HOLDERS)
                blocks = guessed.blocks(name)
            if blocks or name in fetch:
                few[name] = blocks
        return Match(few, fetch=fetch)

    def explain(self, request: Request, endpoint: str, now: float, scale: float) -> ViewTokens:
        """What each view says of one endpoint; for receipts, before anything changes."""
        if len(request.chains) != 1:
            return ViewTokens(None, None, None, None)
        chain, block_tokens = request.chains[0], request.block_tokens * scale
        exact = reachable = None
        chains = request.token_chains
        if chains is not None and self.residency.size_of(endpoint) in chains:
            held = self.residency.look(chains).get(endpoint, Held(0, 0))
            exact, reachable = held
        predicted = self._recent.match(chain, now).get(endpoint, 0) * block_tokens
        approximate = self.approximate.match(chain).get(endpoint, 0) * block_tokens
        return ViewTokens(exact, reachable, predicted, approximate)

    # -- learning --------------------------------------------------------------------------

    def sent(self, endpoint: str, request: Request, cache_tokens: int, now: float) -> None:
        """The endpoint was sent the request: its prompt will be in the cache."""
        self.approximate.capacity(endpoint, int(cache_tokens // request.block_tokens))
        for chain in request.chains:
            self.approximate.stored(endpoint, chain)
        if len(request.chains) == 1 and self.residency.covers(endpoint):
            self._recent.stored(endpoint, request.chains[0], now)

    def restarted(self, endpoint: str) -> None:
        """The endpoint's cache is empty; whether it reports its changes stays as it was."""
        self.approximate.cleared(endpoint)
        self._recent.cleared(endpoint)
        if self.residency.covers(endpoint):
            self.residency.cleared(endpoint)

    def forget(self, endpoint: str) -> None:
        """The endpoint left."""
        self.approximate.forget(endpoint)
        self._recent.cleared(endpoint)
        self.residency.forget(endpoint)
