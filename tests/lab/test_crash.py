"""A real server that is killed under load, and comes back."""

import asyncio
from random import Random
from typing import Any

from bench.lab.fleet import answers
from gateway.app import Gateway
from tests.lab.conftest import Lab
from tests.lab.servers import ANSWER_SECONDS, ask, name_of, through, tokens
from tests.support.gateways import until

SHORT = {"max_tokens": 4, "temperature": 0}


async def test_a_killed_server_costs_no_answer_and_is_used_again(
    gateway: Gateway, lab: Lab
) -> None:
    dice = Random("crash")
    victim, *_ = lab.fleet.state().servers
    name = name_of(victim.server)
    url = f"http://127.0.0.1:{gateway.port}"

    async def request() -> Any:
        body = {"prompt": tokens(dice, 300), **SHORT}
        return await ask(url, "/v1/completions", body)

    under_way = [asyncio.create_task(request()) for _ in range(6)]
    await until(lambda: _sent_to(gateway, name) > 0, ANSWER_SECONDS)
    await asyncio.to_thread(victim.process.kill)
    # Nothing of these answers was said yet: the other server gives all of them.
    for answer in await asyncio.gather(*under_way):
        assert answer["choices"][0]["text"]
    for _ in range(3):
        decision, _ = await through(
            gateway, "/v1/completions", {"prompt": tokens(dice, 50), **SHORT}
        )
        assert decision.endpoint.name != name

    (again,) = lab.fleet.start([victim.server], nice=19)
    await asyncio.to_thread(lab.fleet.wait, [again])
    assert answers(f"{victim.server.url}/health")
    await until(lambda: _healthy(gateway, name), ANSWER_SECONDS)
    # Its new cache is empty, and known to be.
    await until(lambda: gateway.router.residency.blocks(name) == 0, 30)

    async def served_by() -> str:
        decision, _ = await through(
            gateway, "/v1/completions", {"prompt": tokens(dice, 200), **SHORT}
        )
        return decision.endpoint.name

    async with asyncio.timeout(ANSWER_SECONDS):
        while name not in await asyncio.gather(*(served_by() for _ in range(4))):
            await asyncio.sleep(0.2)
    assert all(state.ledger.requests == 0 for state in gateway.router.fleet)


def _sent_to(gateway: Gateway, name: str) -> int:
    state = gateway.router.fleet.get(name)
    return 0 if state is None else state.ledger.requests


def _healthy(gateway: Gateway, name: str) -> bool:
    return any(state.name == name for state in gateway.router.fleet.serving(None))
