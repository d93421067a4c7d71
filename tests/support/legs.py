"""A proxy before endpoints with roles, and what their scripted servers say to each leg."""

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from typing import Any

import msgspec

from gateway.brains import Brains
from gateway.proxy.context import ProxyContext
from gateway.proxy.pool import Pools, PoolSettings
from gateway.proxy.server import ProxyServer
from gateway.record import RequestRecord, SplitRecord
from gateway.settings import ProxySettings
from gateway.telemetry import Telemetry
from routing.disaggregation import DisaggregationSettings
from routing.fleet import Endpoint, Fleet, ServedModel
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.router import Router, RouterSettings
from tests.support.gateways import MODEL, ProxyUnderTest
from tests.support.upstreams import Received, Script, Upstream, unary

PARAMS: dict[str, Any] = {
    "do_remote_prefill": True,
    "do_remote_decode": False,
    "remote_block_ids": [[4, 5, 6]],
    "remote_engine_id": "prefill-0",
    "remote_request_id": "cmpl-req-0-b1ab",
    "remote_host": "10.0.0.7",
    "remote_port": 18120,
    "tp_size": 1,
    "an unknown field": {"of": ["a", 2.50, None]},
}


@dataclass
class Stage:
    """A proxy, and the servers behind it by role."""

    proxy: ProxyUnderTest
    prefills: list[Upstream]
    decodes: list[Upstream]

    @property
    def port(self) -> int:
        return self.proxy.port

    @property
    def router(self) -> Router:
        return self.proxy.router

    @property
    def split(self) -> SplitRecord:
        """What became of the latest request."""
        split = self.proxy.records[-1].split
        assert split is not None
        return split

    def stranded(self) -> int:
        """KV tokens that lie pinned for nobody now, as the brain has it."""
        return self.router.prefilling.stranded_now(self.proxy.context.now())


@asynccontextmanager
async def staged(
    prefills: Sequence[Script],
    decodes: Sequence[Script],
    *,
    connector: str = "nixl",
    mode: str = "always",
    labels: dict[str, str] | None = None,
    **settings: Any,
) -> AsyncIterator[Stage]:
    """The proxy before one scripted server a script."""
    async with AsyncExitStack() as stack:
        servers = [await stack.enter_async_context(Upstream(one)) for one in (*prefills, *decodes)]
        roles = ["prefill"] * len(prefills) + ["decode"] * len(decodes)
        fleet = Fleet()
        for number, (server, role) in enumerate(zip(servers, roles, strict=True)):
            own = {"role": role, "kv-connector": connector, **(labels or {})}
            name = f"{role}-{number}"
            fleet.upsert(Endpoint(name, server.url, labels=tuple(own.items())), 0.0)
            fleet.observe_models(name, [ServedModel(MODEL)], 0.0)
            fleet.observe_health(name, True, 0.0, "test")
        router = Router(
            fleet,
            PrefixIndex(16 << 20),
            make_policy("predicted_time"),
            RouterSettings(disaggregation=DisaggregationSettings(mode=mode)),
        )
        records: list[RequestRecord] = []
        context = ProxyContext(
            brains=Brains({"default": router}),
            pools=Pools(PoolSettings(connect_timeout=1.0)),
            telemetry=Telemetry(),
            settings=msgspec.structs.replace(ProxySettings(), **settings),
            log_request=records.append,
        )
        proxy = ProxyServer(context, "127.0.0.1", 0)
        await proxy.start()
        stack.push_async_callback(proxy.stop)
        yield Stage(
            ProxyUnderTest(proxy, context, router, records),
            servers[: len(prefills)],
            servers[len(prefills) :],
        )


def primed(
    params: dict[str, Any] | None = PARAMS, *, finish: str = "length", cached: int | None = 16
) -> Script:
    """A prefill server's answer."""
    usage: dict[str, Any] = {"prompt_tokens": 40, "completion_tokens": 1, "total_tokens": 41}
    if cached is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": cached}
    answer: dict[str, Any] = {
        "id": "chatcmpl-1",
        "choices": [{"index": 0, "message": {"content": "x"}, "finish_reason": finish}],
        "usage": usage,
    }
    if params is not None:
        answer["kv_transfer_params"] = params
    return unary(json.dumps(answer).encode())


def in_order(*scripts: Script) -> Script:
    """A script a request, the last one again and again."""
    count = 0

    async def script(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        nonlocal count
        count += 1
        await scripts[min(count, len(scripts)) - 1](upstream, request, writer)

    return script


def after(seconds: float, script: Script) -> Script:
    """The script, so many seconds later."""

    async def late(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        await asyncio.sleep(seconds)
        await script(upstream, request, writer)

    return late


async def never(_: Upstream, __: Received, ___: asyncio.StreamWriter) -> None:
    """Say nothing."""
    await asyncio.Event().wait()


async def hang_up(_: Upstream, __: Received, writer: asyncio.StreamWriter) -> None:
    """Close the connection."""
    writer.transport.abort()


def when(event: asyncio.Event, script: Script) -> Script:
    """The script, once the event has come."""

    async def waiting(upstream: Upstream, request: Received, writer: asyncio.StreamWriter) -> None:
        await event.wait()
        await script(upstream, request, writer)

    return waiting


Condition = Callable[[], Awaitable[None]]


def body_of(request: Received) -> dict[str, Any]:
    """A request's JSON."""
    decoded: dict[str, Any] = json.loads(request.body)
    return decoded
