"""A number of replicas for each role, on its way through the rules; each change is written down."""

from collections.abc import Mapping

from endpoints.scaling.receipt import Bound
from endpoints.scaling.role import Role


class Trail:
    """Starts from what the candidates call for; `move` is the only way to change it."""

    def __init__(self, start: Mapping[Role, int]) -> None:
        self._counts = dict(start)
        self.bounds: list[Bound] = []
        """Every change, in order."""

    def __getitem__(self, role: Role) -> int:
        return self._counts[role]

    @property
    def counts(self) -> dict[Role, int]:
        """The numbers as they are now."""
        return dict(self._counts)

    def move(self, role: Role, name: str, count: int, reason: str) -> None:
        """A rule of that ``name`` makes it ``count``; nothing is written down if it is already."""
        before = self._counts[role]
        if count != before:
            self.bounds.append(Bound(role, name, before, count, reason))
            self._counts[role] = count
