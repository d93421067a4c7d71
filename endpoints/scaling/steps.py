"""The next step from the replicas there are to the replicas that are wanted. Pure.

A scale-down takes time: victims drain before they are ended. Meanwhile the target's number still
counts them, and the wind may turn. So the way is walked in steps, each decided on what is:

- more wanted: whoever still drains is taken back first, the one that has drained the shortest
  first (its cache is warm, and nothing is faster), and only then the number is raised;
- fewer wanted: further members are retired;
- whoever is drained, or was never there, is taken off the number.
"""

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Step:
    """What to do now. ``restore`` names; ``retire`` that many more; ``vacant``: places of the
    number that no member fills and that can go at once; ``replicas``: what to want instead.
    """

    restore: tuple[str, ...] = ()
    retire: int = 0
    vacant: int = 0
    replicas: int | None = None

    def __bool__(self) -> bool:
        return bool(self.restore or self.retire or self.vacant or self.replicas is not None)


def next_step(wanted: int, spec: int, members: int, leaving: Sequence[str]) -> Step:
    """``spec``: the number now; ``members`` exist, ``leaving`` are those on their way out.

    ``leaving`` stands in the order in which they were retired. ValueError for a number below 0.
    """
    if wanted < 0:
        raise ValueError(f"{wanted} replicas can't be wanted")
    staying = spec - len(leaving)
    if wanted > staying:
        back = leaving[::-1][: wanted - staying]
        more = wanted - staying - len(back)
        return Step(restore=tuple(back), replicas=spec + more if more else None)
    fewer = staying - wanted
    if not fewer:
        return Step()
    vacant = min(max(spec - members, 0), fewer)
    return Step(retire=fewer - vacant, vacant=vacant)
