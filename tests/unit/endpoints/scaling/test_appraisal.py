"""An endpoint's worth, read from a real router's books."""

from array import array

from endpoints.scaling.appraisal import appraise, candidate, drain_seconds
from endpoints.scaling.use import RecentUse
from endpoints.scaling.victims import in_order
from routing.decision import Decision
from routing.fleet import Endpoint, Fleet, ServedModel
from routing.policies import make_policy
from routing.prefix.index import PrefixIndex
from routing.request import Request
from routing.router import Router, RouterSettings


def _router(*names: str) -> Router:
    fleet = Fleet()
    for name in names:
        fleet.upsert(Endpoint(name, f"http://{name}:80"), 0.0)
        fleet.observe_models(name, [ServedModel("m")], 0.0)
        fleet.observe_health(name, True, 0.0, "test")
    return Router(fleet, PrefixIndex(16 << 20), make_policy("predicted_time"), RouterSettings())


def _serve(router: Router, first_hash: int, blocks: int, now: float) -> Decision:
    chain = array("Q", range(first_hash, first_hash + blocks))
    request = Request(f"{now}", "m", (chain,), 64.0 * blocks, exact_tokens=True, streamed=True)
    decision = router.route(request, now)
    assert isinstance(decision, Decision)
    router.sent(decision, now)
    router.first_token(decision, now + 0.1)
    router.finished(decision, now + 0.2)
    return decision


async def test_the_endpoint_whose_prefix_comes_back_is_kept() -> None:
    router, use = _router("a", "b", "c"), RecentUse()
    where = {first: _serve(router, first, 20, at).endpoint.name
             for at, first in enumerate((1_000, 2_000, 3_000))}  # fmt: skip
    for at in range(10, 15):
        assert _serve(router, 2_000, 20, float(at)).endpoint.name == where[2_000]
    use.look(router.recent, 20.0)
    warm = await appraise(use.uses(20.0), router.views)
    kept = where[2_000]
    assert warm.by_holders() == {frozenset({kept}): 20 * 64.0}
    order = in_order([candidate(state, 20.0) for state in router.fleet], warm, prefill_rate=1e4)
    assert order[-1].name == kept
    assert order[-1].sole_tokens == 1_280.0


async def test_work_in_flight_takes_its_time_to_end() -> None:
    router = _router("a", "b")
    state = router.fleet.get("a")
    assert state is not None
    assert drain_seconds(state, 0.0) == 0.0
    state.ledger.reserve("r", 1_000, 100, 0.0)
    long = drain_seconds(state, 0.0)
    assert long > 0.0
    state.ledger.prefilled("r", 0.5)
    assert 0.0 < drain_seconds(state, 0.5) < long
