"""The prober against small servers on loopback that behave as each engine does, or misbehave."""

import asyncio
import json
import logging
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace

import pytest
from aiohttp import web

from endpoints.discovery.static import endpoint_from_url
from endpoints.probes import FleetProber, ProbeSettings
from routing.fleet import EndpointState, Fleet, Health, ServedModel

FAST = ProbeSettings(
    interval=0.05,
    timeout=0.5,
    models_interval=0.2,
    recheck_first=0.02,
    recheck_answering=0.05,
    recheck_silent=0.1,
)
PATIENCE = 10.0  # seconds a test waits for what must come soon

Answer = tuple[int, str]


def models_page(owner: str, *names: str, adapters: dict[str, str] | None = None) -> Answer:
    cards: list[dict[str, object]] = [
        {"id": name, "object": "model", "owned_by": owner, "parent": None, "max_model_len": 4096}
        for name in names
    ]
    for adapter, base in (adapters or {}).items():
        cards.append({"id": adapter, "object": "model", "owned_by": owner, "parent": base})
    return 200, json.dumps({"object": "list", "data": cards})


def vllm_metrics(started: float | None = 1000.0, tokens: int = 500, running: int = 3) -> Answer:
    start = f"process_start_time_seconds {started}\n" if started is not None else ""
    return 200, start + (
        "# HELP vllm:num_requests_running Number of requests running.\n"
        "# TYPE vllm:num_requests_running gauge\n"
        f'vllm:num_requests_running{{engine="0",model_name="m"}} {running}\n'
        'vllm:num_requests_waiting{engine="0",model_name="m"} 1\n'
        'vllm:kv_cache_usage_perc{engine="0",model_name="m"} 0.5\n'
        'vllm:cache_config_info{block_size="16",num_gpu_blocks="100",engine="0"} 1\n'
        f'vllm:prompt_tokens_total{{engine="0",model_name="m"}} {tokens}\n'
    )


@dataclass
class FakeServer:
    """A server that answers GETs with what its pages hold now; it can leave and come back."""

    pages: dict[str, Answer]
    delay: float = 0.0
    hangs_at: set[str] = field(default_factory=set)
    seen: list[str] = field(default_factory=list)
    stopping: asyncio.Event = field(default_factory=asyncio.Event)
    port: int = 0
    _runner: web.AppRunner | None = None

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    async def start(self) -> None:
        self.stopping.clear()
        application = web.Application()
        application.router.add_get("/{path:.*}", self._answer)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.01)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self.port, reuse_address=True)
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def stop(self) -> None:
        self.stopping.set()
        if self._runner is not None:
            await self._runner.cleanup()
            self._runner = None

    async def _answer(self, request: web.Request) -> web.Response:
        self.seen.append(request.path)
        if request.path in self.hangs_at or "*" in self.hangs_at:
            await self.stopping.wait()
        await asyncio.sleep(self.delay)
        status, body = self.pages.get(request.path, (404, "not found"))
        return web.Response(status=status, text=body)


def vllm_server() -> FakeServer:
    return FakeServer(
        {
            "/health": (200, ""),
            "/v1/models": models_page("vllm", "m", adapters={"lora": "m"}),
            "/metrics": vllm_metrics(),
        }
    )


class Stage:
    """A fleet, its prober and the servers of one test."""

    def __init__(self, settings: ProbeSettings) -> None:
        self.fleet = Fleet()
        self.restarts: list[str] = []
        self.servers: list[FakeServer] = []
        self.tasks_before = asyncio.all_tasks()
        self.prober = FleetProber(
            self.fleet, settings, clock=time.monotonic, on_restart=self.restarts.append
        )

    async def close(self) -> None:
        """Stop all; it must leave no task behind."""
        await self.prober.stop()
        assert not probe_tasks()
        for server in self.servers:
            await server.stop()
        here = asyncio.current_task()
        await self.until(lambda: asyncio.all_tasks() <= {*self.tasks_before, here})

    async def add(self, server: FakeServer, name: str, engine: str | None = None) -> FakeServer:
        await server.start()
        self.servers.append(server)
        self.join(server.url, name, engine)
        return server

    def join(self, url: str, name: str, engine: str | None = None) -> None:
        endpoint = endpoint_from_url(url, name=name, engine=engine)
        self.fleet.upsert(endpoint, time.monotonic())

    async def start(self) -> None:
        await self.prober.start()
        assert await self.prober.wait_first_round(PATIENCE)

    def state(self, name: str) -> EndpointState:
        state = self.fleet.get(name)
        assert state is not None
        return state

    def running(self, name: str) -> float | None:
        load = self.state(name).load
        return load.running if load is not None else None

    async def until(self, condition: Callable[[], bool]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not condition():
                await asyncio.sleep(0.005)

    async def until_health(self, name: str, health: Health) -> None:
        await self.until(lambda: self.state(name).health is health)

    async def rounds(self, server: FakeServer, count: int = 3) -> None:
        """Wait until ``server`` was asked for its health ``count`` times more."""
        wanted = server.seen.count("/health") + count
        await self.until(lambda: server.seen.count("/health") >= wanted)


@asynccontextmanager
async def staged(settings: ProbeSettings) -> AsyncIterator[Stage]:
    stage = Stage(settings)
    try:
        yield stage
    finally:
        await stage.close()


@pytest.fixture
async def stage() -> AsyncIterator[Stage]:
    async with staged(FAST) as stage:
        yield stage


async def test_an_endpoint_that_answers_requests_is_not_asked_for_its_health(stage: Stage) -> None:
    server = await stage.add(vllm_server(), "vllm")
    await stage.start()
    await stage.until_health("vllm", Health.HEALTHY)
    await stage.rounds(server)
    state = stage.state("vllm")
    state.answered_at = time.monotonic() + 60.0  # just now, for as long as this test takes
    await stage.until(lambda: server.seen[-2:] == ["/metrics", "/metrics"])
    asked = len(server.seen)
    await stage.until(lambda: server.seen[asked:].count("/metrics") >= 5)
    assert "/health" not in server.seen[asked:]
    state.answered_at = 0.0
    server.pages["/health"] = (503, "the engine is dead")
    await stage.until_health("vllm", Health.UNHEALTHY)


async def test_every_engine_is_detected_and_read(stage: Stage) -> None:
    await stage.add(vllm_server(), "vllm")
    await stage.add(
        FakeServer(
            {
                "/health": (200, ""),
                "/v1/models": models_page("sglang", "m"),
                "/metrics": (
                    200,
                    'sglang:num_running_reqs{tp_rank="0"} 4\nsglang:num_queue_reqs 2\n'
                    "sglang:token_usage 0.25\nsglang:max_total_num_tokens 640\n",
                ),
            }
        ),
        "sglang",
    )
    await stage.add(
        FakeServer(
            {
                "/health": (200, '{"status":"ok"}'),
                "/v1/models": models_page("llamacpp", "m"),
                "/metrics": (
                    200,
                    "llamacpp:requests_processing 1\nllamacpp:requests_deferred 7\n",
                ),
                "/props": (
                    200,
                    '{"total_slots":2,"default_generation_settings":{"n_ctx":512},"x":""}',
                ),
            }
        ),
        "llamacpp",
    )
    await stage.add(
        FakeServer(
            {
                "/health": (200, ""),
                "/v1/models": models_page("tensorrt_llm", "m"),
                "/metrics": (200, "[]"),
                "/prometheus/metrics": (
                    200,
                    "trtllm_num_requests_running 5\ntrtllm_kv_cache_utilization 0.1\n",
                ),
            }
        ),
        "trtllm",
    )
    await stage.add(FakeServer({"/v1/models": models_page("someone", "m")}), "generic")
    await stage.start()

    for name in ("vllm", "sglang", "llamacpp", "trtllm", "generic"):
        assert stage.state(name).engine == name
        assert stage.state(name).health is Health.HEALTHY
    assert [stage.running(n) for n in ("vllm", "sglang", "llamacpp", "trtllm")] == [3, 4, 1, 5]
    assert stage.state("generic").load is None
    caches = [stage.state(n).cache_tokens for n in ("vllm", "sglang", "llamacpp", "trtllm")]
    assert caches == [1600, 640, 1024, None]
    assert stage.state("vllm").models == {
        "m": ServedModel("m", None, 4096),
        "lora": ServedModel("lora", "m"),
    }
    assert stage.restarts == []


async def test_engines_without_metrics_are_known_by_other_pages(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    pages = {"/health": (200, ""), "/v1/models": models_page("me", "m")}
    sglang = await stage.add(
        FakeServer(pages | {"/get_model_info": (200, '{"model_path":"m","is_generation":true}')}),
        "by-facts",
    )
    await stage.add(
        FakeServer(
            {
                "/health": (200, ""),
                "/v1/models": models_page("llamacpp", "m"),
                "/metrics": (501, "This server does not support metrics endpoint."),
                "/props": (200, '{"total_slots":2,"default_generation_settings":{"n_ctx":512}}'),
            }
        ),
        "by-owner",
    )
    await stage.start()
    await stage.rounds(sglang)

    assert stage.state("by-facts").engine == "sglang"
    assert stage.state("by-facts").health is Health.HEALTHY
    assert stage.state("by-facts").load is None
    assert stage.state("by-owner").engine == "llamacpp"
    assert stage.state("by-owner").cache_tokens == 1024
    assert stage.running("by-owner") is None
    said = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert sorted(said) == [
        "by-facts: metrics: GET /metrics answered 404: not found; "
        "start SGLang with --enable-metrics",
        "by-owner: metrics: GET /metrics answered 501: This server does not support metrics "
        "endpoint.; start llama.cpp's server with --metrics",
    ]


async def test_a_hanging_endpoint_delays_nobody() -> None:
    async with staged(replace(FAST, timeout=60.0)) as stage:
        good = await stage.add(vllm_server(), "good")
        hanging = vllm_server()
        hanging.hangs_at.add("*")
        await stage.add(hanging, "hanging")
        slow = vllm_server()
        slow.delay = 0.2
        await stage.add(slow, "slow")
        await stage.prober.start()

        await stage.until(lambda: "/metrics" in slow.seen and good.seen.count("/metrics") >= 5)
        assert hanging.seen == ["/health"]  # still its first time-out
        assert stage.state("hanging").health is Health.UNKNOWN
        assert stage.running("good") == 3


async def test_each_kind_of_bad_endpoint_gets_its_verdict(stage: Stage) -> None:
    hanging = vllm_server()
    hanging.hangs_at.add("*")
    await stage.add(hanging, "hanging")
    half = vllm_server()
    half.hangs_at.add("/metrics")
    await stage.add(half, "half")
    gone = await stage.add(vllm_server(), "gone")
    await gone.stop()
    garbage = FakeServer(
        {"/health": (200, "\x00\x01"), "/v1/models": (200, "<html>"), "/metrics": (200, "vllm:{{")}
    )
    await stage.add(garbage, "garbage")
    await stage.start()

    assert stage.state("gone").health is Health.UNHEALTHY
    assert stage.state("gone").health_reason == "connection refused"
    assert stage.state("half").health is Health.HEALTHY
    assert stage.state("half").engine == "vllm"
    assert stage.state("half").load is None
    assert stage.state("half").models is not None
    assert stage.state("garbage").health is Health.HEALTHY
    assert stage.state("garbage").models is None
    assert stage.running("garbage") is None
    await stage.until_health("hanging", Health.UNHEALTHY)
    assert stage.state("hanging").health_reason == "GET /health: no answer within 0.5 s"


async def test_a_value_keeps_its_age_when_the_page_goes_away(stage: Stage) -> None:
    server = await stage.add(vllm_server(), "a")
    await stage.start()
    server.pages["/metrics"] = (500, "broken")
    await stage.rounds(server, 2)
    load = stage.state("a").load
    assert load is not None
    await stage.rounds(server)
    assert stage.state("a").load is load
    assert stage.state("a").health is Health.HEALTHY
    server.pages["/metrics"] = vllm_metrics(running=8)
    await stage.until(lambda: stage.running("a") == 8)
    assert stage.restarts == []


async def test_health_goes_and_comes_back(stage: Stage) -> None:
    server = await stage.add(vllm_server(), "a")
    await stage.start()
    server.pages["/health"] = (503, '{"error":{"code":503,"message":"Loading model"}}')
    await stage.until_health("a", Health.UNHEALTHY)
    assert "503" in stage.state("a").health_reason
    assert "Loading model" in stage.state("a").health_reason
    server.pages["/v1/models"] = models_page("vllm", "other")
    server.pages["/health"] = (200, "")
    await stage.until_health("a", Health.HEALTHY)
    assert set(stage.state("a").models or ()) == {"other"}
    assert stage.restarts == []


async def test_a_server_that_is_still_loading_is_not_chosen(stage: Stage) -> None:
    server = vllm_server()
    server.pages["/health"] = (503, "Loading model")
    await stage.add(server, "a", engine="llamacpp")
    await stage.start()
    assert stage.state("a").health is not Health.HEALTHY
    assert stage.state("a").models is None
    server.pages["/health"] = (200, '{"status":"ok"}')
    await stage.until_health("a", Health.HEALTHY)
    assert stage.state("a").models is not None


async def test_the_models_are_read_again(stage: Stage) -> None:
    server = await stage.add(vllm_server(), "a")
    await stage.start()
    server.pages["/v1/models"] = models_page("vllm", "m", adapters={"new": "m"})
    await stage.until(lambda: "new" in (stage.state("a").models or {}))


async def test_an_endpoint_that_failed_requests_must_prove_itself() -> None:
    async with staged(replace(FAST, healthy_after=3)) as stage:
        server = await stage.add(vllm_server(), "a")
        await stage.prober.start()
        await stage.until_health("a", Health.HEALTHY)
        asked = server.seen.count("/health")
        stage.fleet.observe_failure("a", time.monotonic(), "connection refused", refused=True)
        await stage.until_health("a", Health.HEALTHY)
        assert server.seen.count("/health") - asked >= 3


async def test_an_endpoint_taken_back_from_draining_is_used_again(stage: Stage) -> None:
    server = await stage.add(vllm_server(), "a")
    await stage.start()
    stage.fleet.drain("a", time.monotonic())
    await stage.rounds(server)
    assert stage.state("a").health is Health.DRAINING
    stage.join(server.url, "a")
    stage.prober.sync()
    await stage.until_health("a", Health.HEALTHY)


@pytest.mark.parametrize(
    ("after", "restarts"),
    [
        (vllm_metrics(started=2000.0, tokens=9000), ["a"]),  # another process
        (vllm_metrics(started=None, tokens=3), ["a"]),  # counters went backwards
        (vllm_metrics(started=1000.0, tokens=9000), []),  # the same, a little later
    ],
)
async def test_a_restart_shows_in_the_metrics(
    stage: Stage, after: Answer, restarts: list[str]
) -> None:
    server = await stage.add(vllm_server(), "a")
    await stage.start()
    server.pages["/metrics"] = after
    await stage.rounds(server)
    assert stage.restarts == restarts
    assert stage.state("a").engine == "vllm"


@pytest.mark.parametrize(
    ("before", "after", "restarts"),
    [
        # nothing tells that it is the same process
        ((404, ""), (404, ""), ["a"]),
        (vllm_metrics(started=None), vllm_metrics(started=None, tokens=9000), ["a"]),
        # it only did not listen for a while
        (vllm_metrics(), vllm_metrics(tokens=9000), []),
    ],
)
async def test_a_server_that_refused_and_is_back(
    stage: Stage, before: Answer, after: Answer, restarts: list[str]
) -> None:
    server = vllm_server()
    server.pages["/metrics"] = before
    await stage.add(server, "a")
    await stage.start()

    await server.stop()
    await stage.until_health("a", Health.UNHEALTHY)
    server.pages["/metrics"] = after
    await server.start()
    await stage.until_health("a", Health.HEALTHY)
    told_when_it_could_be_chosen = list(stage.restarts)
    await stage.rounds(server)

    assert told_when_it_could_be_chosen == restarts
    assert stage.restarts == restarts


async def test_another_engine_may_come_back(stage: Stage) -> None:
    server = await stage.add(vllm_server(), "a")
    await stage.start()
    await server.stop()
    await stage.until_health("a", Health.UNHEALTHY)
    server.pages["/metrics"] = (200, "sglang:num_running_reqs 9\n")
    await server.start()
    await stage.until(lambda: stage.state("a").engine == "sglang" and stage.running("a") == 9)
    assert stage.restarts == ["a"]


async def test_endpoints_come_move_and_go(stage: Stage) -> None:
    await stage.add(vllm_server(), "a")
    await stage.start()
    second = vllm_server()
    second.pages["/metrics"] = vllm_metrics(running=42)
    await stage.add(second, "b")
    stage.prober.sync()
    await stage.until_health("b", Health.HEALTHY)

    stage.join(second.url, "a")  # the name moves to another server
    stage.prober.sync()
    await stage.until(lambda: stage.running("a") == 42)

    stage.fleet.remove("b")
    stage.fleet.remove("a")
    stage.prober.sync()
    await stage.until(lambda: not probe_tasks())
    assert await stage.prober.wait_first_round(PATIENCE)


def probe_tasks() -> set[str]:
    names = {task.get_name() for task in asyncio.all_tasks()}
    return {name for name in names if name.startswith("probe ")}


async def test_a_configured_engine_is_not_questioned(stage: Stage) -> None:
    server = await stage.add(vllm_server(), "a", engine="sglang")
    await stage.start()
    await stage.rounds(server)
    assert stage.state("a").engine == "sglang"
    assert stage.state("a").load is None
    assert "/props" not in server.seen


async def test_too_long_a_page_is_refused(stage: Stage) -> None:
    server = vllm_server()
    server.pages["/metrics"] = (200, vllm_metrics()[1] + "#" * (FAST.max_page_bytes + 1))
    await stage.add(server, "a", engine="vllm")
    await stage.start()
    assert stage.state("a").health is Health.HEALTHY
    assert stage.state("a").load is None


async def test_not_http_at_all(stage: Stage) -> None:
    async def talk(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 mail.example.com ESMTP\r\n\r\n")
        writer.close()

    server = await asyncio.start_server(talk, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    stage.join(f"http://127.0.0.1:{port}", "mail")
    await stage.start()
    await stage.until_health("mail", Health.UNHEALTHY)
    server.close()


async def test_the_first_round_ends_or_tells_that_it_did_not(stage: Stage) -> None:
    hanging = vllm_server()
    hanging.hangs_at.add("*")
    await stage.add(hanging, "a")
    await stage.prober.start()
    assert not await stage.prober.wait_first_round(0.01)
    assert await stage.prober.wait_first_round(PATIENCE)


async def test_sync_needs_a_start_and_known_engines(stage: Stage) -> None:
    stage.join("http://127.0.0.1:1", "a")
    with pytest.raises(RuntimeError, match="not started"):
        stage.prober.sync()
    await stage.prober.stop()
    state = stage.state("a")
    unknown = type(state.endpoint)("a", state.endpoint.url, engine="vlm")
    stage.fleet.upsert(unknown, 0.0)
    with pytest.raises(ValueError, match="did you mean 'vllm'"):
        await stage.prober.start()
