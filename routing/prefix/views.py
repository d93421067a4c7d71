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
from typing import Final

from routing.loads import Group
from routing.prefix.index import PrefixIndex
from routing.prefix.match import NOTHING, Match, together
from routing.prefix.residency import Held, Residency
from routing.request import Chain, Request

_FEW_HOLDERS: Final = 32  # a prefix with more holders is looked up, not spelled out
_RECENT_BYTES: Final = 64 << 20
_NOTHING_HELD: Final = Held(0, 0)


@dataclass(frozen=True, slots=True)
class ViewTokens:
    """What each view says of one prompt and one endpoint, in tokens; None: it has no say."""

    exact: int | None
    """In the GPU's memory."""
    reachable: int | None
    """In any tier."""
    predicted: int | None
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

    def match(self, chains: Mapping[int, Chain], now: float) -> dict[str, int]:
        """Leading tokens of the prompt that each endpoint was sent lately, by its own blocks.

        ``chains``: tokens a block -> the prompt in such blocks.
        """
        self._turn(now)
        held: dict[str, int] = {}
        for size, chain in chains.items():
            for index in (self._earlier, self._later):
                if index is None:
                    continue
                for name, blocks in index.match(chain).items():
                    held[name] = max(held.get(name, 0), blocks * size)
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
        residency = self.residency
        exact = residency.look(token_chains)
        recent = self._recent.match(token_chains, now)
        block_tokens = request.block_tokens * scale
        most = _most_cached(request, scale)
        few: dict[str, float] = {}
        fetch: dict[str, float] = {}
        guessed: Match | None = None
        for state in group.endpoints:
            name = state.name
            size = residency.size_of(name)
            if size is not None and size in token_chains:
                # Engines cache whole blocks, and compute at least one token.
                room = most // size * size
                held = exact.get(name, _NOTHING_HELD)
                tokens = min(max(held.gpu_tokens, recent.get(name, 0)), room)
                reachable = min(held.reachable_tokens, room)
                blocks = tokens / block_tokens
                if reachable > tokens:
                    fetch[name] = (reachable - tokens) / block_tokens
            else:
                if guessed is None:
                    guessed = self.approximate.look(request.chains[0], _FEW_HOLDERS)
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
            held = self.residency.look(chains).get(endpoint, _NOTHING_HELD)
            exact, reachable = held
        predicted = None if chains is None else self._recent.match(chains, now).get(endpoint, 0)
        approximate = self.approximate.match(chain).get(endpoint, 0) * block_tokens
        return ViewTokens(exact, reachable, predicted, approximate)

    def held(self, request: Request, chain: Chain, scale: float) -> dict[str, float]:
        """Tokens that each endpoint holds of one of the request's prompts, as `look` sees them.

        For questions beside the hot path, such as what would be lost with an endpoint.
        ``chain`` is one of the request's; only endpoints that hold any of it are named.
        """
        block_tokens = request.block_tokens * scale
        held = {
            name: blocks * block_tokens for name, blocks in self.approximate.match(chain).items()
        }
        chains = request.token_chains
        if chains is None or len(request.chains) != 1 or not self.residency.sizes:
            return held
        exact = self.residency.look(chains)
        for name in [*held, *exact]:
            if self.residency.size_of(name) in chains:
                tokens = exact.get(name, _NOTHING_HELD).reachable_tokens
                held[name] = float(tokens)
        return {name: tokens for name, tokens in held.items() if tokens}

    # -- learning --------------------------------------------------------------------------

    def sent(self, endpoint: str, request: Request, cache_tokens: int, now: float) -> None:
        """The endpoint was sent the request: its prompt will be in the cache."""
        self.approximate.capacity(endpoint, int(cache_tokens // request.block_tokens))
        for chain in request.chains:
            self.approximate.stored(endpoint, chain)
        if request.token_chains is not None:
            size = self.residency.size_of(endpoint)
            if size is not None and size in request.token_chains:
                self._recent.stored(endpoint, request.token_chains[size], now)

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


def _most_cached(request: Request, scale: float) -> int:
    """Tokens of the prompt that can be cached at most."""
    return max(round(request.prompt_tokens * scale) - 1, 0)
