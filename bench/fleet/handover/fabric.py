"""What connects simulated servers: who listens at which address, and a store that all share.

Servers of one process reach each other. Who is at no address of it is unreachable, as a dead
server is.
"""

from collections import OrderedDict
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from bench.fleet.handover.exchange import KvExchange

_SHARED_BLOCKS = 1_000_000


class Fabric:
    """The servers by address (``host:port``), and the blocks in the shared store."""

    def __init__(self) -> None:
        self._servers: dict[str, KvExchange] = {}
        self._shared: OrderedDict[int, None] = OrderedDict()

    def join(self, address: str, server: "KvExchange") -> None:
        """A server listens."""
        self._servers[address] = server

    def leave(self, address: str) -> None:
        """It does no more."""
        self._servers.pop(address, None)

    def at(self, address: str) -> "KvExchange | None":
        """Who listens there."""
        return self._servers.get(address)

    def store(self, blocks: Iterable[int]) -> None:
        """Put blocks into the shared store."""
        for block in blocks:
            self._shared[block] = None
            self._shared.move_to_end(block)
        while len(self._shared) > _SHARED_BLOCKS:
            self._shared.popitem(last=False)

    def stored(self, chain: Sequence[int]) -> int:
        """How many leading blocks of a chain the store has."""
        for index, block in enumerate(chain):
            if block not in self._shared:
                return index
        return len(chain)
