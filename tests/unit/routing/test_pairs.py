"""Pairs in large fleets: only the likely endpoints are looked at."""

from routing.busyness import Busyness
from routing.disaggregation import DisaggregationSettings, SplitReason
from routing.loads import Group
from routing.pairs import View
from routing.policies.policy import Slate
from routing.prefix.match import Match
from tests.support.splitting import crowd, request_of, route, router_of, state_of, warm


def test_the_idle_prefill_endpoint_among_many_is_found() -> None:
    router = router_of("p" * 60 + "d" * 60, "adaptive")
    for state in router.fleet:
        if state.name.startswith("p") and state.name != "p37":
            state.ledger.reserve("x", 60_000, 0, 0.0, prompt_tokens=60_000)
        elif state.name.startswith("d"):
            crowd(router, state.name, 40 if state.name == "d100" else 60)
    decision = route(router, request_of(16_384))
    assert decision.prefill is not None
    assert (decision.prefill.name, decision.endpoint.name) == ("p37", "d100")
    assert decision.split_reason == SplitReason.CHEAPER.value


def test_a_holder_among_many_is_found() -> None:
    router = router_of("b" * 120, "adaptive")
    request = request_of(65_536)
    warm(router, "b77", request)
    for state in router.fleet:
        crowd(router, state.name, 20)
    decision = route(router, request)
    names = {decision.endpoint.name, "" if decision.prefill is None else decision.prefill.name}
    assert "b77" in names
    assert state_of(router, "b77").ledger.requests > 20


def test_the_first_endpoints_may_all_speak_another_protocol() -> None:
    labels = {f"p{number}": (("kv-connector", "nixl"),) for number in range(10)}
    labels |= {f"d{number}": (("kv-connector", "mooncake"),) for number in range(11, 21)}
    labels["p10"] = (("kv-connector", "mooncake"),)
    router = router_of("p" * 11 + "d" * 10, "always", labels=labels)
    state_of(router, "p10").ledger.reserve("x", 500_000, 0, 0.0, prompt_tokens=500_000)
    decision = route(router, request_of())
    assert decision.prefill is not None
    assert decision.prefill.name == "p10"


def guard_of(roles: str, context: int, length: int) -> SplitReason | None:
    """Of the pair of the first two endpoints, where the second one decodes in any case."""
    router = router_of(roles, settings=DisaggregationSettings(bandwidth=100e9))
    states = list(router.fleet)
    crowd(router, states[1].name, 100, context)
    group = router.fleet.candidates("m")
    assert group is not None
    slate = Slate(Group([states[1]], group.table, [states[0]]), Match({}), 16.0, 4_096.0, length)
    view = View(
        router.settings.disaggregation,
        router.disaggregation.links,
        Busyness(10.0),
        slate,
        [states[0]],
        states[1],
        1.0,
        0.0,
    )
    view.best_whole(states[1])
    return view.guard(view.stand(states[0]), view.stand(states[1]))


def test_a_long_wait_for_room_that_the_prefill_endpoint_has_is_not_waited_for() -> None:
    assert guard_of("bb", 9_500, 3_000) is SplitReason.GUARD_DECODE
    assert guard_of("bb", 9_500, 100) is None  # room is given back soon
    assert guard_of("bb", 500, 3_000) is None  # there is room
    assert guard_of("pd", 9_500, 3_000) is None  # it must answer in any case
