"""Requests as a gateway sees them, made from the block ids of a workload."""

from array import array

from bench.replay.workload import Arrival
from routing.request import Chain, Request

MODEL = "model"
"""The one model that the simulated engines serve."""

_MASK = (1 << 64) - 1


def mixed(block: int) -> int:
    """An id as an evenly spread 64-bit hash (the finaliser of SplitMix64, Steele et al. 2014)."""
    value = (block + 0x9E3779B97F4A7C15) & _MASK
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & _MASK
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & _MASK
    return value ^ (value >> 31)


class Prompts:
    """Chains and requests of one workload.

    ``known_tokens``: whether the gateway knows prompts as token ids, which exact matching needs;
    ``wrong_tokens``: whether they are other ones than the engines'.
    """

    def __init__(self, block_tokens: int, *, known_tokens: bool, wrong_tokens: bool) -> None:
        self._block_tokens = block_tokens
        self._known_tokens = known_tokens
        self._wrong_tokens = wrong_tokens
        self._hashes: dict[int, int] = {}

    def chain(self, arrival: Arrival) -> Chain:
        """One hash for each whole block of the prompt; that is what engines cache."""
        hashes = self._hashes
        chain = array("Q")
        for block in arrival.blocks[: arrival.prompt_tokens // self._block_tokens]:
            known = hashes.get(block)
            if known is None:
                known = hashes[block] = mixed(block)
            chain.append(known)
        return chain

    def request(self, number: int, arrival: Arrival, chain: Chain) -> Request:
        """What the router is asked. The output's length is nobody's to know."""
        told = array("Q", map(mixed, chain)) if self._wrong_tokens else chain
        return Request(
            id=str(number),
            model=MODEL,
            chains=(chain,),
            prompt_tokens=float(arrival.prompt_tokens),
            exact_tokens=True,
            streamed=True,
            block_tokens=float(self._block_tokens),
            token_chains={self._block_tokens: told} if self._known_tokens else None,
        )
