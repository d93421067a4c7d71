"""``/v1/messages`` and ``/v1/messages/count_tokens``: the Anthropic API."""

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from bench.fleet.errors import bad_request
from bench.fleet.faults import BreakStream
from bench.fleet.generation import Generation, Usage, answer_text
from bench.fleet.routes.bodies import ABSENT, Message, render
from bench.fleet.routes.http import (
    BROKEN,
    EventStream,
    Json,
    admit,
    anthropic_errors,
    json_response,
    named_event,
    read_body,
    response_id,
)
from bench.fleet.service import Ask, Prompt, Service


class CountBody(Struct, frozen=True, kw_only=True):
    """What makes a prompt."""

    messages: list[Message]
    model: str | None = None
    system: str | list[Raw] | None = None
    tools: Raw = ABSENT


class MessagesBody(CountBody, frozen=True, kw_only=True):
    """What is honoured of a request; ``max_tokens`` is required, as in the original."""

    max_tokens: int
    stream: bool | None = None
    stop_sequences: list[str] | None = None
    cache_salt: str | None = None
    ignore_eos: bool | None = None


_decoder = msgspec.json.Decoder(MessagesBody)
_count_decoder = msgspec.json.Decoder(CountBody)


class MessageRoutes:
    """The Messages API, whole and streamed."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def register(self, router: web.UrlDispatcher) -> None:
        """Add the routes."""
        router.add_post("/v1/messages", anthropic_errors(self._message))
        router.add_post("/v1/messages/count_tokens", anthropic_errors(self._count))

    async def _message(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, _decoder)
        fate = await admit(self._service, request)
        model = self._service.models.resolve(body.model)
        ask = Ask(
            model=model,
            prompts=(_prompt(body),),
            max_tokens=body.max_tokens,
            ignore_eos=bool(body.ignore_eos),
            stop=tuple(body.stop_sequences or ()),
            cache_salt=body.cache_salt,
        )
        head = {
            "id": response_id("msg", request),
            "type": "message",
            "role": "assistant",
            "model": model,
        }
        with self._service.generate(ask) as generation:
            if body.stream:
                return await _stream(request, head, generation, fate)
            await generation.finished()
            content = [{"type": "text", "text": answer_text(generation.sequences[0])}]
            usage = _usage(generation.usage)
            ending = _ending(generation)
            return json_response({**head, "content": content, **ending, "usage": usage})

    async def _count(self, request: web.Request) -> web.Response:
        body = await read_body(request, _count_decoder)
        self._service.models.resolve(body.model)
        return json_response({"input_tokens": len(_prompt(body).tokens)})


def _prompt(body: CountBody) -> Prompt:
    if not body.messages:
        raise bad_request("messages must not be empty.", "messages")
    system = [] if body.system is None else [Message("system", body.system)]
    return render([*system, *body.messages], tools=body.tools)


def _ending(generation: Generation) -> Json:
    sequence = generation.sequences[0]
    stopped = sequence.output.stopped_by
    if stopped is not None:
        return {"stop_reason": "stop_sequence", "stop_sequence": stopped}
    reason = "max_tokens" if sequence.finish == "length" else "end_turn"
    return {"stop_reason": reason, "stop_sequence": None}


def _usage(usage: Usage) -> Json:
    """Anthropic counts cached tokens apart: ``input_tokens`` are those beyond them."""
    return {
        "input_tokens": usage.prompt_tokens - usage.cached_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": usage.cached_tokens,
        "output_tokens": usage.completion_tokens,
    }


def _event(kind: str, **fields: object) -> bytes:
    return named_event(kind, {"type": kind, **fields})


async def _stream(
    request: web.Request, head: Json, generation: Generation, fate: BreakStream | None
) -> web.StreamResponse:
    stream = EventStream(request, fate, done=False)
    await stream.start()
    started = False
    while deltas := await generation.more():
        if not started:
            started = True
            usage = {**_usage(generation.usage), "output_tokens": 0}
            ending = {"stop_reason": None, "stop_sequence": None}
            message = {**head, "content": [], **ending, "usage": usage}
            await stream.send(
                _event("message_start", message=message)
                + _event("content_block_start", index=0, content_block={"type": "text", "text": ""})
            )
        events = [
            _event("content_block_delta", index=0, delta={"type": "text_delta", "text": delta.text})
            for delta in deltas
        ]
        if not await stream.send_tokens(events):
            await stream.send(named_event("error", BROKEN.anthropic_body))
            return await stream.end()
    await stream.send(
        _event("content_block_stop", index=0)
        + _event("message_delta", delta=_ending(generation), usage=_usage(generation.usage))
        + _event("message_stop")
    )
    return await stream.end()
