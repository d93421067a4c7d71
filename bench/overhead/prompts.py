"""Prepared requests: equal in size, equal in their beginnings, each with a tail of its own."""

from array import array
from collections.abc import Iterable
from itertools import cycle, islice

from xxhash import xxh3_64_intdigest

from bench.overhead.scenarios import Scenario

MODEL = "bench"
PATH = "/v1/chat/completions"
_SENTENCE = (
    "the model reads every token once and keeps what it computed so that a later request "
    "with the same beginning need not wait for work that was done before by another one"
)
_WORDS = _SENTENCE.split()
_LINE_WORDS = 14
_SCATTER = 7919  # a prime: neighbouring requests have different prefixes


def text(size: int, seed: int) -> str:
    """``size`` characters of JSON string content: words and, as real prompts have, newlines.

    Different seeds differ from the first word on.
    """
    first = f"[{seed}] "
    words = islice(cycle(_WORDS[seed % len(_WORDS) :] + _WORDS[: seed % len(_WORDS)]), size // 3)
    pieces = [
        word + ("\\n" if place % _LINE_WORDS == _LINE_WORDS - 1 else " ")
        for place, word in enumerate(words)
    ]
    whole = (first + "".join(pieces))[:size]
    return whole[:-1] + "." if whole.endswith("\\") else whole


class Prompts:
    """The requests of a scenario by serial number, as bytes that go on the wire."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        stream = b"true" if scenario.streamed else b"false"
        opening = b'{"model":"%s","stream":%s,"max_tokens":%d,"messages":[' % (
            MODEL.encode(),
            stream,
            scenario.chunks or 16,
        )
        prefix_bytes = scenario.prompt_bytes - scenario.tail_bytes
        self._beginnings = [
            opening
            + b'{"role":"system","content":"%s"},{"role":"user","content":"'
            % text(prefix_bytes, number).encode()
            for number in range(scenario.prefixes)
        ]
        # Seeds have different numbers of digits, the text after them makes up for it.
        assert len({len(beginning) for beginning in self._beginnings}) == 1
        self._filler = text(scenario.tail_bytes - 12, 0).encode()
        size = len(self._beginnings[0]) + len(self._tail(0))
        self._head = (
            b"POST %s HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\n"
            b"Content-Length: %d\r\n\r\n" % (PATH.encode(), size)
        )
        self._heads = [self._head + beginning for beginning in self._beginnings]

    def _tail(self, serial: int) -> bytes:
        return b'%011d %s"}]}' % (serial, self._filler)

    def _prefix(self, serial: int) -> int:
        return serial * _SCATTER % self._scenario.prefixes

    def request(self, serial: int) -> tuple[bytes, bytes]:
        """The request in two pieces: the first is shared and not copied."""
        return self._heads[self._prefix(serial)], self._tail(serial)

    def body(self, serial: int) -> bytes:
        """The request's body alone."""
        return self._beginnings[self._prefix(serial)] + self._tail(serial)

    def digests(self, serials: Iterable[int]) -> "array[int]":
        """xxh3_64 of the bodies, ``array('Q')``: what the upstream servers must have seen."""
        return array("Q", (xxh3_64_intdigest(self.body(serial)) for serial in serials))
