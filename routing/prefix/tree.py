"""The radix tree below the prefix index: runs of blocks, and who holds them.

A node is a run of at most `NODE_BLOCKS` consecutive blocks. Its children continue it, keyed
by their first hash. Since a block's hash covers everything before it, two runs that begin at
the same place agree up to a block exactly when they agree in that one block: comparing is
one look, and the point of divergence is found by bisection.

Two properties hold everywhere and are what makes matching cheap:

- whoever holds a node holds all of its ancestors, so holders only get fewer on the way down;
- every node but the root has at least one holder.
"""

from array import array
from typing import Final

from routing.request import Chain

NODE_BLOCKS: Final = 64
"""Most blocks in a node: the grain of eviction."""


class Node:
    """A run of blocks and its holders; the root alone has no parent and an empty run."""

    __slots__ = ("children", "holders", "parent", "run")

    def __init__(self, parent: "Node | None", run: Chain) -> None:
        self.parent = parent
        self.run = run
        self.children: dict[int, Node] | None = None
        """First hash -> the node that continues this one; None when none does."""
        self.holders: dict[str, int] = {}
        """Holder -> how many of the children it holds too (0: a leaf for that holder)."""

    def adopt(self, child: "Node") -> None:
        """Take ``child`` among the children, in the place of one with the same first hash."""
        child.parent = self
        if self.children is None:
            self.children = {}
        self.children[child.run[0]] = child

    def disown(self, child: "Node") -> None:
        """Let a child go."""
        assert self.children is not None
        del self.children[child.run[0]]
        if not self.children:
            self.children = None

    def split(self, blocks: int) -> "Node":
        """Cut the run after ``blocks`` blocks; returns the new node that holds the upper part.

        This node keeps the lower part with its children, so their parent stays right.
        """
        assert self.parent is not None
        assert 0 < blocks < len(self.run)
        upper = Node(self.parent, self.run[:blocks])
        upper.holders = dict.fromkeys(self.holders, 1)
        self.parent.adopt(upper)
        self.run = self.run[blocks:]
        upper.adopt(self)
        return upper


def new_root() -> Node:
    """The root of an empty tree."""
    return Node(None, array("Q"))


def descend(root: Node, chain: Chain) -> tuple[list[Node], int]:
    """The nodes that ``chain`` runs through, and how many of its blocks they cover.

    Only the last of them may be covered in part.
    """
    path: list[Node] = []
    node, at, size = root, 0, len(chain)
    while at < size and node.children is not None:
        child = node.children.get(chain[at])
        if child is None:
            break
        path.append(child)
        run = child.run
        end = at + len(run)
        if end > size or run[-1] != chain[end - 1]:
            return path, at + _agreement(run, chain, at)
        node, at = child, end
    return path, at


def _agreement(run: Chain, chain: Chain, at: int) -> int:
    """How many leading blocks of ``run`` equal the blocks of ``chain`` from ``at`` on."""
    low, high = 1, min(len(run), len(chain) - at)  # the first block is known to agree
    while low < high:
        middle = (low + high + 1) // 2
        if run[middle - 1] == chain[at + middle - 1]:
            low = middle
        else:
            high = middle - 1
    return low
