"""The Mooncake trace format: one JSON object a line, prompts as ids of their blocks.

``hash_ids`` are ids of 512-token prefix blocks: two requests that share the first k ids share
the first k x 512 tokens of their prompts. Format and data: kvcache-ai/Mooncake, FAST'25.
"""

import gzip
import zlib
from collections.abc import Iterator, Sequence
from itertools import pairwise
from pathlib import Path

import msgspec

SAMPLE = Path(__file__).parent / "sample" / "mooncake_conversation.jsonl.gz"
"""A few hundred consecutive requests of the conversation trace; see the README beside it."""

BLOCK_TOKENS = 512


class TraceError(ValueError):
    """A trace that can't be read; the message names file, line and field."""


class Row(msgspec.Struct, frozen=True):
    """One request: when it came (milliseconds), and its lengths in tokens."""

    timestamp: int
    input_length: int
    output_length: int
    hash_ids: tuple[int, ...]


_row = msgspec.json.Decoder(Row)


def read(path: Path) -> list[Row]:
    """The rows of a trace file, plain or gzip. Raises `TraceError`."""
    try:
        data = path.read_bytes()
        if data.startswith(b"\x1f\x8b"):
            data = gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise TraceError(f"{path}: {error}") from error
    return list(_rows(data, path))


def _rows(data: bytes, path: Path) -> Iterator[Row]:
    for number, line in enumerate(data.splitlines(), start=1):
        if not line.strip():
            continue
        try:
            row = _row.decode(line)
        except msgspec.DecodeError as error:
            raise TraceError(f"{path}, line {number}: {error}") from error
        if len(row.hash_ids) * BLOCK_TOKENS < row.input_length:
            raise TraceError(
                f"{path}, line {number}: input_length {row.input_length} is longer than the "
                f"{len(row.hash_ids)} blocks of hash_ids"
            )
        yield row


def arrival_seconds(rows: Sequence[Row]) -> list[float]:
    """When each row came, in seconds after the first.

    The trace was recorded in steps of several seconds, all requests of a step at its start.
    Real clients don't come in such bursts: the requests of a step are spread evenly until
    the next one.
    """
    if not rows:
        return []
    stamps = sorted({row.timestamp for row in rows})
    following = dict(pairwise(stamps))
    step = min((after - before for before, after in following.items()), default=0)
    arrivals: list[float] = []
    index = 0
    while index < len(rows):
        stamp = rows[index].timestamp
        last = index
        while last < len(rows) and rows[last].timestamp == stamp:
            last += 1
        length = following.get(stamp, stamp + step) - stamp
        for place in range(last - index):
            at = stamp - stamps[0] + length * place / (last - index)
            arrivals.append(at / 1000)
        index = last
    return arrivals
