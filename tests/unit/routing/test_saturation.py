"""When a pool is saturated."""

from typing import Any

import pytest

from routing.endpoint import EndpointState, Load
from routing.fleet import Endpoint
from routing.saturation import saturation


def state(**load: Any) -> EndpointState:
    found = EndpointState(Endpoint("a", "http://a:1"))
    found.load = Load(at=load.pop("at", 100.0), **load) if load else None
    return found


@pytest.mark.parametrize(
    ("states", "expected"),
    [
        ([], 1.0),
        ([state(waiting=5.0)], 1.0),
        ([state(waiting=1.0, kv_usage=0.4)], 0.5),
        ([state(waiting=10.0), state(waiting=0.0)], 1.0),
        ([state()], 1.0),  # nothing is known
        ([state(waiting=0.0, at=10.0)], 1.0),  # nothing fresh is known
    ],
)
def test_the_mean_of_queue_and_cache(states: list[EndpointState], expected: float) -> None:
    assert saturation(states, 101.0) == pytest.approx(expected)
