"""Conversations over shared documents, some much more popular than others, and what they cost.

Each client takes a document (by Zipf's law), talks about it for a few turns, and takes the next
one. A turn's prompt begins with all that was said before, so it finds a prefix wherever the turn
before it was, and the document wherever somebody asked about it.
"""

import asyncio
import itertools
import random
from bisect import bisect_left
from collections.abc import Collection
from dataclasses import dataclass, field
from typing import Any, Final

import aiohttp
import msgspec

from routing.prefix.chain import BLOCK_BYTES, text_chain
from routing.request import Chain

_WORDS: Final = ("amber", "basin", "cedar", "delta", "ember", "fjord", "grove", "haven", "inlet")
_TURNS: Final = (1, 5)
_ANSWER: Final = (8, 40)
_TIMEOUT: Final = aiohttp.ClientTimeout(total=120)


@dataclass(frozen=True, slots=True)
class TrafficSettings:
    """``documents`` of ``document_bytes`` each; ``clients`` talk at a time."""

    documents: int = 60
    document_bytes: int = 16_384
    clients: int = 16
    skew: float = 0.8
    seed: int = 0


@dataclass(slots=True)
class Books:
    """What came of it. Tokens as the engines report them.

    ``lost_tokens``: those that had to be computed although a server that was removed had them,
    since no server that was left did. A prefix counts until it is warm again somewhere.
    """

    requests: int = 0
    failures: list[str] = field(default_factory=list)
    prompt_tokens: int = 0
    cached_tokens: int = 0
    lost_tokens: float = 0.0


class Traffic:
    """Clients that go on until they are told to stop."""

    def __init__(self, url: str, model: str, settings: TrafficSettings) -> None:
        self._url = url
        self._model = model
        self._settings = settings
        dice = random.Random(settings.seed)
        self._documents = [_text(dice, settings.document_bytes) for _ in range(settings.documents)]
        self._weights = [1.0 / (rank + 1) ** settings.skew for rank in range(settings.documents)]
        self._held: dict[str, set[int]] = {}  # server -> blocks of the prompts that it answered
        self._gone: set[int] = set()  # blocks that removed servers held
        self._stopping = False
        self._numbers = itertools.count()
        self.books = Books()
        self._http: aiohttp.ClientSession | None = None

    async def run(self) -> None:
        """Talk until `stop`; what is begun is ended."""
        connector = aiohttp.TCPConnector(limit=0)
        async with (
            aiohttp.ClientSession(connector=connector, timeout=_TIMEOUT) as self._http,
            asyncio.TaskGroup() as clients,
        ):
            for number in range(self._settings.clients):
                dice = random.Random(f"{self._settings.seed}-{number}")
                clients.create_task(self._client(dice))

    def stop(self) -> None:
        """Begin no further request."""
        self._stopping = True

    def keep(self, servers: Collection[str]) -> None:
        """These servers are left: what the others held is gone with them."""
        for name in self._held.keys() - set(servers):
            self._gone |= self._held.pop(name)

    async def _client(self, dice: random.Random) -> None:
        while not self._stopping:
            (document,) = dice.choices(self._documents, self._weights)
            messages = [{"role": "system", "content": document}]
            for _ in range(dice.randint(*_TURNS)):
                messages.append({"role": "user", "content": _text(dice, 200)})
                answer = await self._ask(messages, dice.randint(*_ANSWER), dice.random() < 0.5)
                if self._stopping or answer is None:
                    break
                messages.append({"role": "assistant", "content": answer})

    async def _ask(self, messages: list[dict[str, str]], tokens: int, streamed: bool) -> str | None:
        body: dict[str, Any] = {
            "model": self._model,
            "messages": messages,
            "max_tokens": tokens,
            "stream": streamed,
        }
        if streamed:
            body["stream_options"] = {"include_usage": True}
        number = next(self._numbers)
        assert self._http is not None
        try:
            async with self._http.post(f"{self._url}/v1/chat/completions", json=body) as response:
                content = await response.read()
                server = response.headers.get("x-inferway-endpoint", "")
                if response.status != 200:
                    raise ValueError(f"{response.status}: {content[:120]!r}")
            answer, usage = _streamed(content) if streamed else _whole(content)
        except (aiohttp.ClientError, OSError, TimeoutError, ValueError, KeyError) as error:
            self.books.failures.append(f"request {number}: {type(error).__name__} {error}")
            return None
        self._book(messages, usage, server)
        return answer

    def _book(self, messages: list[dict[str, str]], usage: dict[str, Any], server: str) -> None:
        books = self.books
        text = "".join(f"{one['role']}\n{one['content']}\n" for one in messages).encode()
        chain = text_chain(b"", text)
        left = max((_leading(chain, blocks) for blocks in self._held.values()), default=0)
        lost = max(_leading(chain, self._gone) - left, 0)
        self._held.setdefault(server, set()).update(chain)
        prompt = int(usage["prompt_tokens"])
        cached = int((usage.get("prompt_tokens_details") or {}).get("cached_tokens") or 0)
        books.requests += 1
        books.prompt_tokens += prompt
        books.cached_tokens += cached
        share = min(lost * BLOCK_BYTES / len(text), 1.0)
        books.lost_tokens += min(share * prompt, prompt - cached)


def _leading(chain: Chain, blocks: set[int]) -> int:
    """How many leading blocks are among those; a prompt's blocks are there up to some point."""
    return bisect_left(range(len(chain)), True, key=lambda at: chain[at] not in blocks)


def _whole(content: bytes) -> tuple[str, dict[str, Any]]:
    page = msgspec.json.decode(content)
    return str(page["choices"][0]["message"]["content"]), page["usage"]


def _streamed(content: bytes) -> tuple[str, dict[str, Any]]:
    """The answer of a stream that is whole; ValueError for one that is not."""
    events = [line[6:] for line in content.split(b"\n") if line.startswith(b"data: ")]
    if not events or events[-1] != b"[DONE]":
        raise ValueError(f"the stream ends with {content[-120:]!r}")
    text, usage = [], None
    for event in events[:-1]:
        page = msgspec.json.decode(event)
        if "error" in page:
            raise ValueError(f"the stream fails: {event[:120]!r}")
        choices = page.get("choices") or ()
        text += [(choice.get("delta") or {}).get("content") or "" for choice in choices]
        usage = page.get("usage") or usage
    if usage is None:
        raise ValueError("the stream tells no usage")
    return "".join(text), usage


def _text(dice: random.Random, size: int) -> str:
    words: list[str] = []
    length = 0
    while length < size:
        word = f"{dice.choice(_WORDS)}{dice.randrange(1000)}"
        words.append(word)
        length += len(word) + 1
    return " ".join(words)[:size]
