"""Marks on what is out of date: whoever changes an endpoint's load sets its mark."""


class Mark:
    """The mark of one row of a table. Once set, setting it again costs next to nothing."""

    __slots__ = ("_marked", "row", "stale")

    def __init__(self, row: int, marked: list[int]) -> None:
        self.row = row
        self.stale = False
        """Whether it is set. Whoever brings the row up to date clears it."""
        self._marked = marked

    def set(self) -> None:
        """The row is out of date: add it to the table's list, once."""
        if not self.stale:
            self.stale = True
            self._marked.append(self.row)
