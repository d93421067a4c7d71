"""What is replayed: requests by their arrival times, lengths and prefix blocks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Arrival:
    """One request. ``at``: seconds after the first arrival.

    ``blocks`` are ids of the prompt's blocks, each standing for itself and everything before
    it: two prompts share exactly the leading blocks in which these agree. The last block may
    be partial; an engine caches whole blocks only.
    """

    at: float
    prompt_tokens: int
    output_tokens: int
    blocks: tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """Arrivals in the order of time. ``block_tokens``: tokens in a whole block."""

    name: str
    arrivals: tuple[Arrival, ...]
    block_tokens: int

    def faster(self, speed: float) -> "Workload":
        """The same requests, ``speed`` times as fast on each other."""
        arrivals = tuple(
            Arrival(one.at / speed, one.prompt_tokens, one.output_tokens, one.blocks)
            for one in self.arrivals
        )
        return Workload(self.name, arrivals, self.block_tokens)
