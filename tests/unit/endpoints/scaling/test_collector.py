"""What the scaler is told of requests that wait in the gateway's line."""

import pytest

from endpoints.scaling.collector import Collector
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Bounds, ScalingSettings
from endpoints.scaling.signals import RoleObservation
from tests.support.splitting import request_of, route, router_of

POOL = ScalingSettings(roles={Role.BOTH: Bounds(1, 50)}, season=None)


def test_requests_in_line_are_demand_and_queue() -> None:
    router = router_of("bb")
    collector = Collector("pool", POOL)
    collector.attach(router)
    traffic = router.traffic
    assert traffic is not None

    def seen(now: float) -> RoleObservation:
        return collector.collect(router, {Role.BOTH: 2}, now).role(Role.BOTH)

    seen(0.0)
    for number in range(30):  # so that a request's usual length is known
        router.finished(route(router, request_of(1_024, chr(65 + number)), 1.0), 2.0)
    before = seen(15.0)
    for _ in range(10):
        traffic.hold(16.0)
    after = seen(30.0)
    own = after.own_tokens.value
    assert own is not None
    assert after.in_flight.value == pytest.approx((before.in_flight.value or 0.0) + 10)
    assert after.queued_tokens.value == pytest.approx(10 * own)
    for _ in range(10):
        traffic.let_go(31.0, refused=False)
    assert seen(45.0).queued_tokens.value == 0.0
