"""Token ids from an engine itself: ``POST /tokenize``, as vLLM has it.

Always right, templates and all, at the price of a round trip and of work on the engine's CPU.
"""

from array import array

import aiohttp
import msgspec

from gateway.tokenizing.body import UntokenizableError

_HANDED_ON = frozenset(
    {
        *("model", "messages", "prompt", "tools", "add_generation_prompt", "chat_template"),
        *("continue_final_message", "add_special_tokens", "chat_template_kwargs"),
        "mm_processor_kwargs",
    }
)


class _Tokens(msgspec.Struct):
    tokens: list[int]


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tokens = msgspec.json.Decoder(_Tokens)


async def ids_from(session: aiohttp.ClientSession, url: str, body: bytes) -> "array[int]":
    """Ask the engine at ``url`` for the ids of a request body.

    Raises `UntokenizableError` when it gives none.
    """
    try:
        asked = {name: raw for name, raw in _fields.decode(body).items() if name in _HANDED_ON}
        async with session.post(f"{url}/tokenize", data=msgspec.json.encode(asked)) as response:
            page = await response.read()
            if response.status != 200:
                raise UntokenizableError(f"the engine answers {response.status}")
        return array("I", _tokens.decode(page).tokens)
    except (aiohttp.ClientError, OSError, OverflowError) as error:
        raise UntokenizableError("the engine does not answer") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise UntokenizableError("unexpected list of tokens") from error
