"""What chats and completions share: usage, and a stream with one event a token."""

from collections.abc import Callable, Sequence

from aiohttp import web

from bench.fleet.generation import Delta, Generation, Usage
from bench.fleet.routes.bodies import StreamOptions
from bench.fleet.routes.http import BROKEN, EventStream, Json, data_event

FINGERPRINT = "inferway-sim"


def usage_body(usage: Usage) -> Json:
    """The ``usage`` object, always with its cached tokens."""
    return {
        "prompt_tokens": usage.prompt_tokens,
        "total_tokens": usage.prompt_tokens + usage.completion_tokens,
        "completion_tokens": usage.completion_tokens,
        "prompt_tokens_details": {"cached_tokens": usage.cached_tokens},
    }


def choice_body(delta: Delta, content: Json, *, token_ids: bool | None) -> Json:
    """A chunk's one choice; ``content`` is what differs between the two APIs."""
    choice = {"index": delta.index, **content, "logprobs": None, "finish_reason": delta.finish}
    if token_ids:
        choice["token_ids"] = [delta.token]
    return choice


async def relay(
    stream: EventStream,
    generation: Generation,
    head: Json,
    *,
    opening: Sequence[Json],
    choice_of: Callable[[Delta], Json],
    options: StreamOptions | None,
) -> web.StreamResponse:
    """Stream the answers: one event a token, then usage if asked for, then [DONE].

    ``opening`` are the choices of the chunks that come with the first token and before it, as
    vLLM sends them.
    """
    options = StreamOptions() if options is None else options
    await stream.start()
    before = b"".join(data_event({**head, "choices": [choice]}) for choice in opening)
    while deltas := await generation.more():
        if before:
            await stream.send(before)
            before = b""
        tail = {"usage": usage_body(generation.usage)} if options.continuous_usage_stats else {}
        events = [data_event({**head, "choices": [choice_of(delta)], **tail}) for delta in deltas]
        if not await stream.send_tokens(events):
            await stream.send(data_event(BROKEN.openai_body))
            return await stream.end()
    if options.include_usage:
        await stream.send(
            data_event({**head, "choices": [], "usage": usage_body(generation.usage)})
        )
    return await stream.end()
