"""``/tokenize`` and ``/detokenize``."""

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from bench.fleet.engine.tokens import decode, encode
from bench.fleet.errors import bad_request
from bench.fleet.routes.bodies import ABSENT, Message, render
from bench.fleet.routes.http import json_response, openai_errors, read_body
from bench.fleet.service import Service, token_ids


class TokenizeBody(Struct, frozen=True, kw_only=True):
    """A text, or a chat."""

    prompt: str | None = None
    messages: list[Message] | None = None
    tools: Raw = ABSENT
    model: str | None = None
    add_generation_prompt: bool = True
    return_token_strs: bool | None = None


class DetokenizeBody(Struct, frozen=True, kw_only=True):
    """Token ids."""

    tokens: list[int]
    model: str | None = None


_tokenize = msgspec.json.Decoder(TokenizeBody)
_detokenize = msgspec.json.Decoder(DetokenizeBody)


class TokenizationRoutes:
    """Text to tokens and back."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def register(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_post("/tokenize", openai_errors(self._tokenize))
        router.add_post("/detokenize", openai_errors(self._detokenize))

    async def _tokenize(self, request: web.Request) -> web.Response:
        body = await read_body(request, _tokenize)
        self._service.models.resolve(body.model)
        if body.messages is not None:
            tokens = render(
                body.messages, tools=body.tools, generation_prompt=body.add_generation_prompt
            ).tokens
        elif body.prompt is not None:
            tokens = encode(body.prompt)
        else:
            raise bad_request("Either prompt or messages is required.", "prompt")
        strings = [decode((token,)) for token in tokens] if body.return_token_strs else None
        return json_response(
            {
                "count": len(tokens),
                "max_model_len": self._service.settings.context_length,
                "tokens": list(tokens),
                "token_strs": strings,
            }
        )

    async def _detokenize(self, request: web.Request) -> web.Response:
        body = await read_body(request, _detokenize)
        self._service.models.resolve(body.model)
        return json_response({"prompt": decode(token_ids(body.tokens, "tokens"))})
