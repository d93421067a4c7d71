"""``/v1/responses``: answers as they come; nothing is stored."""

import time
from collections.abc import Iterator
from itertools import count

import msgspec
from aiohttp import web
from msgspec import Raw, Struct

from bench.fleet.errors import bad_request
from bench.fleet.faults import BreakStream
from bench.fleet.generation import Generation, answer_text
from bench.fleet.routes.bodies import ABSENT, Message, render
from bench.fleet.routes.http import (
    BROKEN,
    EventStream,
    Json,
    admit,
    json_response,
    named_event,
    openai_errors,
    read_body,
    response_id,
)
from bench.fleet.service import Ask, Service


class ResponsesBody(Struct, frozen=True, kw_only=True):
    """What is honoured of a request."""

    input: str | list[Raw]
    model: str | None = None
    instructions: str | None = None
    stream: bool | None = None
    max_output_tokens: int | None = None
    tools: list[Raw] | None = None
    previous_response_id: str | None = None
    cache_salt: str | None = None
    ignore_eos: bool | None = None
    request_id: str | None = None


class _Item(Struct, frozen=True):
    role: str | None = None
    content: str | list[Raw] | None = None


_decoder = msgspec.json.Decoder(ResponsesBody)
_item = msgspec.json.Decoder(_Item)


class ResponseRoutes:
    """The Responses API, whole and streamed."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def register(self, router: web.UrlDispatcher) -> None:
        """Add the route."""
        router.add_post("/v1/responses", openai_errors(self._respond))

    async def _respond(self, request: web.Request) -> web.StreamResponse:
        body = await read_body(request, _decoder)
        fate = await admit(self._service, request)
        model = self._service.models.resolve(body.model)
        if body.previous_response_id is not None:
            message = "Responses are not stored here: send the whole conversation as input."
            raise bad_request(message, "previous_response_id")
        tools = ABSENT if body.tools is None else Raw(msgspec.json.encode(body.tools))
        ask = Ask(
            model=model,
            prompts=(render(_messages(body), tools=tools),),
            max_tokens=body.max_output_tokens,
            ignore_eos=bool(body.ignore_eos),
            cache_salt=body.cache_salt,
        )
        answer = _Answer(response_id("resp", request, body.request_id), model, body)
        with self._service.generate(ask) as generation:
            if body.stream:
                return await _stream(request, answer, generation, fate)
            await generation.finished()
            return json_response(answer.finished(generation))


def _messages(body: ResponsesBody) -> list[Message]:
    """The input as chat messages; items that are no messages are known by their bytes alone."""
    messages = []
    if body.instructions is not None:
        messages.append(Message("system", body.instructions))
    if isinstance(body.input, str):
        messages.append(Message("user", body.input))
        return messages
    for index, raw in enumerate(body.input):
        try:
            item = _item.decode(raw)
        except msgspec.ValidationError as error:
            raise bad_request(str(error), f"body.input[{index}]") from None
        if item.role is None:
            messages.append(Message("item", [raw]))
        else:
            messages.append(Message(item.role, item.content))
    return messages


class _Answer:
    """The response object in its states."""

    def __init__(self, name: str, model: str, body: ResponsesBody) -> None:
        self.item_id = name.replace("resp", "msg", 1)
        self._head: Json = {
            "id": name,
            "object": "response",
            "created_at": int(time.time()),
            "model": model,
            "instructions": body.instructions,
            "max_output_tokens": body.max_output_tokens,
            "metadata": {},
            "parallel_tool_calls": True,
            "previous_response_id": None,
            "temperature": 1.0,
            "tool_choice": "auto",
            "tools": [] if body.tools is None else body.tools,
            "top_p": 1.0,
            "error": None,
        }

    def in_progress(self) -> Json:
        """Before the first token."""
        state: Json = {
            "status": "in_progress",
            "incomplete_details": None,
            "output": [],
            "usage": None,
        }
        return {**self._head, **state}

    def finished(self, generation: Generation) -> Json:
        """With the whole answer; "incomplete" when the token limit ended it, as in vLLM."""
        usage = generation.usage
        complete = generation.sequences[0].finish == "stop"
        return {
            **self._head,
            "status": "completed" if complete else "incomplete",
            "incomplete_details": None if complete else {"reason": "max_output_tokens"},
            "output": [self.item(generation)],
            "usage": {
                "input_tokens": usage.prompt_tokens,
                "input_tokens_details": {"cached_tokens": usage.cached_tokens},
                "output_tokens": usage.completion_tokens,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": usage.prompt_tokens + usage.completion_tokens,
            },
        }

    def item(self, generation: Generation | None) -> Json:
        """The one message of the output; None: before its first token."""
        content = [] if generation is None else [self.part(answer_text(generation.sequences[0]))]
        return {
            "id": self.item_id,
            "type": "message",
            "role": "assistant",
            "status": "in_progress" if generation is None else "completed",
            "content": content,
        }

    def part(self, text: str) -> Json:
        """The one part of the message."""
        return {"type": "output_text", "text": text, "annotations": [], "logprobs": []}


async def _stream(
    request: web.Request, answer: _Answer, generation: Generation, fate: BreakStream | None
) -> web.StreamResponse:
    numbers = count()
    place = {"item_id": answer.item_id, "output_index": 0, "content_index": 0}
    stream = EventStream(request, fate, done=False)
    await stream.start()
    await stream.send(
        _event(numbers, "response.created", response=answer.in_progress())
        + _event(numbers, "response.in_progress", response=answer.in_progress())
    )
    opening = _event(
        numbers, "response.output_item.added", output_index=0, item=answer.item(None)
    ) + _event(numbers, "response.content_part.added", **place, part=answer.part(""))
    while deltas := await generation.more():
        if opening:
            await stream.send(opening)
            opening = b""
        events = [
            _event(numbers, "response.output_text.delta", **place, delta=delta.text, logprobs=[])
            for delta in deltas
        ]
        if not await stream.send_tokens(events):
            await stream.send(_event(numbers, "error", **BROKEN.openai_body["error"]))
            return await stream.end()
    item = answer.item(generation)
    part = item["content"][0]
    await stream.send(
        _event(numbers, "response.output_text.done", **place, text=part["text"], logprobs=[])
        + _event(numbers, "response.content_part.done", **place, part=part)
        + _event(numbers, "response.output_item.done", output_index=0, item=item)
        + _event(numbers, "response.completed", response=answer.finished(generation))
    )
    return await stream.end()


def _event(numbers: Iterator[int], kind: str, **fields: object) -> bytes:
    return named_event(kind, {"type": kind, "sequence_number": next(numbers), **fields})
