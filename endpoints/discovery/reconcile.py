"""What must change so that the fleet is what discovery wants. Pure."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from routing.fleet import Endpoint


@dataclass(frozen=True, slots=True)
class Changes:
    """The difference: endpoints that join, endpoints with new facts, names that leave."""

    added: tuple[Endpoint, ...] = ()
    changed: tuple[Endpoint, ...] = ()
    removed: tuple[str, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.added or self.changed or self.removed)


def reconcile(current: Mapping[str, Endpoint], wanted: Iterable[Endpoint]) -> Changes:
    """The changes from ``current`` (by name) to ``wanted``, in their orders.

    ValueError when two wanted endpoints have one name.
    """
    by_name: dict[str, Endpoint] = {}
    for endpoint in wanted:
        other = by_name.setdefault(endpoint.name, endpoint)
        if other is not endpoint:
            raise ValueError(
                f"two endpoints are named {endpoint.name!r} ({other.url} and {endpoint.url}); "
                "give one of them another name"
            )
    return Changes(
        added=tuple(new for name, new in by_name.items() if name not in current),
        changed=tuple(new for name, new in by_name.items() if current.get(name, new) != new),
        removed=tuple(name for name in current if name not in by_name),
    )
