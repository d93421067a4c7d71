"""Decoding a JSON page that nobody promised to be well-formed."""

from typing import TypeVar

import msgspec

T = TypeVar("T")


def decode_json(body: bytes, kind: type[T]) -> T:
    """The page as ``kind``; ValueError, with the place of the fault, for anything else."""
    try:
        return msgspec.json.decode(body, type=kind)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"unexpected JSON: {error}") from error
