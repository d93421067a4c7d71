"""What a decision may know about a request, whichever body of the gateway received it."""

from array import array
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TypeAlias

Chain: TypeAlias = "array[int]"
"""A prompt as the hashes of its prefix blocks: ``array('Q')``, one unsigned 64-bit hash a block.

Hash *i* covers the salt and every block up to and including *i*, so two prompts share
exactly the leading blocks in which their chains agree. See ``routing.prefix.chain``.
"""


@dataclass(frozen=True, slots=True)
class Request:
    """One request, reduced to what matters for choosing where it runs.

    ``model`` is None when the call names none (a plain GET): any endpoint can take it.

    ``chains`` has one chain a prompt (several for a batch; none when the engine keeps no
    KV cache of it, as for embeddings). ``prompt_tokens`` is the length of all prompts
    together: exact when ``exact_tokens`` (token-id prompts), otherwise a nominal count
    (bytes / 4) that the router corrects by what engines report for that model.

    ``token_chains`` is the prompt as its real token ids, hashed in the block sizes that engines
    report their caches in (tokens a block -> chain): what makes exact matching possible. None
    when the ids are not known.

    ``ttft_target`` and ``itl_target`` (seconds) are the request's own objectives; None: the
    policy's.
    """

    id: str
    model: str | None
    chains: tuple[Chain, ...] = ()
    prompt_tokens: float = 0.0
    exact_tokens: bool = False
    max_output_tokens: int | None = None
    streamed: bool = False
    priority: int = 0
    block_tokens: float = 64.0
    """Nominal tokens in a block of ``chains``."""
    token_chains: Mapping[int, Chain] | None = None
    ttft_target: float | None = None
    itl_target: float | None = None
    within: Collection[str] | None = None
    """Names of the endpoints that it is limited to; None: all that serve its model."""
