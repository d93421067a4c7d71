"""Host names: exact ones, wildcards (``*.example.com``), and any (None)."""

from collections.abc import Iterable, Iterator
from typing import Final, Generic, TypeVar

_V = TypeVar("_V")
_WILDCARD: Final = "*."


def host_of(value: bytes) -> str:
    """The name in a Host field: lower case, without port and final dot."""
    text = value.strip(b" \t").decode("latin-1").lower()
    if text.startswith("["):
        return text.partition("]")[0] + "]"
    return text.partition(":")[0].removesuffix(".")


def covers(pattern: str | None, name: str) -> bool:
    """Whether a pattern has ``name``, which may be a wildcard itself."""
    if pattern is None or pattern == name:
        return True
    # ``*.example.com`` has one label or more in the star's place.
    return pattern.startswith(_WILDCARD) and name.endswith(pattern[1:])


def shared(listener: str | None, hostnames: Iterable[str]) -> tuple[str | None, ...]:
    """The host names that a listener and a route both have; empty: none.

    A route without host names has those of the listener. Of a wildcard and a name below it,
    the more specific one is what both have.
    """
    wanted = tuple(dict.fromkeys(hostnames))
    if not wanted:
        return (listener,)
    if listener is None:
        return wanted
    found = (
        name if covers(listener, name) else listener if covers(name, listener) else None
        for name in wanted
    )
    return tuple(dict.fromkeys(name for name in found if name is not None))


class HostMap(Generic[_V]):
    """Values by host name, the most specific one first."""

    def __init__(self, entries: Iterable[tuple[str | None, _V]]) -> None:
        self._any: list[_V] = []
        self._exact: dict[str, _V] = {}
        self._below: dict[str, _V] = {}  # by what stands behind the star
        for name, value in entries:
            if name is None:
                self._any = [value]
            elif name.startswith(_WILDCARD):
                self._below[name[2:]] = value
            else:
                self._exact[name] = value

    def of(self, host: str) -> Iterator[_V]:
        """Every value whose name has ``host``, the most specific first."""
        if host in self._exact:
            yield self._exact[host]
        if self._below:
            rest = host.partition(".")[2]
            while rest:
                if rest in self._below:
                    yield self._below[rest]
                rest = rest.partition(".")[2]
        yield from self._any
