"""Giving a request another model, byte for byte around its name; and its answer the first one."""

from typing import Final

import msgspec

from gateway.apis.splice import spans


def with_model(body: bytes, model: str) -> bytes:
    """The body with ``model`` as its model, wherever it names one; see `splice` for what it costs.

    Raises ValueError for a body that is no JSON object, as far as one looks.
    """
    member = b'"model":' + msgspec.json.encode(model)
    pieces: list[bytes] = []
    copied = 0
    for start, end in spans(body, {"model"}):
        pieces += (body[copied:start], member)
        copied = end
    pieces.append(body[copied:])
    return b"".join(pieces)


class NameBack:
    """Puts the model's name that a client knows in place of the one that answered, as it passes.

    Wherever a field ``"model"`` has that very value, at any depth, as the Responses API nests it.
    Inside of a JSON string the quotes around would be escaped, so no text is ever changed. Names
    that are cut by the end of a piece are held until the next one.
    """

    __slots__ = ("_held", "_longest", "_pairs")

    def __init__(self, target: str, asked: str) -> None:
        served, known = msgspec.json.encode(target), msgspec.json.encode(asked)
        self._pairs: Final = [
            (b'"model":' + space + served, b'"model":' + space + known) for space in (b"", b" ")
        ]
        self._longest: Final = len(self._pairs[1][0])
        self._held = b""

    def feed(self, data: bytes) -> bytes:
        """The next piece, without what may be the beginning of a name."""
        if self._held:
            data = self._held + data
        for served, known in self._pairs:
            data = data.replace(served, known)
        keep = self._begun(data)
        self._held = data[len(data) - keep :]
        return data[: len(data) - keep]

    def rest(self) -> bytes:
        """What is held at the end of the answer."""
        held, self._held = self._held, b""
        return held

    def _begun(self, data: bytes) -> int:
        """How many of the last bytes may be the beginning of what is looked for."""
        start = max(0, len(data) - self._longest + 1)
        at = data.find(b'"', start)
        while at >= 0:
            tail = data[at:]
            if self._pairs[0][0].startswith(tail) or self._pairs[1][0].startswith(tail):
                return len(tail)
            at = data.find(b'"', at + 1)
        return 0
