"""What a gateway saw, as a file that can be replayed: no text, only lengths, times and block ids.

A traffic log is JSON, one object a line. The first line is the header::

    {"format": "inferway.traffic", "version": 1, "salt": "5be2...", "created": "2026-01-31T..."}

``salt`` is a fingerprint of the secret (below): equal in two files whose ids may be compared.
Every other line is one finished request:

| field | meaning |
|---|---|
| at | when it came, Unix time in seconds |
| model, status, endpoint | as in the access log; the endpoint is empty when none was sent it |
| prompt_tokens | of all its prompts together |
| prompt_reported | whether the engine reported that count; otherwise it is an estimate from bytes |
| output_tokens | tokens produced; null when nothing is known |
| output_reported | whether the engine reported it; otherwise events of the stream were counted |
| cached_tokens | as the engine reported it, else null |
| ttft, duration | seconds from ``at`` to the first piece of a streamed answer, and to the end |
| block_tokens | nominal tokens in a block of this request |
| prompts | one list of block ids a prompt; a trailing part shorter than a block has none |

An id stands for its block and everything before it: two prompts share exactly the leading blocks
in which their ids agree.

**What a reader of the file learns.** An id is 53 bits of BLAKE2b (RFC 7693) over the block's hash,
keyed with 32 random bytes that never leave the process. Without the key nobody can test whether a
guessed prompt is in the file; what remains visible is which requests share how much, when they
came and how long they were. A key given by the operator makes the ids of several gateways or runs
comparable, and is to be kept like a password.
"""

import logging
import os
import secrets
import time
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from hashlib import blake2b
from pathlib import Path
from typing import Final, NamedTuple

import msgspec

from gateway.background import BackgroundWriter
from gateway.record import RequestRecord
from routing.request import Chain, Request

FORMAT: Final = "inferway.traffic"
VERSION: Final = 1
MAX_WAITING = 5_000
"""Requests waiting to be written; with prompts of 55,000 tokens about 40 MB."""
LONGEST_MODEL = 256
"""Characters of a model's name, which clients choose freely."""
_CLOSE_SECONDS = 2.0
_KEY_BYTES = 32
_ID_SHIFT = 64 - 53  # every JSON reader keeps integers of 53 bits exactly

_log = logging.getLogger("inferway.traffic")


class _Entry(NamedTuple):
    """A finished request until the thread writes it. The record is filled and changes no more."""

    ended_at: float
    record: RequestRecord
    chains: Sequence[Chain]
    block_tokens: float
    prompt_tokens: float


class TrafficLog:
    """Appends finished requests to ``path``; nothing of it runs on the event loop but `write`.

    ``block_tokens``: how finely shared prefixes are told apart; each request is thinned to
    the multiple of its own block size that comes next to it. A file that reaches ``max_bytes``
    becomes ``path.1``, the one before ``path.2`` and so on; ``keep`` of them are kept. ``secret``
    (16 to 64 bytes): see the module; None: a random one for the life of this object. An existing
    file is continued when its ids are of the same secret, and put aside otherwise.

    Raises OSError when the file can't be opened, ValueError for a limit or secret that makes no
    sense.
    """

    def __init__(
        self,
        path: Path,
        *,
        block_tokens: int = 256,
        max_bytes: int = 256 << 20,
        keep: int = 4,
        secret: bytes | None = None,
    ) -> None:
        if block_tokens < 1:
            raise ValueError(f"block_tokens is {block_tokens}; it must be at least 1")
        if max_bytes < 4096:
            raise ValueError(f"max_bytes is {max_bytes}; it must be at least 4096")
        if keep < 0:
            raise ValueError(f"keep is {keep}; it must not be negative")
        if secret is not None and not 16 <= len(secret) <= 64:
            raise ValueError(f"secret has {len(secret)} bytes; it must have 16 to 64")
        self._block_tokens = block_tokens
        self._key = secrets.token_bytes(_KEY_BYTES) if secret is None else secret
        self._file = _RotatedFile(path, max_bytes, keep, header(self._key))
        self._failing = False
        self._writer = BackgroundWriter("traffic lines", self._flush, limit=MAX_WAITING, log=_log)

    @property
    def dropped(self) -> int:
        """Requests that could not be written."""
        return self._writer.dropped

    def write(self, record: RequestRecord, request: Request | None) -> None:
        """Queue a finished request; ``request`` is None when the body could not be read."""
        if request is None:
            return
        self._writer.put(
            _Entry(time.time(), record, request.chains, request.block_tokens, request.prompt_tokens)
        )

    def close(self) -> None:
        """Write what is queued, for at most two seconds, and close the file."""
        if self._writer.close(_CLOSE_SECONDS):
            self._file.close()
        else:
            _log.warning("the traffic log can't be written", extra={"lines": self._writer.queued})

    def _flush(self, entries: list[_Entry]) -> None:
        try:
            self._file.append(line(entry, self._block_tokens, self._key) for entry in entries)
        except OSError as error:
            if not self._failing:
                _log.warning("the traffic log can't be written: %s", error)
            self._failing = True
            raise
        self._failing = False


def fingerprint(secret: bytes) -> str:
    """What may be told of a secret: enough to see whether two files have the same."""
    return blake2b(b"fingerprint", key=secret, digest_size=8).hexdigest()


def header(secret: bytes) -> bytes:
    """The first line of a file, but for the time at which it was begun."""
    return _encode({"format": FORMAT, "version": VERSION, "salt": fingerprint(secret)})


def block_ids(chain: Chain, every: int, secret: bytes) -> list[int]:
    """The ids of every ``every``-th block of a chain: 53-bit keyed hashes."""
    return [
        int.from_bytes(blake2b(block.to_bytes(8, "big"), key=secret, digest_size=8).digest(), "big")
        >> _ID_SHIFT
        for block in chain[every - 1 :: every]
    ]


def line(entry: _Entry, block_tokens: int, secret: bytes) -> bytes:
    """A finished request as one JSON object and a newline."""
    record = entry.record
    every = max(1, round(block_tokens / entry.block_tokens))
    reported_prompt, reported_output = record.prompt_tokens, record.completion_tokens
    output = reported_output if reported_output is not None else record.output_events or None
    return (
        _encode(
            {
                "at": round(entry.ended_at - record.duration, 6),
                "model": record.model[:LONGEST_MODEL],
                "status": record.status,
                "endpoint": record.endpoint,
                "prompt_tokens": (
                    round(entry.prompt_tokens) if reported_prompt is None else reported_prompt
                ),
                "prompt_reported": reported_prompt is not None,
                "output_tokens": output,
                "output_reported": reported_output is not None,
                "cached_tokens": record.cached_tokens,
                "ttft": None if record.ttft is None else round(record.ttft, 6),
                "duration": round(record.duration, 6),
                "block_tokens": entry.block_tokens * every,
                "prompts": [block_ids(chain, every, secret) for chain in entry.chains],
            }
        )
        + b"\n"
    )


class _RotatedFile:
    """A file that only its owner can read, ended and begun anew before it grows too large."""

    def __init__(self, path: Path, max_bytes: int, keep: int, first_line: bytes) -> None:
        self._path = path
        self._max_bytes = max_bytes
        self._keep = keep
        self._first_line = first_line
        if not _may_be_continued(path, first_line):
            self._put_aside()
        self._fd = self._open()
        self._size = os.fstat(self._fd).st_size
        if not self._size:
            self._begin()

    def append(self, lines: Iterable[bytes]) -> None:
        """Write whole lines. Raises OSError; then none of those since the last rotation stands."""
        waiting: list[bytes] = []
        waiting_bytes = 0
        for one in lines:
            if self._size + waiting_bytes + len(one) > self._max_bytes:
                self._write(b"".join(waiting))
                waiting, waiting_bytes = [], 0
                self._rotate()
            waiting.append(one)
            waiting_bytes += len(one)
        self._write(b"".join(waiting))

    def close(self) -> None:
        os.close(self._fd)

    def _open(self) -> int:
        return os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

    def _begin(self) -> None:
        created = datetime.now(UTC).isoformat(timespec="seconds").replace("+00:00", "Z")
        self._write(self._first_line[:-1] + b',"created":' + _encode(created) + b"}\n")

    def _rotate(self) -> None:
        self._put_aside()
        fd = self._open()
        os.close(self._fd)
        self._fd = fd
        self._size = 0
        self._begin()

    def _put_aside(self) -> None:
        if not self._path.exists():
            return
        if not self._keep:
            self._path.unlink()
            return
        names = [self._path, *(Path(f"{self._path}.{n}") for n in range(1, self._keep + 1))]
        for older, newer in zip(reversed(names[1:]), reversed(names[:-1]), strict=True):
            if newer.exists():
                newer.replace(older)

    def _write(self, data: bytes) -> None:
        """All of ``data`` or nothing: a torn line would make the file unreadable from there on."""
        left = memoryview(data)
        try:
            while left:
                left = left[os.write(self._fd, left) :]
        except OSError:
            os.ftruncate(self._fd, self._size)
            raise
        self._size += len(data)


def _may_be_continued(path: Path, first_line: bytes) -> bool:
    """Whether a file begins with this header and ends with a whole line."""
    try:
        with path.open("rb") as file:
            if not file.readline().startswith(first_line[:-1] + b","):
                return False
            file.seek(-1, os.SEEK_END)
            return file.read() == b"\n"
    except FileNotFoundError:
        return False


_encode = msgspec.json.Encoder().encode
