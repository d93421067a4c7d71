"""Lines out of chunks of bytes."""

from collections.abc import Iterator

LONGEST = 32 * 1024 * 1024
"""No object comes near it: etcd holds at most 1.5 MB each."""


class Lines:
    """Collects chunks and gives complete lines; ValueError for one that never ends."""

    def __init__(self, longest: int = LONGEST) -> None:
        self._longest = longest
        self._rest: list[bytes] = []
        self._held = 0

    def feed(self, chunk: bytes) -> Iterator[bytes]:
        """The lines that ``chunk`` completes, without their ends; empty ones are left out."""
        *lines, rest = chunk.split(b"\n")
        for line in lines:
            whole = b"".join((*self._rest, line)) if self._rest else line
            self._rest, self._held = [], 0
            if whole.strip():
                yield whole
        if rest:
            self._rest.append(rest)
            self._held += len(rest)
            if self._held > self._longest:
                raise ValueError(f"a line is longer than {self._longest} bytes")
