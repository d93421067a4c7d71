"""``/v1/completions``: prompts as text, as token ids, or several of either."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, TypeAlias, cast

import msgspec
from msgspec import Raw

from gateway.apis.bodies import ABSENT, CompletionBody
from gateway.apis.call import ApiError, Call
from gateway.apis.decoding import decode, decode_body, missing, require_model
from gateway.apis.fields import internal_fields, output_limit
from gateway.apis.prompt import BYTES_PER_TOKEN, Prompt, Tag, chain_of, salt
from routing.prefix.chain import text_chain, token_chain
from routing.request import Chain

_QUOTE: Final = ord('"')

Mixed: TypeAlias = list[str | int]
"""A prompt in pieces: token ids, and for llama.cpp text between them."""

Pieces: TypeAlias = Mixed | list[str | int | Mixed]
"""One prompt in pieces, or a list of prompts."""


@dataclass(frozen=True, slots=True)
class _Hashed:
    """One prompt's chain, its length in tokens and whether that is exact."""

    chain: Chain
    tokens: float
    exact: bool
    ids: Sequence[int] | None = None


_body: Final = msgspec.json.Decoder(CompletionBody)
_list: Final = msgspec.json.Decoder(list[str | int | Mixed])


def read_completion(body: bytes) -> Call:
    """Read a completion request; raises `ApiError` (400) for one that no engine could serve."""
    completion = decode_body(_body, body)
    model = require_model(completion.model)
    hashed = _hash_prompts(completion, model)
    if completion.prompt_embeds is not ABSENT and bytes(completion.prompt_embeds) != b"null":
        hashed.append(_hash_embeds(completion.prompt_embeds, salt(model, completion.cache_salt)))
    elif not hashed and _is_absent(completion.prompt):
        raise missing("prompt", "give a string, token ids, or a list of either")
    return Call(
        model=model,
        streamed=completion.stream is True,
        chains=tuple(one.chain for one in hashed),
        prompt_tokens=sum(one.tokens for one in hashed),
        exact_tokens=bool(hashed) and all(one.exact for one in hashed),
        max_output_tokens=output_limit(completion.max_tokens),
        priority=int(completion.priority or 0),
        internal_fields=internal_fields(completion, body),
        token_ids=hashed[0].ids if len(hashed) == 1 else None,
        cache_salt=completion.cache_salt,
    )


def _is_absent(prompt: Raw) -> bool:
    return prompt is ABSENT or bytes(prompt) == b"null"


def _hash_prompts(completion: CompletionBody, model: str) -> list[_Hashed]:
    """Tell the prompts in the field ``prompt`` apart, and hash each."""
    if _is_absent(completion.prompt):
        return []
    prompt_salt = salt(model, completion.cache_salt)
    written = memoryview(completion.prompt)
    if written[0] == _QUOTE:
        return [_hash_text(prompt_salt, written)]
    prompts = decode(_list, completion.prompt, "prompt")
    # Among token ids the search ends at the first element, so it only scans lists of prompts.
    if any(isinstance(one, int) for one in prompts):
        return [_hash_pieces(prompt_salt, prompts, "prompt")]
    return [
        _hash_text(prompt_salt, memoryview(msgspec.json.encode(one)))
        if isinstance(one, str)
        else _hash_pieces(prompt_salt, cast("Pieces", one), f"prompt[{i}]")
        for i, one in enumerate(prompts)
    ]


def _hash_text(prompt_salt: bytes, written: memoryview) -> _Hashed:
    """Hash a prompt that is a JSON string, as it is written between its quotes."""
    text = bytes(written[1:-1])
    return _Hashed(text_chain(prompt_salt, text), len(text) / BYTES_PER_TOKEN, exact=False)


def _hash_pieces(prompt_salt: bytes, prompt: Pieces, where: str) -> _Hashed:
    try:
        # Taken for token ids until hashing finds otherwise: a check of each would cost more.
        chain = token_chain(prompt_salt, cast("Sequence[int]", prompt))
    except ValueError as error:
        mixed = [piece for piece in prompt if not isinstance(piece, list)]
        if len(mixed) < len(prompt) or not any(isinstance(piece, str) for piece in mixed):
            raise ApiError(400, "invalid_field", f"`{where}`: {error}.", param=where) from None
        return _Hashed(*chain_of(_mixed_prompt(mixed), prompt_salt), exact=False)
    return _Hashed(chain, len(prompt), exact=True, ids=cast("Sequence[int]", prompt))


def _mixed_prompt(pieces: Mixed) -> Prompt:
    prompt = Prompt()
    for piece in pieces:
        prompt.text(Tag.TOKEN if isinstance(piece, int) else Tag.TEXT, str(piece))
    return prompt


def _hash_embeds(embeds: Raw, prompt_salt: bytes) -> _Hashed:
    """Hash a prompt given as embeddings like media: their size tells nothing of their length."""
    prompt = Prompt()
    prompt.media(embeds)
    return _Hashed(*chain_of(prompt, prompt_salt), exact=False)
