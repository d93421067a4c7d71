"""Consistent hashing: keys and endpoints on one ring, a key belongs to whoever comes next.

Each endpoint stands on the ring at ``replicas`` points (virtual nodes), so that shares are
even, and when one leaves, its keys spread over all others while every other key stays where
it was (Karger et al., "Consistent hashing and random trees", 1997).
"""

from bisect import bisect_left
from collections.abc import Container, Iterable, Mapping

from xxhash import xxh3_64_intdigest

from routing.request import Request

MOST_MEMBERS = 2_048
"""Names kept on a ring beyond those in use: endpoints come back, and models take turns."""


class HashRing:
    """The names that were ever asked about, up to a limit.

    Who may be chosen is told with each question, so a name that is away for a moment keeps
    its points, and one ring serves groups of endpoints that differ.
    """

    def __init__(self, replicas: int, most_members: int = MOST_MEMBERS) -> None:
        if replicas < 1:
            raise ValueError(f"replicas must be at least 1, not {replicas}")
        self._replicas = replicas
        self._most = most_members
        self._members: dict[str, None] = {}  # in the order in which they were last covered
        self._points: list[int] = []  # sorted
        self._owners: list[str] = []  # of the points, by index
        self._covered: Mapping[str, object] | None = None

    def __len__(self) -> int:
        """Names on the ring."""
        return len(self._members)

    def cover(self, names: Mapping[str, object]) -> None:
        """Make sure that all of ``names`` are on the ring. O(1) for the same mapping again."""
        if names is self._covered:
            return
        self._covered = names
        missing = [name for name in names if name not in self._members]
        for name in names:
            self._members.pop(name, None)
            self._members[name] = None
        excess = len(self._members) - max(self._most, len(names))
        if excess > 0:
            for name in list(self._members)[:excess]:
                del self._members[name]
            self._place([], self._members)
        elif missing:
            self._place(list(zip(self._points, self._owners, strict=True)), missing)

    def walk(self, key: int, among: Container[str], count: int) -> list[str]:
        """The first ``count`` names of ``among`` on the ring from ``key`` on, each once."""
        found: dict[str, None] = {}
        owners, size = self._owners, len(self._owners)
        start = bisect_left(self._points, key)
        for step in range(size):
            owner = owners[(start + step) % size]
            if owner in among and owner not in found:
                found[owner] = None
                if len(found) == count:
                    break
        return list(found)

    def _place(self, points: list[tuple[int, str]], names: Iterable[str]) -> None:
        for name in names:
            spots = [f"{name}:{replica}".encode() for replica in range(self._replicas)]
            points += [(xxh3_64_intdigest(spot), name) for spot in spots]
        points.sort()
        self._points = [point for point, _ in points]
        self._owners = [owner for _, owner in points]


def prefix_key(request: Request, prefix_tokens: float) -> int:
    """The point on the ring that a request's first ``prefix_tokens`` (nominal) tokens hash to.

    In whole blocks, at least one; a shorter prompt counts up to its last whole block, and
    one without a whole block by the request's id. Of several prompts the first decides.
    """
    if not request.chains or not request.chains[0]:
        return xxh3_64_intdigest(request.id.encode(errors="backslashreplace"))
    chain = request.chains[0]
    blocks = max(int(prefix_tokens / request.block_tokens), 1)
    return chain[min(blocks, len(chain)) - 1]  # a block's hash covers all before it
