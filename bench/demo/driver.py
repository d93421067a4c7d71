"""Sends recorded requests at their times and measures what a client sees."""

import asyncio
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import aiohttp
import msgspec


@dataclass(frozen=True, slots=True)
class PlannedRequest:
    """One request: when it is sent (seconds after the start), and what."""

    at: float
    prompt: str
    output_tokens: int


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of one request; times in seconds, ``failure`` empty when it went well."""

    ttft: float | None = None
    duration: float | None = None
    prompt_tokens: int = 0
    cached_tokens: int = 0
    completion_tokens: int = 0
    endpoint: str = ""
    failure: str = ""
    gaps: tuple[float, ...] = ()
    """Between one token's event and the next."""


class _Details(msgspec.Struct):
    cached_tokens: int = 0


class _Usage(msgspec.Struct):
    prompt_tokens: int
    completion_tokens: int
    prompt_tokens_details: _Details | None = None


class _Event(msgspec.Struct):
    usage: _Usage | None = None


_event = msgspec.json.Decoder(_Event)


async def drive(
    base_url: str, model: str, plan: Sequence[PlannedRequest], done: Callable[[], object]
) -> list[Outcome]:
    """Send every request of the plan at its time; the outcomes in the plan's order.

    ``done`` is called after each. A request that can't be sent, is refused, or whose stream
    does not end regularly is an outcome with a ``failure``, never an exception.
    """
    start = time.monotonic()
    connector = aiohttp.TCPConnector(limit=0)
    timeout = aiohttp.ClientTimeout(total=None, sock_connect=10)

    async with aiohttp.ClientSession(base_url, connector=connector, timeout=timeout) as session:

        async def one(request: PlannedRequest) -> Outcome:
            await asyncio.sleep(max(0.0, start + request.at - time.monotonic()))
            try:
                outcome = await _send(session, model, request)
            except (aiohttp.ClientError, OSError, msgspec.DecodeError) as error:
                outcome = Outcome(failure=f"{type(error).__name__}: {error}")
            done()
            return outcome

        return await asyncio.gather(*(one(request) for request in plan))


async def _send(session: aiohttp.ClientSession, model: str, request: PlannedRequest) -> Outcome:
    body = {
        "model": model,
        "messages": [{"role": "user", "content": request.prompt}],
        "max_tokens": request.output_tokens,
        "ignore_eos": True,
        "stream": True,
        "stream_options": {"include_usage": True},
    }
    began = time.monotonic()
    ttft: float | None = None
    gaps: list[float] = []
    latest = began
    ended = False
    usage: _Usage | None = None
    async with session.post("/v1/chat/completions", json=body) as response:
        endpoint = response.headers.get("x-inferway-endpoint", "")
        if response.status != 200:
            return Outcome(endpoint=endpoint, failure=f"status {response.status}")
        async for line in response.content:
            if not line.startswith(b"data: "):
                continue
            now = time.monotonic()
            if ttft is None:
                ttft = now - began
            elif b'"choices":[{' in line:
                gaps.append(now - latest)
            latest = now
            if line.startswith(b"data: [DONE]"):
                ended = True
            elif line.startswith(b'data: {"error"'):
                return Outcome(endpoint=endpoint, failure=line.decode(errors="replace"))
            elif b'"usage":{' in line:
                usage = _event.decode(line[6:]).usage
    if not ended or usage is None:
        return Outcome(endpoint=endpoint, failure="the stream ended early")
    details = usage.prompt_tokens_details
    return Outcome(
        ttft=ttft,
        duration=time.monotonic() - began,
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=0 if details is None else details.cached_tokens,
        completion_tokens=usage.completion_tokens,
        endpoint=endpoint,
        gaps=tuple(gaps),
    )
