"""The real Envoy before one processor that picks for several pools of a cluster."""

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import aiohttp

from endpoints.kubernetes.resources import INFERENCE_POOLS
from gateway.settings import ExtProcSettings
from tests.cluster.test_gateway import gateway_before, pool
from tests.support.clusters import Cluster
from tests.support.envoy import ORIGINAL_DST, Config, manager_of, running_envoy
from tests.support.simulated import running

_PER_ROUTE = "type.googleapis.com/envoy.extensions.filters.http.ext_proc.v3.ExtProcPerRoute"


def _routed(overrides: dict[str, Config]) -> Any:
    """A route for each value of the header ``x-route``, with what it says to the processor."""

    def change(config: Config) -> None:
        host = manager_of(config)["route_config"]["virtual_hosts"][0]
        (plain,) = host["routes"]
        for value, said in overrides.items():
            header = {"name": "x-route", "string_match": {"exact": value}}
            override = {"@type": _PER_ROUTE, "overrides": said}
            host["routes"].insert(
                0,
                {
                    "match": {"prefix": "/", "headers": [header]},
                    "route": plain["route"],
                    "typed_per_filter_config": {"envoy.filters.http.ext_proc": override},
                },
            )

    return change


async def test_a_route_tells_the_pool_by_metadata_or_by_the_service_that_it_calls(
    cluster: Cluster, tmp_path: Path
) -> None:
    space = cluster.namespace
    service = {"cluster_name": "inferway", "authority": f"epp-b.{space}.svc.cluster.local:9002"}
    overrides: dict[str, Config] = {
        "metadata": {"grpc_initial_metadata": [{"key": "x-inferway-pool", "value": f"{space}/b"}]},
        "authority": {"grpc_service": {"envoy_grpc": service}},
        "nobody": {"grpc_initial_metadata": [{"key": "x-inferway-pool", "value": "no/pool"}]},
    }
    async with AsyncExitStack() as stack:
        ports = {}
        for name in ("a", "b"):
            server = await stack.enter_async_context(running())
            ports[name] = server.port
            item = pool(name, server)
            item["spec"]["endpointPickerRef"]["name"] = f"epp-{name}"
            await cluster.create(INFERENCE_POOLS, item)
            await cluster.pod(f"{name}-0", "127.0.0.1", labels={"app": name})
        gateway = await stack.enter_async_context(
            gateway_before(cluster, extproc=ExtProcSettings(port=0, fallbacks=0))
        )
        assert gateway.bodies is not None and gateway.bodies.processor is not None
        envoy = await stack.enter_async_context(
            running_envoy(
                ORIGINAL_DST,
                tmp_path,
                picker=gateway.bodies.processor.port,
                change=_routed(overrides),
            )
        )
        http = await stack.enter_async_context(aiohttp.ClientSession())
        url = f"http://127.0.0.1:{envoy.port}/v1/chat/completions"
        body = {"model": "sim-8b", "messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}

        async def asked(route: str) -> tuple[int, str]:
            async with http.post(url, json=body, headers={"x-route": route}) as got:
                await got.read()
                return got.status, got.headers.get("x-inferway-endpoint", "")

        assert await asked("metadata") == (200, f"{space}/b-0:{ports['b']}")
        assert await asked("authority") == (200, f"{space}/b-0:{ports['b']}")
        assert (await asked("nobody"))[0] == 503
        assert await asked("by model") == (200, f"{space}/a-0:{ports['a']}")
