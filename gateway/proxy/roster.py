"""The client connections that are open."""

import asyncio
from collections.abc import Iterator
from typing import Protocol


class Connection(Protocol):
    """What the server does to any client connection."""

    deadline: float

    def deadline_passed(self) -> None:
        """What was waited for did not come in time."""

    def drain(self) -> None:
        """Shutting down: finish what is in flight, close when idle."""

    def abort(self) -> None:
        """Cut the connection."""


class Roster:
    """Counts connections and tells when the last one is gone."""

    def __init__(self) -> None:
        self._open: set[Connection] = set()
        self._turned_away: set[Connection] = set()
        self._empty = asyncio.Event()
        self._empty.set()

    def __len__(self) -> int:
        """Connections that are served; those turned away take nobody's room."""
        return len(self._open) - len(self._turned_away)

    def __iter__(self) -> Iterator[Connection]:
        """Iterate over a copy: what is done to a connection may close it."""
        return iter(list(self._open))

    def opened(self, connection: Connection) -> None:
        """Enter a connection."""
        self._open.add(connection)
        self._empty.clear()

    def turned_away(self, connection: Connection) -> None:
        """Stop counting a connection that only waits to read its refusal."""
        self._turned_away.add(connection)

    def closed(self, connection: Connection) -> None:
        """Strike a connection off."""
        self._open.discard(connection)
        self._turned_away.discard(connection)
        if not self._open:
            self._empty.set()

    async def emptied(self) -> None:
        """Wait until none is open."""
        await self._empty.wait()
