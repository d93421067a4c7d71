"""A gateway that starts and ends model servers of its own, from nothing and back to it."""

import asyncio
import sys
from typing import Any

import aiohttp

from gateway.app import Gateway
from gateway.settings import (
    AdminSettings,
    ListenSettings,
    LogSettings,
    PaceSettings,
    ProbeSettings,
    ScaledPoolSettings,
    ScaledRoleSettings,
    ScalingSection,
    Settings,
)
from tests.support.clusters import eventually
from tests.support.simulated import CHAT

_MODEL = "sim-8b"
_COMMAND = (
    *(sys.executable, "-m", "bench.fleet", "--servers", "1", "--port", "{port}"),
    *("--model", _MODEL, "--time-scale", "0.02", "--json-ready"),
)


def _settings() -> Settings:
    pool = ScaledPoolSettings(
        roles={"both": ScaledRoleSettings(command=_COMMAND, min=0, max=2)},
        models=(_MODEL,),
        interval=0.2,
        startup=2.0,
        idle=1.0,
        grace=5.0,
        down=PaceSettings(percent=100.0, replicas=4, period=1.0),
    )
    return Settings(
        listen=ListenSettings(port=0),
        admin=AdminSettings(port=0),
        probes=ProbeSettings(interval=0.1),
        scaling=ScalingSection(pools={"default": pool}),
        log=LogSettings(access=False),
    )


async def test_from_zero_and_back_without_losing_a_request() -> None:
    gateway = Gateway(_settings())
    await gateway.start()
    client, admin = f"http://127.0.0.1:{gateway.port}", f"http://127.0.0.1:{gateway.admin_port}"
    try:
        async with aiohttp.ClientSession() as http:

            async def json(url: str) -> dict[str, Any]:
                async with http.get(url) as response:
                    page: dict[str, Any] = await response.json()
                    return page

            async def ask(tokens: int) -> int:
                body = {"model": _MODEL, "messages": CHAT, "max_tokens": tokens}
                async with http.post(f"{client}/v1/chat/completions", json=body) as response:
                    await response.read()
                    return response.status

            async def empty() -> bool:
                page = await json(f"{admin}/debug/scaling")
                return bool(page["default"]["roles"]["both"]["replicas"] == 0)

            await eventually(empty)
            assert (await json(f"{admin}/readyz"))["ready"] is True
            answers = await asyncio.gather(*(ask(20) for _ in range(30)))
            assert answers == [200] * 30
            page = (await json(f"{admin}/debug/scaling"))["default"]
            assert page["waiting"]["served"] == 30
            assert "0 -> 1" in str(page["journal"])
            await eventually(empty, 20.0)
            assert len(gateway.router.fleet) == 0
            assert await ask(5) == 200
            async with http.get(f"{admin}/metrics") as response:
                text = await response.text()
            assert 'inferway_waiting_over_total{outcome="served",pool="default"} 31.0' in text
            assert 'inferway_scaling_cut_requests_total{pool="default",role="both"} 0.0' in text
    finally:
        await gateway.stop()
