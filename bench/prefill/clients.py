"""Clients that know the right answer, and sometimes leave before they have it."""

import asyncio
from dataclasses import dataclass
from enum import Enum
from random import Random

import aiohttp
import msgspec

_PATH = "/v1/chat/completions"
_PATIENCE = 60.0
MODEL = "sim-8b"


class Ending(Enum):
    """How a request ended for its client."""

    RIGHT = "right"
    ERROR = "honest error"
    LEFT = "left"
    WRONG = "wrong"
    """A wrong text, a text twice, an end without a word, or nothing at all."""


@dataclass(frozen=True, slots=True)
class Asked:
    """One request: what is to be echoed, how it is asked, and after how long its client leaves."""

    name: str
    said: str
    padding: str
    streamed: bool
    leaves_after: float | None

    @property
    def body(self) -> dict[str, object]:
        """The chat; the simulated servers answer with its last message."""
        return {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": self.padding},
                {"role": "user", "content": self.said},
            ],
            "stream": self.streamed,
            "max_tokens": 64,
        }


def draw(dice: Random, number: int, leaving: float, patience: float) -> Asked:
    """A request whose prompt begins like no other one's."""
    return Asked(
        name=f"bench-{number}",
        said=dice.randbytes(24).hex(),
        padding=dice.randbytes(400).hex(),
        streamed=dice.random() < 0.5,
        leaves_after=dice.random() * patience if dice.random() < leaving else None,
    )


class _Delta(msgspec.Struct):
    content: str = ""


class _Choice(msgspec.Struct):
    delta: _Delta = msgspec.field(default_factory=_Delta)
    message: _Delta = msgspec.field(default_factory=_Delta)


class _Said(msgspec.Struct):
    choices: list[_Choice] = []
    error: dict[str, object] | None = None


_said = msgspec.json.Decoder(_Said)


async def ask(http: aiohttp.ClientSession, asked: Asked) -> tuple[Ending, str]:
    """Send it; how it ended, and for what is not right the words for it."""
    try:
        async with asyncio.timeout(asked.leaves_after):
            return await _ask(http, asked)
    except TimeoutError:
        return Ending.LEFT, ""


async def _ask(http: aiohttp.ClientSession, asked: Asked) -> tuple[Ending, str]:
    try:
        async with (
            asyncio.timeout(_PATIENCE),
            http.post(_PATH, json=asked.body, headers={"x-request-id": asked.name}) as response,
        ):
            page = await response.read()
            streamed = response.content_type == "text/event-stream"
            if response.status == 200:
                return _judge_stream(page, asked) if streamed else _judge(page, asked)
            return _judge_error(response.status, page)
    except TimeoutError:
        if asked.leaves_after is not None:
            raise
        return Ending.WRONG, f"no answer within {_PATIENCE:g} s"
    except aiohttp.ClientPayloadError:
        # The only honest end of an unstreamed answer that is cut is a cut connection.
        return (Ending.WRONG, "a stream was cut") if asked.streamed else (Ending.ERROR, "cut")
    except (aiohttp.ClientError, OSError) as error:
        return Ending.WRONG, type(error).__name__


def _judge_error(status: int, page: bytes) -> tuple[Ending, str]:
    try:
        said = _said.decode(page)
    except msgspec.DecodeError:
        return Ending.WRONG, f"status {status} without a word"
    if said.error is None:
        return Ending.WRONG, f"status {status} without an error"
    return Ending.ERROR, f"status {status}"


def _judge(page: bytes, asked: Asked) -> tuple[Ending, str]:
    try:
        said = _said.decode(page)
    except msgspec.DecodeError:
        return Ending.WRONG, "an answer that can't be read"
    text = said.choices[0].message.content if said.choices else ""
    return (Ending.RIGHT, "") if text == asked.said else (Ending.WRONG, "another text")


def _judge_stream(page: bytes, asked: Asked) -> tuple[Ending, str]:
    text, failed = "", False
    lines = [line for line in page.split(b"\n") if line.startswith(b"data: ")]
    if not lines or lines[-1] != b"data: [DONE]" or lines.count(b"data: [DONE]") != 1:
        return Ending.WRONG, "a stream without an end, or with two"
    for line in lines[:-1]:
        said = _said.decode(line[6:])
        failed = failed or said.error is not None
        text += "".join(choice.delta.content for choice in said.choices)
    if failed:
        whole = asked.said.startswith(text)
        return (Ending.ERROR, "error event") if whole else (Ending.WRONG, "another text, broken")
    return (Ending.RIGHT, "") if text == asked.said else (Ending.WRONG, "another text")
