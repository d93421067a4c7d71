"""``/v1/chat/completions``."""

import time

import msgspec
from aiohttp import web
from msgspec import Raw

from bench.fleet.errors import bad_request
from bench.fleet.generation import Delta, Generation, answer_text, answer_tokens, ended
from bench.fleet.routes.answers import FINGERPRINT, choice_body, relay, usage_body
from bench.fleet.routes.bodies import ABSENT, Message, Sampling, render
from bench.fleet.routes.http import (
    EventStream,
    Json,
    admit,
    json_response,
    openai_errors,
    read_body,
    response_id,
)
from bench.fleet.service import Ask, Service


class ChatBody(Sampling, frozen=True, kw_only=True):
    """What is honoured of a chat request."""

    messages: list[Message]
    max_completion_tokens: int | None = None
    tools: Raw = ABSENT
    add_generation_prompt: bool = True

    def choice_of(self, delta: Delta) -> Json:
        """A chunk's choice."""
        return choice_body(
            delta, {"delta": {"content": delta.text}}, token_ids=self.return_token_ids
        )


_decoder = msgspec.json.Decoder(ChatBody)


class ChatRoutes:
    """Chat completions, whole and streamed."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def register(self, router: web.UrlDispatcher) -> None:
        """Add the route."""
        router.add_post("/v1/chat/completions", openai_errors(self._chat))

    async def _chat(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, _decoder)
        fate = await admit(self._service, request)
        model = self._service.models.resolve(body.model)
        if not body.messages:
            raise bad_request("messages must not be empty.", "messages")
        limit = body.max_completion_tokens
        identity = response_id("chatcmpl", request, body.request_id)
        prompt = render(
            body.messages, tools=body.tools, generation_prompt=body.add_generation_prompt
        )
        ask = Ask(
            model=model,
            prompts=(prompt,),
            n=1 if body.n is None else body.n,
            max_tokens=body.max_tokens if limit is None else limit,
            min_tokens=body.min_tokens or 0,
            ignore_eos=bool(body.ignore_eos),
            stop=body.stops,
            cache_salt=body.cache_salt,
            seed=body.seed or 0,
            arrival=await self._service.arrive(body, request.headers, identity),
        )
        head: Json = {
            "id": identity,
            "object": "chat.completion.chunk" if body.stream else "chat.completion",
            "created": int(time.time()),
            "model": model,
        }
        with self._service.generate(ask) as generation:
            if body.stream:
                await self._service.attended(ask, generation)
                stream = EventStream(request, fate, done=True)
                opening = [_opening(index) for index in range(ask.n)]
                return await relay(
                    stream,
                    generation,
                    head,
                    opening=opening,
                    choice_of=body.choice_of,
                    options=body.stream_options,
                )
            await generation.finished()
            more = await self._service.handed_over(ask, generation)
            return json_response({**_whole(body, head, generation), **more})


def _opening(index: int) -> Json:
    delta = {"role": "assistant", "content": ""}
    return {"index": index, "delta": delta, "logprobs": None, "finish_reason": None}


def _whole(body: ChatBody, head: Json, generation: Generation) -> Json:
    choices: list[Json] = [
        {
            "index": index,
            "message": {
                "role": "assistant",
                "content": answer_text(sequence),
                "refusal": None,
                "tool_calls": [],
            },
            "logprobs": None,
            "finish_reason": ended(sequence),
            "stop_reason": None,
            "token_ids": answer_tokens(sequence) if body.return_token_ids else None,
        }
        for index, sequence in enumerate(generation.sequences)
    ]
    tail = {"usage": usage_body(generation.usage), "system_fingerprint": FINGERPRINT}
    prompt = list(generation.sequences[0].prompt) if body.return_token_ids else None
    return {**head, "choices": choices, "prompt_token_ids": prompt, **tail}
