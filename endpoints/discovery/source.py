"""The contract of a discovery source."""

from collections.abc import AsyncIterator
from typing import Protocol

from routing.fleet import Endpoint


class Source(Protocol):
    """Something that knows which endpoints there should be: a command line, a file, a cluster."""

    def watch(self) -> AsyncIterator[tuple[Endpoint, ...]]:
        """All wanted endpoints: once at the start, then again, whole, after each change.

        Names are unique within a set. A source that can't change any more just ends.
        """
