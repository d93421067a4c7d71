"""Clients that know the right answer, and say what became of each request.

The servers echo a chat's last message, so an answer is right when it is that text, to the last
character. A request is *answered* (right), an honest *error* (well formed, or cut short so that
the client can tell), *wrong* (it looks whole and is not right) or *lost* (nothing came).
"""

import asyncio
import ssl
from collections import Counter
from collections.abc import AsyncIterator
from enum import Enum
from itertools import count
from random import Random
from typing import NamedTuple

import aiohttp
import msgspec

MODEL = "sim-8b"
PATIENCE = 30.0
"""Seconds after which a request without an answer is lost."""
_SYSTEM = "You are a patient assistant who repeats what is said. " * 20
_LONG = "The document goes on and on. " * 3_500  # 100 KB
_LONG_SHARE = 0.03
_WORDS = ("sea", "tide", "moon", "ship", "wind", "salt", "rope", "gull", "north", "storm")
_ANSWER_WORDS = 30


class Verdict(Enum):
    """What became of a request."""

    ANSWERED = "answered"
    ERROR = "error"
    WRONG = "wrong"
    LOST = "lost"


class Fate(NamedTuple):
    """A request's end: when it began and ended (loop time), and which endpoint served it."""

    verdict: Verdict
    kind: str
    began: float
    ended: float
    endpoint: str | None


class _Message(msgspec.Struct, frozen=True):
    content: str | None = None


class _Choice(msgspec.Struct, frozen=True):
    message: _Message = _Message()
    delta: _Message = _Message()


class _Answer(msgspec.Struct, frozen=True):
    choices: list[_Choice] = []
    error: dict[str, object] | None = None


_answer = msgspec.json.Decoder(_Answer)


class Clients:
    """So many clients, each one request after the other, half of them streams."""

    def __init__(
        self, url: str, number: int, seed: str, trust: ssl.SSLContext | None = None
    ) -> None:
        self.fates: list[Fate] = []
        self.offered = 0
        self._url = url
        self._number = number
        self._seed = seed
        self._trust = trust
        self._going = True
        self._serial = count()
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Begin."""
        # With TLS a handshake each time: only a new connection looks at the certificate.
        connector = aiohttp.TCPConnector(
            limit=0, ssl=self._trust or True, force_close=self._trust is not None
        )
        self._session = aiohttp.ClientSession(
            connector=connector, timeout=aiohttp.ClientTimeout(total=PATIENCE)
        )
        self._tasks = [asyncio.create_task(self._client(n)) for n in range(self._number)]

    async def stop(self) -> None:
        """Let every request end, and no other begin."""
        self._going = False
        await asyncio.gather(*self._tasks)
        await self._session.close()

    def verdicts(self) -> Counter[Verdict]:
        """How many requests ended how."""
        return Counter(fate.verdict for fate in self.fates)

    def kinds(self, *verdicts: Verdict) -> Counter[str]:
        """Those verdicts' kinds."""
        return Counter(fate.kind for fate in self.fates if fate.verdict in verdicts)

    async def _client(self, number: int) -> None:
        loop = asyncio.get_running_loop()
        dice = Random(f"{self._seed} {number}")
        while self._going:
            serial = next(self._serial)
            said = f"{serial}: " + " ".join(dice.choices(_WORDS, k=_ANSWER_WORDS))
            system = _LONG if dice.random() < _LONG_SHARE else _SYSTEM
            self.offered += 1
            began = loop.time()
            verdict, kind, endpoint = await self._ask(said, system, streamed=serial % 2 == 0)
            self.fates.append(Fate(verdict, kind, began, loop.time(), endpoint))
            if verdict is not Verdict.ANSWERED:
                await asyncio.sleep(0.05)  # a gateway that fails at once is not hammered

    async def _ask(
        self, said: str, system: str, *, streamed: bool
    ) -> tuple[Verdict, str, str | None]:
        body = {
            "model": MODEL,
            "messages": [
                {"role": "system", "content": system},
                {"role": "user", "content": said},
            ],
            "max_tokens": 200,
            "stream": streamed,
        }
        text, endpoint = "", None
        begun = False
        try:
            async with self._session.post(f"{self._url}/v1/chat/completions", json=body) as answer:
                begun = True
                endpoint = answer.headers.get("x-inferway-endpoint")
                if answer.status != 200:
                    return (*_refusal(answer.status, await answer.read()), endpoint)
                if not streamed:
                    return (*_whole(await answer.read(), said), endpoint)
                async for event in _events(answer.content):
                    if event == b"[DONE]":
                        break
                    part = _answer.decode(event)
                    if part.error is not None:
                        return (*_ended_early(text, said, "error event"), endpoint)
                    text += "".join(one.delta.content or "" for one in part.choices)
                else:
                    return Verdict.WRONG, "a stream without its end", endpoint
                async for more in _events(answer.content):
                    return Verdict.WRONG, f"after the end: {more[:40]!r}", endpoint
        except aiohttp.ClientPayloadError:
            return (*_ended_early(text, said, "cut short"), endpoint)
        except msgspec.MsgspecError:
            return Verdict.WRONG, "an event that is no JSON", endpoint
        except aiohttp.ClientConnectorCertificateError as error:
            reason = getattr(error.certificate_error, "verify_message", "certificate refused")
            return Verdict.ERROR, str(reason), None
        except TimeoutError:
            return Verdict.LOST, f"nothing after {PATIENCE:g} s", endpoint
        except (aiohttp.ClientError, ConnectionError) as error:
            if begun:
                return (*_ended_early(text, said, "cut short"), endpoint)
            return Verdict.LOST, type(error).__name__, None
        if text == said:
            return Verdict.ANSWERED, "stream", endpoint
        return Verdict.WRONG, "another text in a stream", endpoint


async def _events(content: aiohttp.StreamReader) -> AsyncIterator[bytes]:
    """The data of server-sent events."""
    async for line in content:
        if line.startswith(b"data: "):
            yield line[6:].strip()


def _refusal(status: int, page: bytes) -> tuple[Verdict, str]:
    try:
        error = _answer.decode(page).error
    except msgspec.MsgspecError:
        error = None
    if error is None:
        return Verdict.WRONG, f"status {status} that says nothing"
    return Verdict.ERROR, f"status {status}"


def _whole(page: bytes, said: str) -> tuple[Verdict, str]:
    try:
        choices = _answer.decode(page).choices
    except msgspec.MsgspecError:
        return Verdict.WRONG, "a body that is no JSON"
    if len(choices) == 1 and choices[0].message.content == said:
        return Verdict.ANSWERED, "whole"
    return Verdict.WRONG, "another text"


def _ended_early(text: str, said: str, kind: str) -> tuple[Verdict, str]:
    """An end that the client can see; what came before it must still be right."""
    if said.startswith(text):
        return Verdict.ERROR, kind
    return Verdict.WRONG, f"another text, then {kind}"
