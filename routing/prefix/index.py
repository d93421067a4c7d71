"""Who holds which prefix, in bounded memory.

The index answers one question in the hot path, `PrefixIndex.match`, and forgets in three
ways, each least recently used first and leaves before the blocks they continue:

- a *holder* over its own capacity (an engine's KV cache) loses its oldest leaf;
- the *index* over its byte budget drops its oldest leaf for all holders;
- a holder that left is hidden at once and given back in slices by `PrefixIndex.sweep`.

Use is touched from the leaf up to the root, so an ancestor is always more recent than what
continues it and the least recent node is a leaf. A split is the one thing that breaks this
order (its upper half enters as the newest); then the node found gets a second chance and
its path is put in order, once for each split.
"""

from collections import OrderedDict
from collections.abc import Mapping
from sys import getsizeof
from typing import Final

from routing.prefix.match import Match
from routing.prefix.tree import NODE_BLOCKS, Node, descend, new_root
from routing.request import Chain

# What things weigh, measured with sys.getsizeof on 64-bit CPython 3.11 and rounded up to the
# allocator's 16 bytes. Hash tables are charged at the sparse end of what they reach under
# steady insertion and deletion (a slot in three used), so that the budget holds in real memory.
_DICT_ENTRY: Final = 80
_LRU_ENTRY: Final = 160  # an OrderedDict's: a dict entry, a link and its place in the link table
_HASH_KEY: Final = 48
BLOCK_BYTES: Final = 8
"""A block: one hash in a run."""
NODE_BYTES: Final = (
    getsizeof(Node(None, new_root().run))
    + 16
    + 80  # the object, its GC header, its run's header
    + getsizeof({0: 0})  # the table of its holders, up to five
    + 16
    + _DICT_ENTRY
    + _HASH_KEY  # its entry among its parent's children
    + _LRU_ENTRY
)
"""A node without blocks, holders or children."""
CHILDREN_BYTES: Final = getsizeof({0: 0}) + 16
"""What a node's table of children adds."""
HOLDER_BYTES: Final = _DICT_ENTRY + _LRU_ENTRY
"""A holder of a node: its entry there, and the node's entry in the holder's order of use."""


class _Holder:
    """One endpoint's share of the index: its nodes from least to most recently used."""

    __slots__ = ("blocks", "capacity", "key", "nodes")

    def __init__(self, key: str, capacity: int | None) -> None:
        self.key = key
        self.capacity = capacity
        self.blocks = 0
        self.nodes: OrderedDict[Node, None] = OrderedDict()


class PrefixIndex:
    """A bounded radix tree over chains, with the endpoints that hold each run of blocks.

    A holder is filed under a key: the endpoint's name, or, once its view was dropped, the
    name with a generation after it. So a forgotten view can wait for the sweeper while the
    endpoint already builds its next one.
    """

    def __init__(self, byte_budget: int) -> None:
        if byte_budget <= 0:
            raise ValueError(f"byte_budget must be positive, not {byte_budget}")
        self.byte_budget = byte_budget
        self._root = new_root()
        self._recent: OrderedDict[Node, None] = OrderedDict()  # every node but the root
        self._holders: dict[str, _Holder] = {}  # by endpoint name: the live views
        self._by_key: dict[str, _Holder] = {}  # the live and the dropped ones
        self._renamed: dict[str, str] = {}  # key -> name, for live keys that aren't the name
        self._gone: dict[str, _Holder] = {}  # by key, in the order of their going
        self._generation = 0
        self._blocks = 0
        self._bytes = 0

    def __len__(self) -> int:
        """Distinct blocks held."""
        return self._blocks

    @property
    def bytes_used(self) -> int:
        """Memory of everything held, by the weights at the top of this module."""
        return self._bytes

    def blocks(self, endpoint: str) -> int:
        """Blocks that the endpoint is believed to hold."""
        holder = self._holders.get(endpoint)
        return 0 if holder is None else holder.blocks

    def match(self, chain: Chain) -> dict[str, int]:
        """How many leading blocks of ``chain`` each endpoint holds; only those that hold any."""
        few, _ = self._levels(chain, len(self._by_key))
        return few

    def look(self, chain: Chain, few: int) -> Match:
        """`match` for the hot path: holders are named only where at most ``few`` share a prefix.

        Not to be kept: it is true until the index changes.
        """
        named, wide = self._levels(chain, few)
        plain = not self._gone and not self._renamed
        return Match(named, wide, None if plain else self._key_of)

    def _levels(
        self, chain: Chain, few: int
    ) -> tuple[dict[str, int], list[tuple[int, Mapping[str, int]]]]:
        path, covered = descend(self._root, chain)
        held: dict[str, int] = {}
        wide: list[tuple[int, Mapping[str, int]]] = []
        end, last = 0, len(path) - 1
        for depth, node in enumerate(path):
            end += len(node.run)
            holders = node.holders
            # Holders only get fewer on the way down: as many below means the same ones.
            if depth == last or len(path[depth + 1].holders) < len(holders):
                blocks = end if end < covered else covered
                if len(holders) > few:
                    wide.insert(0, (blocks, holders))
                    continue
                for key in holders:
                    held[key] = blocks
        if self._gone:
            for key in self._gone.keys() & held.keys():
                del held[key]
        if self._renamed:
            for key in self._renamed.keys() & held.keys():
                held[self._renamed[key]] = held.pop(key)
        return held, wide

    def stored(self, endpoint: str, chain: Chain) -> None:
        """The endpoint holds ``chain`` now; the use makes all of its blocks the most recent."""
        if endpoint not in self._holders:
            self._new_holder(endpoint, None)
        holder = self._holders[endpoint]
        if holder.capacity is not None and len(chain) > holder.capacity:
            chain = chain[: holder.capacity]
        path, at = descend(self._root, chain)
        if path:
            self._cut(path, at, holder.key, len(chain))
        for node in path:
            if holder.key not in node.holders:
                self._hold(node, holder)
        node = path[-1] if path else self._root
        if at < len(chain):
            at = self._extend(node, chain, at, holder)
        while at < len(chain):
            child = Node(node, chain[at : at + NODE_BLOCKS])
            self._add(child, node)
            self._hold(child, holder)
            at += len(child.run)
            node = child
        _freshen(node, holder.nodes)
        _freshen(node, self._recent)
        self._keep_capacity(holder)
        self._keep_budget()

    def removed(self, endpoint: str, chain: Chain, keep_blocks: int) -> None:
        """The endpoint holds at most ``keep_blocks`` leading blocks of ``chain``.

        What continues the first lost block goes with it, on every branch.
        """
        if keep_blocks < 0:
            raise ValueError(f"keep_blocks must not be negative, not {keep_blocks}")
        holder = self._holders.get(endpoint)
        if holder is None or keep_blocks >= len(chain):
            return
        path, covered = descend(self._root, chain[: keep_blocks + 1])
        if covered <= keep_blocks or holder.key not in path[-1].holders:
            return
        node = path.pop()
        kept = keep_blocks - sum(len(above.run) for above in path)
        if kept > 0:
            self._split(node, kept)
        self._drop_subtree(node, holder)
        self._keep_budget()  # what is split takes more room, which others still hold

    def cleared(self, endpoint: str) -> None:
        """The endpoint holds nothing any more (its engine restarted); its capacity stays."""
        holder = self._retire(endpoint)
        if holder is not None:
            self._new_holder(endpoint, holder.capacity)

    def forget(self, endpoint: str) -> None:
        """The endpoint left. O(1): it never matches again, `sweep` gives its memory back."""
        self._retire(endpoint)

    def sweep(self, max_nodes: int) -> int:
        """Give back up to ``max_nodes`` nodes of views that were dropped; returns how many."""
        swept = 0
        while self._gone and swept < max_nodes:
            key, holder = next(iter(self._gone.items()))
            if holder.nodes:
                self._evict_from(holder)
                swept += 1
            else:
                del self._gone[key], self._by_key[key]
        return swept

    def capacity(self, endpoint: str, blocks: int) -> None:
        """The endpoint's engine can hold ``blocks`` blocks; beyond that the oldest leave."""
        if blocks < 0:
            raise ValueError(f"capacity of {endpoint!r} must not be negative, not {blocks}")
        holder = self._holders.get(endpoint)
        if holder is None:
            self._new_holder(endpoint, blocks)
        elif holder.capacity != blocks:
            holder.capacity = blocks
            self._keep_capacity(holder)

    # -- views: holders and their keys -----------------------------------------------------

    def _key_of(self, endpoint: str) -> str | None:
        holder = self._holders.get(endpoint)
        return None if holder is None else holder.key

    def _new_holder(self, endpoint: str, capacity: int | None) -> None:
        key = endpoint
        if key in self._by_key:
            self._generation += 1
            key = f"{endpoint}\0{self._generation}"
            self._renamed[key] = endpoint
        holder = _Holder(key, capacity)
        self._holders[endpoint] = self._by_key[key] = holder

    def _retire(self, endpoint: str) -> _Holder | None:
        holder = self._holders.pop(endpoint, None)
        if holder is not None:
            self._renamed.pop(holder.key, None)
            self._gone[holder.key] = holder
        return holder

    # -- one holder and one node -----------------------------------------------------------

    def _hold(self, node: Node, holder: _Holder) -> None:
        """Enter the holder at a node whose parent it holds (or whose parent is the root)."""
        key = holder.key
        node.holders[key] = 0
        parent = node.parent
        assert parent is not None
        if parent is not self._root:
            parent.holders[key] += 1
        holder.nodes[node] = None
        holder.blocks += len(node.run)
        self._bytes += HOLDER_BYTES

    def _drop(self, node: Node, holder: _Holder) -> None:
        """Take the holder off a node that is a leaf for it; a node nobody holds goes."""
        del holder.nodes[node]
        self._release(node, holder)

    def _release(self, node: Node, holder: _Holder) -> None:
        """`_drop` of a node that is out of the holder's order of use already."""
        key, parent = holder.key, node.parent
        del node.holders[key]
        assert parent is not None
        if parent is not self._root:
            parent.holders[key] -= 1
        holder.blocks -= len(node.run)
        self._bytes -= HOLDER_BYTES
        if not node.holders:
            self._delete(node, parent)

    def _drop_subtree(self, top: Node, holder: _Holder) -> None:
        """Take the holder off a node and off everything that continues it."""
        order = [top]
        for node in order:
            if node.holders[holder.key]:
                assert node.children is not None
                order.extend(
                    child for child in node.children.values() if holder.key in child.holders
                )
        for node in reversed(order):
            self._drop(node, holder)

    # -- the shape of the tree -------------------------------------------------------------

    def _add(self, node: Node, parent: Node) -> None:
        if parent.children is None and parent is not self._root:
            self._bytes += CHILDREN_BYTES
        parent.adopt(node)
        self._recent[node] = None
        self._blocks += len(node.run)
        self._bytes += NODE_BYTES + BLOCK_BYTES * len(node.run)

    def _delete(self, node: Node, parent: Node) -> None:
        parent.disown(node)
        if parent.children is None and parent is not self._root:
            self._bytes -= CHILDREN_BYTES
        del self._recent[node]
        self._blocks -= len(node.run)
        self._bytes -= NODE_BYTES + BLOCK_BYTES * len(node.run)

    def _split(self, node: Node, blocks: int) -> Node:
        upper = node.split(blocks)
        for holder in self._holders_of(node):
            holder.nodes[upper] = None
        self._recent[upper] = None
        self._bytes += NODE_BYTES + CHILDREN_BYTES + HOLDER_BYTES * len(upper.holders)
        return upper

    def _cut(self, path: list[Node], at: int, key: str, size: int) -> None:
        """Split the last node of a path where the chain leaves it, when that matters."""
        node = path[-1]
        agreed = at - sum(len(other.run) for other in path[:-1])
        if agreed == len(node.run) or (at == size and key in node.holders):
            return
        path[-1] = self._split(node, agreed)

    def _extend(self, node: Node, chain: Chain, at: int, holder: _Holder) -> int:
        """Grow a leaf in place when it is this holder's alone; returns the blocks covered."""
        room = NODE_BLOCKS - len(node.run)
        if node is self._root or node.children is not None or len(node.holders) > 1 or room <= 0:
            return at
        grown = chain[at : at + room]
        node.run = node.run + grown  # a fresh array carries no spare room
        holder.blocks += len(grown)
        self._blocks += len(grown)
        self._bytes += BLOCK_BYTES * len(grown)
        return at + len(grown)

    # -- limits ----------------------------------------------------------------------------

    def _keep_capacity(self, holder: _Holder) -> None:
        if holder.capacity is None:
            return
        while holder.blocks > holder.capacity:
            self._evict_from(holder)

    def _keep_budget(self) -> None:
        while self._bytes > self.byte_budget:
            node = next(iter(self._recent))
            if node.children is None:
                for holder in self._holders_of(node):
                    self._drop(node, holder)
            else:
                _freshen(node, self._recent)

    def _evict_from(self, holder: _Holder) -> None:
        """Drop the holder's least recently used leaf."""
        nodes, key = holder.nodes, holder.key
        while True:
            node, _ = nodes.popitem(last=False)
            if not node.holders[key]:
                self._release(node, holder)
                return
            nodes[node] = None
            _freshen(node, nodes)

    def _holders_of(self, node: Node) -> list[_Holder]:
        return [self._by_key[key] for key in node.holders]


def _freshen(node: Node, order: OrderedDict[Node, None]) -> None:
    """Make a node and then its ancestors the most recent, so that leaves come up first."""
    while node.parent is not None:
        order.move_to_end(node)
        node = node.parent
