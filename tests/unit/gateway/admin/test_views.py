"""The debug page of endpoints: everything known, null for what is not, ages for times."""

import msgspec

from gateway.admin.views import endpoint_view
from routing.decision import Decision
from routing.fleet import Endpoint, Fleet, Load, ServedModel
from routing.policies import make_policy
from routing.prefix.chain import text_chain
from routing.prefix.index import PrefixIndex
from routing.receipts import Receipts
from routing.request import Request
from routing.router import Router, RouterSettings
from tests.support.receipts import answered, decided


def brain(*names: str) -> Router:
    fleet = Fleet()
    for name in names:
        fleet.upsert(Endpoint(name, f"http://{name}:80", labels=(("zone", "z"),)), 0.0)
        fleet.observe_models(name, [ServedModel("m", max_model_len=4096)], 1.0)
        fleet.observe_health(name, True, 2.0, "answers")
    return router_of(fleet)


def router_of(fleet: Fleet, receipts: Receipts | None = None) -> Router:
    policy, index = make_policy("predicted_time"), PrefixIndex(1 << 20)
    return Router(fleet, index, policy, RouterSettings(), receipts=receipts)


def routed(router: Router) -> Decision:
    request = Request("id-1", "m", (text_chain(b"", b"x" * 2560),), 640.0, streamed=True)
    decision = router.route(request, 10.0)
    assert isinstance(decision, Decision)
    return decision


def plain(view: object) -> dict[str, object]:
    """As it comes out of JSON."""
    return msgspec.json.decode(msgspec.json.encode(view), type=dict[str, object])


def test_an_endpoint_shows_nulls_for_what_is_not_known() -> None:
    fleet = Fleet()
    state = fleet.upsert(Endpoint("a", "http://a:80"), 3.0)
    view = plain(endpoint_view("p", state, router_of(fleet), 5.0))
    for unknown in ("engine", "models", "models_age", "load", "cache_tokens"):
        assert view[unknown] is None
    assert view["health"] == {
        "state": "unknown",
        "reason": "not probed yet",
        "age": 2.0,
        "consecutive_failures": 0,
    }


def test_an_endpoint_shows_what_it_serves_how_it_does_and_what_is_in_flight() -> None:
    router = brain("a")
    router.fleet.observe_load(
        "a", Load(at=9.0, running=2.0, adapters_running=frozenset({"y", "x"}))
    )
    decision = routed(router)
    router.sent(decision, 10.0)
    view = plain(endpoint_view("p", decision.endpoint, router, 10.0))
    assert view["labels"] == {"zone": "z"}
    assert view["models"] == [{"name": "m", "base": None, "max_model_len": 4096}]
    assert view["models_age"] == 9.0
    assert view["foreign_running"] == 2.0
    assert view["prefix_blocks"] == 10
    load = view["load"]
    assert isinstance(load, dict)
    assert (load["age"], load["running"], load["waiting"]) == (1.0, 2.0, None)
    assert load["adapters_running"] == ["x", "y"]
    ledger = view["ledger"]
    assert isinstance(ledger, dict)
    assert (ledger["requests"], ledger["prefill_tokens"], ledger["decoding"]) == (1, 640, 0)


def test_an_endpoint_shows_trust_and_what_predictions_about_it_were_worth() -> None:
    receipts = Receipts(4)
    decision = decided(ttfts=(0.5, 0.6))
    receipts.routed(decision, 0.0)
    answered(decision, ttft=1.0)
    decision.reported_cached_tokens = 40
    receipts.observe(decision)
    state = decision.endpoint
    state.trust.observe(1_000.0, 0)
    assert plain(endpoint_view("p", state, router_of(Fleet()), 5.0))["prediction"] is None
    view = plain(endpoint_view("p", state, router_of(Fleet(), receipts), 5.0))
    assert view["trust"] == {"share": 0.95, "held": 0, "failed": 1}
    prediction = view["prediction"]
    assert isinstance(prediction, dict)
    assert prediction["ttft"] == {
        "compared": 1,
        "relative_error": 0.5,
        "bias_seconds": -0.5,
        "late_p90_seconds": 0.5,
        "early_p90_seconds": None,
    }
    assert prediction["cached_tokens"] == {"compared": 1, "bias_tokens": 60.0}
    assert prediction["regret"] == {
        "compared": 1,
        "mean_seconds": 0.4,
        "p50_seconds": 0.5,
        "p90_seconds": 0.5,
    }
    assert prediction["itl"]["compared"] == 1
