"""Who holds how much of one prompt: the index's answer, without spelling it out for everybody.

A hot prefix is held by the whole fleet, and naming a thousand holders for each request costs
more than choosing among them. So a match names the holders of a prefix that few share, and of
one that many share it keeps the index's own table, to be asked about single endpoints.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

Keys = Callable[[str], str | None]
"""Endpoint name -> the key it is filed under in the index; None when nothing is."""


class Match:
    """Leading blocks of a prompt that endpoints hold. True until the index changes.

    ``few``: endpoint name -> its blocks, for all holders of prefixes that few hold.
    ``wide``: (blocks, holders' keys) of prefixes that many hold, longest first; whoever is in
    ``few`` or in an earlier table holds as much as it says there. ``key`` is None when every
    endpoint is filed under its name. ``fetch``: endpoint name -> further blocks that it can
    fetch from a lower tier instead of computing them; None when nobody can.
    """

    __slots__ = ("_key", "fetch", "few", "wide")

    def __init__(
        self,
        few: Mapping[str, float],
        wide: list[tuple[int, Mapping[str, int]]] | None = None,
        key: Keys | None = None,
        fetch: Mapping[str, float] | None = None,
    ) -> None:
        self.few = few
        self.fetch = fetch
        self.wide = wide or []
        self._key = key

    def blocks(self, endpoint: str) -> float:
        """Blocks that the endpoint holds; 0 when none."""
        blocks = self.few.get(endpoint)
        if blocks is not None:
            return blocks
        if self.wide:
            key = endpoint if self._key is None else self._key(endpoint)
            for depth, holders in self.wide:
                if key in holders:
                    return depth
        return 0

    def among(
        self, places: Iterable[int], names: Sequence[str], start: int, holders: Mapping[str, int]
    ) -> list[int]:
        """Those of ``places`` for which ``names[start + place]`` is in one of ``wide``'s tables."""
        key = self._key
        if key is None:
            return [place for place in places if names[start + place] in holders]
        return [place for place in places if key(names[start + place]) in holders]


NOTHING: Final = Match({})
"""Nobody holds anything."""


def together(matches: Iterable[Mapping[str, int]]) -> Match:
    """Several prompts of one request: what is held of each adds up."""
    held: dict[str, int] = {}
    for matched in matches:
        for name, blocks in matched.items():
            held[name] = held.get(name, 0) + blocks
    return Match(held)
