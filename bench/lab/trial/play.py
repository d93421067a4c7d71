"""Plays one workload through one gateway, and reads what the engines say of it."""

import asyncio
import statistics
from collections.abc import Sequence

import aiohttp
import msgspec
from msgspec import Struct
from prometheus_client.parser import text_string_to_metric_families

from bench.lab.engine import MODEL, Server
from bench.lab.trial.workloads import ANSWER_TOKENS, Ask, Workload
from bench.pulse import Pulse

_LIMIT = aiohttp.ClientTimeout(total=300)
_HITS, _QUERIES = "vllm:prefix_cache_hits_total", "vllm:prefix_cache_queries_total"
_PROMPTS = "vllm:request_success_total"


class Run(Struct, frozen=True, kw_only=True):
    """One workload through one gateway. Times in seconds; ``hit_ratio`` as the engines count it.

    ``paused_seconds``: the longest time for which the machine did not let the client run.
    """

    gateway: str
    workload: str
    number: int
    requests: int
    errors: dict[str, int]
    mean_ttft: float
    p50_ttft: float
    p90_ttft: float
    mean_seconds: float
    wall_seconds: float
    hit_ratio: float
    requests_by_server: list[int]
    paused_seconds: float
    ttfts: list[float]


class _Delta(Struct, frozen=True):
    content: str | None = None


class _Choice(Struct, frozen=True):
    delta: _Delta = _Delta()


class _Chunk(Struct, frozen=True):
    choices: list[_Choice] = []


_chunk = msgspec.json.Decoder(_Chunk)


async def empty_caches(servers: Sequence[Server]) -> None:
    """Forget all that is cached, and let each engine publish that it did.

    vLLM tells of a reset with its next step's events: a short prompt makes one.
    """
    async with aiohttp.ClientSession(timeout=_LIMIT, raise_for_status=True) as http:
        for server in servers:
            async with http.post(f"{server.url}/reset_prefix_cache") as response:
                await response.read()
            body = {"model": MODEL, "prompt": "a", "max_tokens": 1}
            async with http.post(f"{server.url}/v1/completions", json=body) as response:
                await response.read()


async def play(
    workload: Workload, gateway: str, url: str, servers: Sequence[Server], number: int
) -> Run:
    """All of it. Raises aiohttp.ClientError when an engine does not tell its metrics."""
    loop = asyncio.get_running_loop()
    async with aiohttp.ClientSession(timeout=_LIMIT) as http:
        before = [await _counters(http, server) for server in servers]
        player = _Player(http, url)
        pulse = Pulse()
        begun = loop.time()
        await player.play(workload)
        wall, paused = loop.time() - begun, pulse.stop()
        after = [await _counters(http, server) for server in servers]
    hits = sum(b[_HITS] - a[_HITS] for a, b in zip(before, after, strict=True))
    queries = sum(b[_QUERIES] - a[_QUERIES] for a, b in zip(before, after, strict=True))
    ttfts = player.ttfts or [float("nan")]
    return Run(
        gateway=gateway,
        workload=workload.name,
        number=number,
        requests=len(workload.asks),
        errors=player.errors,
        mean_ttft=statistics.fmean(ttfts),
        p50_ttft=statistics.median(ttfts),
        p90_ttft=sorted(ttfts)[int(len(ttfts) * 0.9)],
        mean_seconds=statistics.fmean(player.seconds or [float("nan")]),
        wall_seconds=wall,
        hit_ratio=hits / queries if queries else 0.0,
        requests_by_server=[
            round(b[_PROMPTS] - a[_PROMPTS]) for a, b in zip(before, after, strict=True)
        ],
        paused_seconds=paused,
        ttfts=player.ttfts,
    )


class _Player:
    """So many clients, who take the workload's requests in order."""

    def __init__(self, http: aiohttp.ClientSession, url: str) -> None:
        self.ttfts: list[float] = []
        self.seconds: list[float] = []
        self.errors: dict[str, int] = {}
        self._http = http
        self._url = url

    async def play(self, workload: Workload) -> None:
        waiting = iter(workload.asks)
        turns = {ask.session: asyncio.Lock() for ask in workload.asks}

        async def client() -> None:
            for ask in waiting:
                async with turns[ask.session]:
                    await self._ask(ask)

        await asyncio.gather(*(client() for _ in range(workload.at_once)))

    async def _ask(self, ask: Ask) -> None:
        loop = asyncio.get_running_loop()
        body = {
            "model": MODEL,
            "messages": ask.messages,
            "max_tokens": ANSWER_TOKENS,
            "temperature": 0,
            "stream": True,
            "ignore_eos": True,
        }
        begun = loop.time()
        first: float | None = None
        try:
            async with self._http.post(f"{self._url}/v1/chat/completions", json=body) as response:
                if response.status != 200:
                    self._failed(f"status {response.status}")
                    return
                async for line in response.content:
                    if first is None and line.startswith(b"data: {"):
                        choices = _chunk.decode(line[6:]).choices
                        if any(choice.delta.content for choice in choices):
                            first = loop.time() - begun
        except (aiohttp.ClientError, TimeoutError, msgspec.MsgspecError) as error:
            self._failed(type(error).__name__)
            return
        if first is None:
            self._failed("no text")
            return
        self.ttfts.append(first)
        self.seconds.append(loop.time() - begun)

    def _failed(self, kind: str) -> None:
        self.errors[kind] = self.errors.get(kind, 0) + 1


async def _counters(http: aiohttp.ClientSession, server: Server) -> dict[str, float]:
    """The engine's own counters, each summed over its labels."""
    async with http.get(f"{server.url}/metrics", raise_for_status=True) as response:
        page = await response.text()
    sums = dict.fromkeys((_HITS, _QUERIES, _PROMPTS), 0.0)
    for family in text_string_to_metric_families(page):
        for sample in family.samples:
            if sample.name in sums:
                sums[sample.name] += sample.value
    return sums
