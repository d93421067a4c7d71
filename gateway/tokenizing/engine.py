"""Token ids from an engine itself: ``POST /tokenize``, as vLLM has it.

Right by construction, at the price of a round trip and of work on the engine's CPU. The request
has fewer fields than a chat has: what is missing there goes as template arguments, which is what
the engine makes of it in a chat. Prompts with more than text are not asked about: the engine
would answer with placeholders.
"""

from array import array

import aiohttp
import msgspec

from gateway.tokenizing.body import Chat, UntokenizableError, read
from gateway.tokenizing.conversation import conversation
from gateway.tokenizing.pieces import TokenIds

_MOST_BYTES = 64 << 20
_AS_GIVEN = ("messages", "tools", "prompt", "add_generation_prompt", "continue_final_message")


class _Tokens(msgspec.Struct):
    tokens: list[int]


_fields = msgspec.json.Decoder(dict[str, msgspec.Raw])
_tokens = msgspec.json.Decoder(_Tokens)


def question(model: str, body: bytes) -> bytes:
    """The body of the request about a request's prompt. Raises `UntokenizableError` alone."""
    request = read(body)
    given = _fields.decode(body)
    asked: dict[str, object] = {name: given[name] for name in _AS_GIVEN if name in given}
    asked["model"] = model
    asked["add_special_tokens"] = request.special_tokens
    if isinstance(request, Chat):
        conversation(request.messages, parts=False)  # raises for what is not text
        arguments = dict(request.arguments)
        if request.documents is not None:
            arguments["documents"] = request.documents
        if arguments:
            asked["chat_template_kwargs"] = arguments
    else:
        asked["prompt"] = request.text
    try:
        return msgspec.json.encode(asked)
    except (UnicodeEncodeError, RecursionError) as error:
        raise UntokenizableError("a text that is no Unicode") from error


async def ids_from(session: aiohttp.ClientSession, url: str, model: str, body: bytes) -> TokenIds:
    """Ask the engine at ``url`` for the ids of a request body.

    Raises `UntokenizableError` when it gives none.
    """
    asked = question(model, body)
    try:
        async with session.post(f"{url}/tokenize", data=asked, allow_redirects=False) as response:
            if response.status != 200:
                raise UntokenizableError(f"the engine answers {response.status}")
            page = bytearray()
            async for part in response.content.iter_chunked(1 << 16):
                page += part
                if len(page) > _MOST_BYTES:
                    raise UntokenizableError("the engine answers too much")
        return array("I", _tokens.decode(page).tokens)
    except (aiohttp.ClientError, OSError) as error:
        raise UntokenizableError("the engine does not answer") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, OverflowError) as error:
        raise UntokenizableError("the engine answers no token ids") from error
