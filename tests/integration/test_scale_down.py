"""A small version of `inferway bench scale-down`: servers go under load and nothing fails."""

from bench.scaledown.measure import Plan, play
from bench.scaledown.traffic import TrafficSettings


async def test_no_request_fails_when_servers_are_removed_under_load() -> None:
    traffic = TrafficSettings(documents=8, document_bytes=4_000, clients=6)
    plan = Plan("worth", 6, servers=4, at_once=3, between=10, warm_up=20, traffic=traffic)
    arm = await play(plan)
    assert arm.first_failures == ()
    assert (arm.removals, arm.failures, arm.cut) == (6, 0, 0)
    assert arm.requests >= 20
    assert arm.hit_ratio > 0.2
