"""Who goes first when a pool shrinks: the endpoint whose going costs the others least. Pure.

What a removal costs is counted in one unit, endpoint-seconds::

    cost(e) = sole(e) / prefill_rate + drain(e)

- ``sole(e)``: tokens of warm prefix that recent traffic used and that nobody but *e* holds, so
  that they will be computed again. A block counts once, however often it was used: after the
  first time it is warm elsewhere. What a victim chosen earlier held besides counts as gone,
  so the second victim of two that hold one prefix pays for it, not the first.
- ``drain(e)``: seconds until what is in flight there has ended; so long it takes nothing new.

An endpoint that is not ready has nothing to lose and goes first. Equal costs: the youngest goes,
which has learned least and which Kubernetes would choose as well.
"""

from bisect import bisect_left
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass

from routing.request import Chain


@dataclass(frozen=True, slots=True)
class Candidate:
    """An endpoint that may be chosen. ``age``: seconds since it joined; ``ready``: it serves."""

    name: str
    ready: bool = True
    drain_seconds: float = 0.0
    age: float = 0.0


@dataclass(frozen=True, slots=True)
class Victim:
    """An endpoint to remove and why it costs so little. Seconds are of one endpoint."""

    name: str
    ready: bool
    sole_tokens: float
    drain_seconds: float
    cost_seconds: float

    @property
    def reason(self) -> str:
        """In words for people."""
        if not self.ready:
            return "not ready"
        return (
            f"{self.sole_tokens:,.0f} tokens that only it has warm, "
            f"{self.drain_seconds:.1f} s of work in flight"
        )


class WarmTokens:
    """Warm tokens that recent traffic used, by exactly who holds them. Every token counts once.

    Grows prompt by prompt (`add`), so that a long sample can be read in slices.
    """

    def __init__(self) -> None:
        self._counted: set[int] = set()  # hashes of blocks
        self._tokens: dict[frozenset[str], float] = {}

    def add(
        self, chain: Chain, used_blocks: int, block_tokens: float, held: Mapping[str, float]
    ) -> None:
        """Count the leading ``used_blocks`` of a prompt; ``held``: endpoint -> tokens of it."""
        used_blocks = min(used_blocks, len(chain))
        # A block's hash covers what stands before it: those counted already are a prefix.
        first = bisect_left(range(used_blocks), True, key=lambda at: chain[at] not in self._counted)
        if first >= used_blocks:
            return
        self._counted.update(chain[first:used_blocks])
        start, end = first * block_tokens, used_blocks * block_tokens
        for upto in sorted({min(tokens, end) for tokens in held.values() if tokens > start}):
            holders = frozenset(name for name, tokens in held.items() if tokens >= upto)
            self._tokens[holders] = self._tokens.get(holders, 0.0) + upto - start
            start = upto

    def by_holders(self) -> Mapping[frozenset[str], float]:
        """Tokens by the set of endpoints that hold them."""
        return self._tokens

    def sole(self, name: str, gone: Collection[str] = ()) -> float:
        """Tokens that nobody but ``name`` holds, once ``gone`` are gone."""
        return sum(
            tokens
            for holders, tokens in self._tokens.items()
            if name in holders and not (holders - {name}) - set(gone)
        )


def in_order(
    candidates: Iterable[Candidate],
    warm: WarmTokens,
    *,
    prefill_rate: float,
    count: int | None = None,
) -> tuple[Victim, ...]:
    """The first ``count`` victims (None: everybody in order), cheapest first.

    ``prefill_rate``: tokens a second at which the others would compute lost prefixes again.
    ValueError unless it is positive.
    """
    if not prefill_rate > 0.0:
        raise ValueError(f"prefill_rate must be positive, not {prefill_rate}")
    left = {candidate.name: candidate for candidate in candidates}
    # Who is no candidate stays and keeps its copy: only sets within the candidates can be lost.
    sets = {holders: holders for holders in warm.by_holders() if holders <= left.keys()}
    sole = dict.fromkeys(left, 0.0)
    for holders in sets:
        if len(holders) == 1:
            (name,) = holders
            sole[name] += warm.by_holders()[holders]
    victims: list[Victim] = []
    wanted = len(left) if count is None else min(count, len(left))
    while len(victims) < wanted:
        chosen = min((_victim(one, sole[one.name], prefill_rate) for one in left.values()), key=_by)
        victim, candidate = chosen[0], left.pop(chosen[0].name)
        victims.append(victim)
        for holders, remaining in sets.items():
            if candidate.name in remaining:
                sets[holders] = remaining - {candidate.name}
                if len(sets[holders]) == 1:
                    (name,) = sets[holders]
                    sole[name] += warm.by_holders()[holders]
    return tuple(victims)


def _victim(candidate: Candidate, sole: float, rate: float) -> tuple[Victim, float]:
    drain = candidate.drain_seconds if candidate.ready else 0.0
    if not candidate.ready:
        sole = 0.0
    cost = sole / rate + drain
    return Victim(candidate.name, candidate.ready, sole, drain, cost), candidate.age


def _by(chosen: tuple[Victim, float]) -> tuple[bool, float, float, str]:
    victim, age = chosen
    return victim.ready, victim.cost_seconds, age, victim.name
