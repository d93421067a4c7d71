"""What a relay can do to a connection. All but the last three spare probes, which are GETs:
an endpoint that looks well and answers badly is the harder case.
"""

import asyncio
import re
from collections.abc import Callable
from random import Random

from bench.chaos.relay import CutError, Passage

_LENGTH = re.compile(rb"(?i)(content-length: *)(\d+)")
_CHUNK = re.compile(rb"(?m)^[0-9a-fA-F]+\r\n(?=data:)")


class _OfAnswers(Passage):
    """Does harm to a share of the answers to POSTs; one decision an answer."""

    share = 0.5

    def __init__(self, dice: Random) -> None:
        super().__init__(dice)
        self.chosen = False

    async def to_server(self, piece: bytes, reply: Callable[[bytes], None]) -> bytes:
        """As `Passage.to_server`."""
        if piece.startswith((b"POST ", b"GET ")):
            self.chosen = piece.startswith(b"POST ") and self.dice.random() < self.share
            self.begin()
        return piece

    def begin(self) -> None:
        """An answer is about to come."""


class SlowReads(_OfAnswers):
    """The server takes requests slowly: 64 KB a second."""

    rate = 65_536.0

    async def to_server(self, piece: bytes, reply: Callable[[bytes], None]) -> bytes:
        """As `Passage.to_server`."""
        await super().to_server(piece, reply)
        if self.chosen:
            self.strikes += 1
            await asyncio.sleep(len(piece) / self.rate)
        return piece


class SlowWrites(_OfAnswers):
    """The server's answers dribble: 2 KB a second."""

    rate = 2_048.0

    async def to_client(self, piece: bytes) -> bytes:
        """As `Passage.to_client`."""
        if self.chosen:
            self.strikes += 1
            await asyncio.sleep(len(piece) / self.rate)
        return piece


class Resets(_OfAnswers):
    """The connection is reset after a random byte of the answer."""

    def begin(self) -> None:
        """Choose what to do to the answer."""
        # Within the head of some, the body of others, the end of long streams.
        self._left = self.dice.randrange(4 ** self.dice.randrange(3, 7))

    async def to_client(self, piece: bytes) -> bytes:
        """As `Passage.to_client`."""
        if not self.chosen:
            return piece
        self._left -= len(piece)
        if self._left >= 0:
            return piece
        self.strikes += 1
        raise CutError


class CorruptFraming(_OfAnswers):
    """Status lines, header fields and chunk sizes come as nonsense."""

    def begin(self) -> None:
        """Choose what to do to the answer."""
        self._kind = self.dice.randrange(4)

    async def to_client(self, piece: bytes) -> bytes:
        """As `Passage.to_client`."""
        if not self.chosen:
            return piece
        changed = self._changed(piece)
        if changed != piece:
            self.strikes += 1
            self.chosen = False
        return changed

    def _changed(self, piece: bytes) -> bytes:
        if self._kind == 0:  # only in a stream: a chunk whose size is no number
            return _CHUNK.sub(b"zz\r\n", piece, count=1)
        if not piece.startswith(b"HTTP/1.1 "):
            return piece
        if self._kind == 1:
            return b"HTTQ/9.9 banana" + piece[8:]
        if self._kind == 2:
            return piece.replace(b"\r\n", b"\r\nx-bad\x00name: 1\r\n", 1)
        return piece.replace(b"\r\n", b"\r\ncontent-length: 3\r\ncontent-length: 4\r\n", 1)


class WrongLength(_OfAnswers):
    """The length that is announced is too small or too large by some bytes."""

    async def to_client(self, piece: bytes) -> bytes:
        """As `Passage.to_client`."""
        found = _LENGTH.search(piece) if self.chosen and piece.startswith(b"HTTP/") else None
        if found is None:
            return piece
        self.strikes += 1
        length = max(int(found[2]) + self.dice.choice((-40, -7, -1, 1, 9, 300)), 0)
        return piece[: found.start()] + found[1] + b"%d" % length + piece[found.end() :]


class HalfOpen(Passage):
    """The other side is gone without a word: bytes vanish both ways, connections stay open."""

    async def to_server(self, piece: bytes, reply: Callable[[bytes], None]) -> bytes:
        """As `Passage.to_server`."""
        self.strikes += 1
        return b""

    async def to_client(self, piece: bytes) -> bytes:
        """As `Passage.to_client`."""
        self.strikes += 1
        return b""


def _page(status: bytes, body: bytes) -> bytes:
    return b"HTTP/1.1 %b\r\ncontent-type: text/plain\r\ncontent-length: %d\r\n\r\n%b" % (
        status,
        len(body),
        body,
    )


def _gauges(running: bytes, waiting: bytes, usage: bytes) -> bytes:
    names = (b"num_requests_running", b"num_requests_waiting", b"kv_cache_usage_perc")
    return b"".join(
        b'# TYPE vllm:%b gauge\nvllm:%b{engine="0",model_name="sim-8b"} %b\n' % (name, name, value)
        for name, value in zip(names, (running, waiting, usage), strict=True)
    )


LIES = (
    _page(b"200 OK", _gauges(b"NaN", b"-5", b"17.5")),
    _page(b"200 OK", _gauges(b"1e308", b"+Inf", b"-Inf")),
    _page(b"200 OK", _gauges(b"0.0", b"0.0", b"0.0")),
    _page(b"200 OK", _gauges(b"banana", b"", b"0x10")),
    _page(b"200 OK", b"<html>It works!</html>" * 50_000),
    _page(b"200 OK", b""),
    _page(b"500 Internal Server Error", b"oh no"),
    b"HTTP/1.1 200 OK\r\ncontent-length: 99999\r\n\r\nvllm:num_requests_running{",
)
"""Metric pages that are wrong, empty, huge, broken or no pages."""


class MetricsLie(Passage):
    """Metric pages are nonsense, a different one each time."""

    async def to_server(self, piece: bytes, reply: Callable[[bytes], None]) -> bytes:
        """As `Passage.to_server`."""
        if not piece.startswith(b"GET /metrics"):
            return piece
        self.strikes += 1
        reply(self.dice.choice(LIES))
        return b""


class MetricsStall(Passage):
    """Metric pages never come; all else does."""

    async def to_server(self, piece: bytes, reply: Callable[[bytes], None]) -> bytes:
        """As `Passage.to_server`."""
        if not piece.startswith(b"GET /metrics"):
            return piece
        self.strikes += 1
        return b""
