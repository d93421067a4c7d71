"""The sample of what recent traffic used is bounded in number, bytes and age."""

from array import array

from endpoints.scaling.use import RecentUse
from routing.decision import Decision
from routing.endpoint import Endpoint, EndpointState
from routing.policies.policy import Choice
from routing.request import Request

_STATE = EndpointState(Endpoint("a", "http://a:80"))


def _decision(at: float, *, cached: float = 64.0, blocks: int = 4) -> Decision:
    request = Request("r", "m", (array("Q", range(blocks)),), prompt_tokens=64.0 * blocks)
    choice = Choice(_STATE, 0.0, cached, None, "test")
    return Decision(request, "test", at, [choice], 64.0 * blocks, 10)


def test_only_what_was_warm_is_a_use() -> None:
    use = RecentUse()
    use.look([_decision(1.0, cached=0.0), _decision(2.0, cached=128.0)], 3.0)
    (one,) = use.uses(3.0)
    assert (one.at, one.share, one.scale) == (2.0, 0.5, 1.0)


def test_a_decision_is_looked_at_once() -> None:
    use = RecentUse()
    recent = [_decision(1.0), _decision(2.0)]
    use.look(recent, 2.0)
    recent.append(_decision(3.0))
    use.look(recent, 3.0)
    use.look(recent, 3.0)
    assert [one.at for one in use.uses(3.0)] == [1.0, 2.0, 3.0]


def test_the_sample_is_bounded() -> None:
    use = RecentUse(window=10.0, most=5, byte_budget=100)
    use.look([_decision(float(at)) for at in range(8)], 8.0)
    assert use.bytes_used == 96  # three of 32 bytes
    assert [one.at for one in use.uses(8.0)] == [5.0, 6.0, 7.0]
    assert len(use.uses(16.5)) == 1
    assert len(use.uses(30.0)) == 0
    assert use.bytes_used == 0
