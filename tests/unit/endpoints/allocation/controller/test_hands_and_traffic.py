"""What the API server drops is noticed; who still works is asked."""

from aiohttp import ClientSession, web

from endpoints.allocation.controller.hands import dropped
from endpoints.allocation.controller.traffic import EngineTraffic, UnknownTraffic
from endpoints.allocation.emission.identity import Object

_METRICS = """\
vllm:num_requests_running{model_name="m"} 2.0
vllm:num_requests_waiting{model_name="m"} 1.0
"""


def test_fields_behind_a_gate_that_is_off_are_missed() -> None:
    asked = {
        "kind": "PodGroup",
        "metadata": {"name": "a-0"},
        "spec": {"gang": {"minCount": 2}, "topology": [{"key": "leaf"}], "empty": []},
    }
    got = {**asked, "spec": {"gang": {"minCount": 2, "more": 1}}}
    (said,) = dropped(asked, got)
    assert "PodGroup a-0: the API server dropped spec.topology;" in said
    assert dropped(asked, asked) == []


async def test_engines_say_what_they_work_on() -> None:
    async def metrics(_: web.Request) -> web.Response:
        return web.Response(text=_METRICS)

    app = web.Application()
    app.router.add_get("/metrics", metrics)
    runner = web.AppRunner(app)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    port = runner.addresses[0][1]

    def pod(port: int | None, ip: str = "127.0.0.1") -> Object:
        ports = [] if port is None else [{"containerPort": port}]
        return {
            "metadata": {"name": "p"},
            "spec": {"containers": [{"name": "server", "ports": ports}]},
            "status": {"podIP": ip} if ip else {},
        }

    try:
        async with ClientSession() as session:
            traffic = EngineTraffic(session)
            assert await traffic.in_flight([pod(port)]) == 3.0
            assert await traffic.in_flight([pod(port), pod(port)]) == 6.0
            assert await traffic.in_flight([pod(port, "")]) == 0.0, "no address, no work"
            assert await traffic.in_flight([pod(port), pod(None)]) is None
            noted = pod(None)
            noted["metadata"]["annotations"] = {"inferway.dev/metrics-port": str(port)}
            assert await traffic.in_flight([noted]) == 3.0
            await runner.cleanup()
            assert await traffic.in_flight([pod(port)]) is None, "unknown is not none"
    finally:
        await runner.cleanup()
    assert await UnknownTraffic().in_flight([]) is None
