"""Prompts as chains of an engine's own blocks: token ids, in the block size the engine caches in.

The chain is that of `routing.prefix.chain.token_chain`, for any block size:

    h[-1] = xxh3_64(salt, seed=kind of token ids)
    h[i]  = xxh3_64(ids of block i as unsigned 32-bit integers, seed=h[i-1])

Prompts (`blocks_of`) and what engines report of their caches (`continued`, which begins after
a block that is known already) are hashed by the same code, so they agree exactly where the
token ids and all that went into the cache with them agree. The engines' own hashes are never
compared: they depend on algorithm, seed and version.

What an engine computed from more than the ids (pictures, prompt embeddings) is told by a
block's *extra*. It goes into the block's hash in a way in which no plain block is hashed, so
such a block, and all that continues it, is never taken for a prompt of token ids alone.
"""

from array import array
from collections.abc import Sequence
from struct import iter_unpack

from xxhash import xxh3_64_intdigest

from routing.prefix.chain import token_chain
from routing.request import Chain

_TOKENS = 1  # the kind of token ids, as in routing.prefix.chain
_EXTRA = 0x9E3779B97F4A7C15  # moves the seed of a block that has an extra; any odd constant does


def token_salt(adapter: str | None, cache_salt: str | None) -> bytes:
    """The salt of a prompt: what else must agree for two equal prompts to share a cache.

    ``adapter`` is the LoRA adapter's name (None: the base model), ``cache_salt`` what the
    request brought to keep its cache apart. Different pairs give different salts.
    """
    return b"".join(
        b"-" if part is None else b"%d:" % len(encoded) + encoded
        for part in (adapter, cache_salt)
        for encoded in ((part or "").encode("utf-8", "surrogatepass"),)
    )


def root_of(salt: bytes) -> int:
    """The hash that a prompt's first block continues."""
    return xxh3_64_intdigest(salt, _TOKENS)


def blocks_of(salt: bytes, token_ids: Sequence[int], block_tokens: int) -> Chain:
    """The chain of a whole prompt in blocks of ``block_tokens``; a trailing part is dropped.

    Raises ValueError, naming the position, for an id that is no unsigned 32-bit integer.
    """
    return array("Q", continued(root_of(salt), token_ids, block_tokens))


def continued(
    parent: int,
    token_ids: Sequence[int],
    block_tokens: int,
    extras: Sequence[bytes] | None = None,
) -> list[int]:
    """The hashes of the whole blocks of ``token_ids`` that come after the block ``parent``.

    ``extras`` has one entry a block: what it was computed from besides the ids, in bytes;
    empty for nothing. Raises ValueError for bad ids as `blocks_of` does, and when there are
    fewer extras than blocks.
    """
    if block_tokens < 1:
        raise ValueError(f"block_tokens must be at least 1, not {block_tokens}")
    try:
        packed = array("I", token_ids)
    except (TypeError, OverflowError):
        token_chain(b"", token_ids)  # raises ValueError, naming the id
        raise
    size = block_tokens * packed.itemsize
    data = packed.tobytes()
    whole = len(data) - len(data) % size
    pieces = iter_unpack(f"{size}s", memoryview(data)[:whole])
    before = parent
    if extras is None:
        return [before := xxh3_64_intdigest(piece, before) for (piece,) in pieces]
    if len(extras) * size < whole:
        raise ValueError(f"{len(extras)} extras for {whole // size} blocks; give one a block")
    return [
        before := (
            xxh3_64_intdigest(piece + extra, before ^ _EXTRA)
            if extra
            else xxh3_64_intdigest(piece, before)
        )
        for (piece,), extra in zip(pieces, extras, strict=False)
    ]
