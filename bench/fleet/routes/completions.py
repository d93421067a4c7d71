"""``/v1/completions``: text and token-id prompts, one or many."""

import time

import msgspec
from aiohttp import web

from bench.fleet.engine.tokens import decode, encode
from bench.fleet.errors import bad_request
from bench.fleet.generation import Delta, Generation, answer_text, answer_tokens, ended
from bench.fleet.routes.answers import FINGERPRINT, choice_body, relay, usage_body
from bench.fleet.routes.bodies import Sampling
from bench.fleet.routes.http import (
    EventStream,
    Json,
    admit,
    json_response,
    openai_errors,
    read_body,
    response_id,
)
from bench.fleet.service import Ask, Prompt, Service, token_ids

_DEFAULT_MAX_TOKENS = 16  # the API's own default, unlike a chat's


class CompletionBody(Sampling, frozen=True, kw_only=True):
    """What is honoured of a completion request."""

    prompt: str | list[str | int | list[int]]
    echo: bool = False

    def choice_of(self, delta: Delta) -> Json:
        """A chunk's choice."""
        return choice_body(delta, {"text": delta.text}, token_ids=self.return_token_ids)


_decoder = msgspec.json.Decoder(CompletionBody)


class CompletionRoutes:
    """Text completions, whole and streamed."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def register(self, router: web.UrlDispatcher) -> None:
        """Add the route."""
        router.add_post("/v1/completions", openai_errors(self._complete))

    async def _complete(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, _decoder)
        fate = await admit(self._service, request)
        model = self._service.models.resolve(body.model)
        identity = response_id("cmpl", request, body.request_id)
        ask = Ask(
            model=model,
            prompts=read_prompts(body.prompt, "prompt"),
            n=1 if body.n is None else body.n,
            max_tokens=_DEFAULT_MAX_TOKENS if body.max_tokens is None else body.max_tokens,
            min_tokens=body.min_tokens or 0,
            ignore_eos=bool(body.ignore_eos),
            stop=body.stops,
            cache_salt=body.cache_salt,
            seed=body.seed or 0,
            arrival=await self._service.arrive(body, request.headers, identity),
        )
        head: Json = {
            "id": identity,
            "object": "text_completion",
            "created": int(time.time()),
            "model": model,
        }
        with self._service.generate(ask) as generation:
            if body.stream:
                await self._service.attended(ask, generation)
                stream = EventStream(request, fate, done=True)
                opening = _opening(generation) if body.echo else []
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


def read_prompts(prompt: str | list[str | int | list[int]], param: str) -> tuple[Prompt, ...]:
    """The prompts of a body: a text, texts, token ids, or lists of token ids."""
    if isinstance(prompt, str):
        return (_text_prompt(prompt),)
    if not prompt:
        raise bad_request(f"{param} must not be empty.", param)
    ids = [item for item in prompt if isinstance(item, int)]
    if ids:
        if len(ids) != len(prompt):
            raise bad_request(f"{param} mixes token ids with texts or lists.", param)
        return (_token_prompt(ids, param),)
    return tuple(
        _text_prompt(item) if isinstance(item, str) else _token_prompt(item, param)
        for item in prompt
        if not isinstance(item, int)
    )


def _text_prompt(text: str) -> Prompt:
    tokens = encode(text)
    return Prompt(tokens, tokens)


def _token_prompt(ids: list[int], param: str) -> Prompt:
    tokens = token_ids(ids, param)
    return Prompt(tokens, tokens)


def _opening(generation: Generation) -> list[Json]:
    return [
        {"index": index, "text": decode(sequence.prompt), "logprobs": None, "finish_reason": None}
        for index, sequence in enumerate(generation.sequences)
    ]


def _whole(body: CompletionBody, head: Json, generation: Generation) -> Json:
    choices: list[Json] = [
        {
            "index": index,
            "text": (decode(sequence.prompt) if body.echo else "") + answer_text(sequence),
            "logprobs": None,
            "finish_reason": ended(sequence),
            "stop_reason": None,
            "token_ids": answer_tokens(sequence) if body.return_token_ids else None,
            "prompt_token_ids": list(sequence.prompt) if body.return_token_ids else None,
        }
        for index, sequence in enumerate(generation.sequences)
    ]
    tail = {"usage": usage_body(generation.usage), "system_fingerprint": FINGERPRINT}
    return {**head, "choices": choices, **tail}
