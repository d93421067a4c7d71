r"""Token ids for requests: off the event loop, within a deadline, and never an error.

A prompt whose ids can't be told in time is routed without them; how many, and why, is counted,
and each reason is logged once it repeats. What is found too late is kept for the next turn.

::

    ask --> at once                 when that is known to take less than a millisecond
       \-> a thread (bounded)       a tokenizer of ours
        \-> the engine's /tokenize
"""

import asyncio
import logging
import ssl
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from time import perf_counter

import aiohttp

from gateway.tokenizing.body import UntokenizableError, read
from gateway.tokenizing.engine import ids_from
from gateway.tokenizing.local import LocalTokenizer, Prepared
from gateway.tokenizing.pace import Pace
from gateway.tokenizing.pieces import TokenIds

ENGINE = "engine"
"""In place of a path: ask the model's engines."""
DONE, LATE, REFUSED, UNFORESEEN = "done", "late", "refused", "an error of ours"
"""Outcomes besides the reasons for which ids can't be told."""

_MOST_WAITING = 256
_THREADS = 2
_AT_ONCE_SECONDS = 0.001
_AT_ONCE_BYTES = 65_536  # however fast it went so far
_REPEATED = 3
# First guesses, of a slow machine: reading and rendering a byte, tokenizing a character.
_RENDERING, _TOKENIZING = 20e-9, 1e-6
_log = logging.getLogger("inferway.tokenizing")


class _Model:
    """A tokenizer, and how fast it is."""

    def __init__(self, source: str) -> None:
        self.tokenizer = LocalTokenizer(Path(source))
        self.rendering = Pace(_RENDERING)
        self.tokenizing = Pace(_TOKENIZING)

    def quick(self, body: bytes) -> bool:
        """Whether a prompt may be rendered on the event loop."""
        size = len(body)
        return size <= _AT_ONCE_BYTES and self.rendering.expected(size) < _AT_ONCE_SECONDS / 2

    def quickly_done(self, prepared: Prepared) -> bool:
        """Whether it may be tokenized there, too: most of it is known by now."""
        return self.tokenizing.expected(prepared.lookup.unknown) < _AT_ONCE_SECONDS / 2

    def prepare(self, body: bytes) -> Prepared:
        began = perf_counter()
        prepared = self.tokenizer.prepare(read(body))
        self.rendering.observe(len(body), perf_counter() - began)
        return prepared

    def complete(self, prepared: Prepared) -> TokenIds:
        began = perf_counter()
        ids = self.tokenizer.complete(prepared)
        self.tokenizing.observe(prepared.lookup.unknown, perf_counter() - began)
        return ids

    def ids(self, body: bytes) -> TokenIds:
        return self.complete(self.prepare(body))


class TokenizingService:
    """``sources``: model -> path of a tokenizer, or `ENGINE`.

    A request waits ``deadline`` seconds at most. ``endpoint_of`` gives the URL of an engine that
    serves a model, ``base_of`` the model that an adapter belongs to, ``tls`` says whom to trust
    as an engine. Raises `local.TokenizerError` for a tokenizer that can't be loaded.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        deadline: float,
        endpoint_of: Callable[[str], str | None],
        base_of: Callable[[str], str],
        tls: ssl.SSLContext | None = None,
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        """How it went: `DONE`, `LATE`, `REFUSED` (too many wait), else why there are no ids."""
        self.at_once = 0
        """How many were done without leaving the event loop."""
        self.seconds = 0.0
        """What all of them waited for their ids."""
        self._sources = dict(sources)
        self._deadline = deadline
        self._endpoint_of = endpoint_of
        self._base_of = base_of
        self._tls = tls
        self._waiting = 0
        self._local = {
            model: _Model(source) for model, source in self._sources.items() if source != ENGINE
        }
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tokenizing")
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[TokenIds | None]] = set()
        self._closed = False

    def serves(self, model: str) -> bool:
        """Whether the ids of the model's prompts can be told."""
        return self._base_of(model) in self._sources

    def ask(self, model: str, body: bytes) -> "asyncio.Task[TokenIds | None]":
        """The ids of a prompt, or None; never raises, and ends by the deadline."""
        task = asyncio.get_running_loop().create_task(self._ask(model, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Let go of threads and connections; who still waits gets None."""
        self._closed = True
        tasks = list(self._tasks)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._session is not None:
            await self._session.close()

    async def _ask(self, model: str, body: bytes) -> TokenIds | None:
        if self._waiting >= _MOST_WAITING or self._closed:
            self._failed(model, REFUSED)
            return None
        self._waiting += 1
        began = perf_counter()
        try:
            async with asyncio.timeout(self._deadline):
                found = await self._find(model, body)
        except TimeoutError:
            self._failed(model, LATE)
            return None
        except UntokenizableError as error:
            self._failed(model, str(error))
            return None
        except Exception:  # the request must go on: it can do without ids
            if not self.outcomes[UNFORESEEN]:
                _log.exception("tokenizing fails", extra={"model": model})
            self._failed(model, UNFORESEEN)
            return None
        finally:
            self._waiting -= 1
            self.seconds += perf_counter() - began
        self.outcomes[DONE] += 1
        return found

    async def _find(self, model: str, body: bytes) -> TokenIds:
        base = self._base_of(model)
        local = self._local.get(base)
        if local is None:
            return await self._from_engine(model, body)
        loop = asyncio.get_running_loop()
        if not local.quick(body):
            return await loop.run_in_executor(self._threads, local.ids, body)
        prepared = local.prepare(body)
        if not local.quickly_done(prepared):
            return await loop.run_in_executor(self._threads, local.complete, prepared)
        self.at_once += 1
        return local.complete(prepared)

    async def _from_engine(self, model: str, body: bytes) -> TokenIds:
        url = self._endpoint_of(model)
        if url is None:
            raise UntokenizableError("no engine to ask")
        if self._session is None:
            self._session = aiohttp.ClientSession(
                headers={"content-type": "application/json"},
                connector=aiohttp.TCPConnector(ssl=self._tls if self._tls is not None else True),
                cookie_jar=aiohttp.DummyCookieJar(),
            )
        return await ids_from(self._session, url, model, body)

    def _failed(self, model: str, reason: str) -> None:
        self.outcomes[reason] += 1
        if self.outcomes[reason] == _REPEATED:
            _log.warning(
                "prompts are routed without their token ids",
                extra={"model": model, "reason": reason},
            )
