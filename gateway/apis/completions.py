"""``/v1/completions``: prompts as text, as token ids, or several of either."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TypeAlias, cast

import msgspec
from msgspec import Raw

from gateway.apis.call import ApiError, Call
from gateway.apis.decoding import decode, missing, require_model
from gateway.apis.fields import CommonPrompt, internal_fields, output_limit
from gateway.apis.prompt import ABSENT, BYTES_PER_TOKEN, Prompt, Tag, chain_of, salt
from routing.prefix.chain import text_chain, token_chain
from routing.request import Chain

Mixed: TypeAlias = list[str | int]
"""A prompt in pieces: token ids, and for llama.cpp text between them."""

Pieces: TypeAlias = Mixed | list[str | int | Mixed]
"""One prompt in pieces, or a list of prompts."""


class CompletionBody(CommonPrompt, kw_only=True, gc=False):
    """A completion request; ``prompt_embeds`` is vLLM's prompt as embeddings."""

    prompt: str | list[str | int | Mixed] | None = None
    prompt_embeds: Raw = ABSENT
    max_tokens: int | float | None = None


@dataclass(frozen=True, slots=True)
class _Hashed:
    """One prompt's chain, its length in tokens and whether that is exact."""

    chain: Chain
    tokens: float
    exact: bool
    ids: Sequence[int] | None = None


_body = msgspec.json.Decoder(CompletionBody)


def read_completion(body: bytes) -> Call:
    """Read a completion request; raises `ApiError` (400) for one that no engine could serve."""
    completion = decode(_body, body)
    model = require_model(completion.model)
    hashed = [
        _hash(prompt, model, completion.cache_salt, where)
        for prompt, where in _prompts(completion.prompt)
    ]
    if completion.prompt_embeds is not ABSENT and bytes(completion.prompt_embeds) != b"null":
        hashed.append(_hash_embeds(completion.prompt_embeds, model, completion.cache_salt))
    elif completion.prompt is None:
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


def _prompts(prompt: str | Pieces | None) -> list[tuple[str | Pieces, str]]:
    """Tell the prompts in the field ``prompt`` apart, each with its path."""
    if prompt is None:
        return []
    # Among token ids the search ends at the first element, so it only scans lists of prompts.
    if isinstance(prompt, str) or any(isinstance(one, int) for one in prompt):
        return [(prompt, "prompt")]
    return [(one, f"prompt[{i}]") for i, one in enumerate(prompt) if not isinstance(one, int)]


def _hash(prompt: str | Pieces, model: str, cache_salt: str | None, where: str) -> _Hashed:
    if isinstance(prompt, str):
        text = prompt.encode()
        chain = text_chain(salt(model, cache_salt), text)
        return _Hashed(chain, len(text) / BYTES_PER_TOKEN, exact=False)
    try:
        # Taken for token ids until hashing finds otherwise: a check of each would cost more.
        chain = token_chain(salt(model, cache_salt), cast("Sequence[int]", prompt))
    except ValueError as error:
        mixed = [piece for piece in prompt if not isinstance(piece, list)]
        if len(mixed) < len(prompt) or not any(isinstance(piece, str) for piece in mixed):
            raise ApiError(400, "invalid_field", f"`{where}`: {error}.", param=where) from None
        return _Hashed(*chain_of(_mixed_prompt(mixed), model, cache_salt), exact=False)
    return _Hashed(chain, len(prompt), exact=True, ids=cast("Sequence[int]", prompt))


def _mixed_prompt(pieces: Mixed) -> Prompt:
    prompt = Prompt()
    for piece in pieces:
        prompt.text(Tag.TOKEN if isinstance(piece, int) else Tag.TEXT, str(piece))
    return prompt


def _hash_embeds(embeds: Raw, model: str, cache_salt: str | None) -> _Hashed:
    """Hash a prompt given as embeddings like media: their size tells nothing of their length."""
    prompt = Prompt()
    prompt.media(embeds)
    return _Hashed(*chain_of(prompt, model, cache_salt), exact=False)
