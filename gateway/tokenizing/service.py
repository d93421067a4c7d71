"""Token ids for requests: off the event loop, within a deadline, and never an error.

A prompt whose ids can't be told in time is routed without them; how many, and why, is counted,
and each reason is logged once.
"""

import asyncio
import logging
from array import array
from collections import Counter
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import aiohttp

from gateway.tokenizing import body as bodies
from gateway.tokenizing.body import UntokenizableError
from gateway.tokenizing.engine import ids_from
from gateway.tokenizing.local import LocalTokenizer

ENGINE = "engine"
"""In place of a path: ask the model's engines."""
_MOST_WAITING = 256
_THREADS = 2
_log = logging.getLogger("inferway.tokenizing")


class TokenizingService:
    """``sources``: model -> path of a tokenizer, or `ENGINE`.

    A request waits ``deadline`` seconds at most. ``endpoint_of`` gives the URL of an engine that
    serves a model, ``base_of`` the model that an adapter belongs to. Raises
    `local.TokenizerError` for a tokenizer that can't be loaded.
    """

    def __init__(
        self,
        sources: Mapping[str, str],
        deadline: float,
        endpoint_of: Callable[[str], str | None],
        base_of: Callable[[str], str],
    ) -> None:
        self.outcomes: Counter[str] = Counter()
        """How it went: ``done``, ``late``, ``refused`` (too many wait), else why it did not."""
        self._sources = dict(sources)
        self._deadline = deadline
        self._endpoint_of = endpoint_of
        self._base_of = base_of
        self._waiting = 0
        self._local = {
            model: LocalTokenizer(Path(source))
            for model, source in self._sources.items()
            if source != ENGINE
        }
        self._threads = ThreadPoolExecutor(_THREADS, thread_name_prefix="tokenizing")
        self._session: aiohttp.ClientSession | None = None
        self._tasks: set[asyncio.Task[array[int] | None]] = set()

    def serves(self, model: str) -> bool:
        """Whether the ids of the model's prompts can be told."""
        return self._base_of(model) in self._sources

    def ask(self, model: str, body: bytes) -> "asyncio.Task[array[int] | None]":
        """The ids of a prompt, or None; never raises, and ends by the deadline."""
        task = asyncio.get_running_loop().create_task(self._ask(model, body))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return task

    async def close(self) -> None:
        """Let go of threads and connections."""
        for task in self._tasks:
            task.cancel()
        self._threads.shutdown(wait=False, cancel_futures=True)
        if self._session is not None:
            await self._session.close()

    async def _ask(self, model: str, body: bytes) -> "array[int] | None":
        if self._waiting >= _MOST_WAITING:
            self._failed(model, "refused")
            return None
        self._waiting += 1
        try:
            async with asyncio.timeout(self._deadline):
                found = await self._find(model, body)
        except TimeoutError:
            self._failed(model, "late")
            return None
        except UntokenizableError as error:
            self._failed(model, str(error))
            return None
        finally:
            self._waiting -= 1
        self.outcomes["done"] += 1
        return found

    async def _find(self, model: str, body: bytes) -> "array[int]":
        base = self._base_of(model)
        local = self._local.get(base)
        if local is not None:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, _local_ids, local, body)
        url = self._endpoint_of(model)
        if url is None:
            raise UntokenizableError("no engine to ask")
        if self._session is None:
            self._session = aiohttp.ClientSession(headers={"content-type": "application/json"})
        return await ids_from(self._session, url, body)

    def _failed(self, model: str, reason: str) -> None:
        if not self.outcomes[reason]:
            _log.warning(
                "prompts are routed without their token ids",
                extra={"model": model, "reason": reason},
            )
        self.outcomes[reason] += 1


def _local_ids(tokenizer: LocalTokenizer, body: bytes) -> "array[int]":
    return tokenizer.ids(bodies.read(body))
