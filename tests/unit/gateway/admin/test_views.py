"""What the debug pages show: everything known, null for what is not, ages for times."""

import msgspec

from gateway.admin.views import decision_view, endpoint_view
from routing.decision import Decision
from routing.fleet import Endpoint, Fleet, Load, ServedModel
from routing.policies import make_policy
from routing.prefix.chain import text_chain
from routing.prefix.index import PrefixIndex
from routing.request import Request
from routing.router import Router, RouterSettings


def brain(*names: str) -> Router:
    fleet = Fleet()
    for name in names:
        fleet.upsert(Endpoint(name, f"http://{name}:80", labels=(("zone", "z"),)), 0.0)
        fleet.observe_models(name, [ServedModel("m", max_model_len=4096)], 1.0)
        fleet.observe_health(name, True, 2.0, "answers")
    return Router(fleet, PrefixIndex(1 << 20), make_policy("predicted_time"), RouterSettings())


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
    view = plain(endpoint_view(state, PrefixIndex(1 << 20), 5.0))
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
    view = plain(endpoint_view(decision.endpoint, router.prefix, 10.0))
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


def test_a_receipt_shows_the_candidates_and_nothing_observed_yet() -> None:
    router = brain("a", "b")
    view = plain(decision_view(routed(router), 12.0))
    assert (view["id"], view["model"], view["age"]) == ("id-1", "m", 2.0)
    assert (view["policy"], view["phase"], view["outcome"]) == ("predicted_time", "routed", None)
    candidates = view["candidates"]
    assert isinstance(candidates, list)
    assert {candidate["endpoint"] for candidate in candidates} == {"a", "b"}
    assert candidates[0]["endpoint"] == view["endpoint"]
    assert candidates[0]["cached_tokens"] == 0
    assert candidates[0]["predicted_ttft"] > 0
    assert candidates[0]["reason"]
    observed = view["observed"]
    assert isinstance(observed, dict)
    assert set(observed.values()) == {None}


def test_a_receipt_shows_failures_and_what_was_observed_in_the_end() -> None:
    router = brain("a", "b")
    decision = routed(router)
    first = decision.endpoint.name
    router.failed(decision, 10.5, "connect_failed", refused=True)
    assert router.retry(decision, 10.5)
    router.sent(decision, 11.0)
    router.first_token(decision, 11.25)
    router.finished(decision, 13.0, prompt_tokens=650, cached_tokens=0, completion_tokens=20)
    view = plain(decision_view(decision, 14.0))
    assert view["failed_attempts"] == [
        {"endpoint": first, "after": 0.5, "reason": "connect_failed", "refused": True}
    ]
    assert view["endpoint"] != first
    assert view["outcome"] == "done"
    assert view["observed"] == {
        "sent_after": 1.0,
        "first_token_after": 0.25,
        "finished_after": 2.0,
        "prompt_tokens": 650,
        "cached_tokens": 0,
        "completion_tokens": 20,
    }
