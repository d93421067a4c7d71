"""What a decision may know about a request, whichever body of the gateway received it."""

from array import array
from collections.abc import Collection, Mapping
from typing import Final, TypeAlias

Chain: TypeAlias = "array[int]"
"""A prompt as the hashes of its prefix blocks: ``array('Q')``, one unsigned 64-bit hash a block.

Hash *i* covers the salt and every block up to and including *i*, so two prompts share
exactly the leading blocks in which their chains agree. See ``routing.prefix.chain``.
"""


class Request:
    """One request, reduced to what matters for choosing where it runs. Never changed.

    ``model`` is None when the call names none (a plain GET): any endpoint can take it.

    ``chains`` has one chain a prompt (several for a batch; none when the engine keeps no
    KV cache of it, as for embeddings). ``prompt_tokens`` is the length of all prompts
    together: exact when ``exact_tokens`` (token-id prompts), otherwise a nominal count
    (bytes / 4) that the router corrects by what engines report for that model.
    ``block_tokens``: nominal tokens in a block of ``chains``.

    ``token_chains`` is the prompt as its real token ids, hashed in the block sizes that engines
    report their caches in (tokens a block -> chain): what makes exact matching possible. None
    when the ids are not known.

    ``ttft_target`` and ``itl_target`` (seconds) are the request's own objectives; None: the
    policy's. ``within`` names the endpoints that the request is limited to; None: all.
    """

    __slots__ = (
        "block_tokens",
        "chains",
        "exact_tokens",
        "id",
        "itl_target",
        "max_output_tokens",
        "model",
        "priority",
        "prompt_tokens",
        "streamed",
        "token_chains",
        "ttft_target",
        "within",
    )

    def __init__(
        self,
        id: str,  # noqa: A002
        model: str | None,
        chains: tuple[Chain, ...] = (),
        prompt_tokens: float = 0.0,
        exact_tokens: bool = False,
        max_output_tokens: int | None = None,
        streamed: bool = False,
        priority: int = 0,
        block_tokens: float = 64.0,
        token_chains: Mapping[int, Chain] | None = None,
        ttft_target: float | None = None,
        itl_target: float | None = None,
        within: Collection[str] | None = None,
    ) -> None:
        self.id: Final = id
        self.model: Final = model
        self.chains: Final = chains
        self.prompt_tokens: Final = prompt_tokens
        self.exact_tokens: Final = exact_tokens
        self.max_output_tokens: Final = max_output_tokens
        self.streamed: Final = streamed
        self.priority: Final = priority
        self.block_tokens: Final = block_tokens
        self.token_chains: Final = token_chains
        self.ttft_target: Final = ttft_target
        self.itl_target: Final = itl_target
        self.within: Final = within
