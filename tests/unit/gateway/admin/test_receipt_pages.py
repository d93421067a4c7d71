"""What a receipt's page says, and which receipts a query selects."""

import msgspec

from gateway.admin.receipts import Views, receipt_page
from gateway.admin.selection import Selection, read_selection
from routing.decision import Decision
from routing.fleet import Endpoint, Fleet, ServedModel
from routing.policies import make_policy
from routing.prefix.chain import text_chain
from routing.prefix.index import PrefixIndex
from routing.prefix.views import ViewTokens
from routing.receipts import Receipts
from routing.request import Request
from routing.router import Router, RouterSettings
from tests.support.receipts import answered, decided, failed, over, retried


def brain(*names: str) -> Router:
    fleet = Fleet()
    for name in names:
        fleet.upsert(Endpoint(name, f"http://{name}:80", models=("m",)), 0.0)
        fleet.observe_models(name, [ServedModel("m")], 1.0)
        fleet.observe_health(name, True, 2.0, "answers")
    return Router(fleet, PrefixIndex(1 << 20), make_policy("predicted_time"), RouterSettings())


def routed(router: Router, receipts: Receipts) -> Decision:
    request = Request("id-1", "m", (text_chain(b"", b"x" * 2560),), 640.0, streamed=True)
    decision = router.route(request, 10.0)
    assert isinstance(decision, Decision)
    receipts.routed(decision, 10.0)
    return decision


def test_a_page_shows_the_candidates_and_nothing_observed_yet() -> None:
    router, receipts = brain("a", "b"), Receipts(4)
    routed(router, receipts)
    page = receipt_page(receipts.find("id-1")[0], receipts, 12.0)
    assert (page.id, page.model, page.age) == ("id-1", "m", 2.0)
    assert (page.policy, page.phase, page.outcome) == ("predicted_time", "routed", None)
    assert {candidate.endpoint for candidate in page.candidates} == {"a", "b"}
    first = page.candidates[0]
    assert first.endpoint == page.endpoint
    assert (first.cached_tokens, first.trust, first.views) == (0.0, 1.0, None)
    assert first.predicted_ttft is not None and first.predicted_ttft > 0
    assert first.predicted_itl is not None and first.predicted_itl > 0
    assert first.reason
    assert set(msgspec.structs.asdict(page.observed).values()) == {None}
    assert page.error.regret is None and not page.error.surprising


def test_a_page_shows_failures_and_what_was_observed_in_the_end() -> None:
    router, receipts = brain("a", "b"), Receipts(4)
    decision = routed(router, receipts)
    first = decision.endpoint.name
    router.failed(decision, 10.5, "connect_failed", refused=True)
    assert router.retry(decision, 10.5)
    router.sent(decision, 11.0)
    router.first_token(decision, 11.25)
    router.finished(decision, 13.0, prompt_tokens=650, cached_tokens=0, completion_tokens=20)
    receipts.observe(decision)
    page = receipt_page(receipts.find("id-1")[0], receipts, 14.0)
    assert msgspec.to_builtins(page.failed_attempts) == [
        {"endpoint": first, "after": 0.5, "reason": "connect_failed", "refused": True}
    ]
    assert page.endpoint != first
    assert page.outcome == "done"
    assert msgspec.to_builtins(page.observed) == {
        "sent_after": 1.0,
        "first_token_after": 0.25,
        "finished_after": 2.0,
        "inter_token": round(1.75 / 19, 6),
        "prompt_tokens": 650,
        "cached_tokens": 0,
        "completion_tokens": 20,
    }
    error = page.error
    assert (error.ttft, error.itl, error.cached_tokens, error.regret) == (None,) * 4


def test_a_page_compares_what_the_first_choice_did_with_what_was_predicted() -> None:
    receipts = Receipts(4)
    decision = decided(ttfts=(0.5, 0.7))
    receipts.routed(decision, 0.0)
    answered(decision, ttft=2.0)
    decision.reported_cached_tokens = 130
    receipts.observe(decision)
    error = receipt_page(receipts.latest()[0], receipts, 5.0).error
    assert (error.ttft, error.cached_tokens) == (-1.5, -30.0)
    assert (error.regret, error.regret_against) == (1.3, "e1")
    assert error.itl is not None and error.itl < 0
    assert error.surprising


def test_a_page_shows_what_each_view_of_the_cache_said() -> None:
    receipts = Receipts(4)
    decision = decided()
    decision.views = [ViewTokens(64, 128, 0, 256.0), ViewTokens(None, None, 0, 32.0)]
    receipts.routed(decision, 0.0)
    first, second = receipt_page(receipts.latest()[0], receipts, 5.0).candidates
    assert first.views == Views(64, 128, 0.0, 256.0)
    assert second.views == Views(None, None, 0.0, 32.0)


def select(receipts: Receipts, query: dict[str, str], now: float = 100.0) -> list[str]:
    selection = read_selection(query)
    return [
        receipt.decision.request.id
        for receipt in receipts.latest()
        if selection.fits(receipt, receipts, now)
    ]


def test_all_conditions_must_hold() -> None:
    receipts = Receipts(8)
    over(receipts, decided("usual", 1.0), ttft=0.5)
    over(receipts, decided("late", 2.0), ttft=3.0)
    moved = decided("moved", 3.0)
    receipts.routed(moved, 3.0)
    failed(moved)
    retried(moved)
    answered(moved)
    receipts.observe(moved)
    lost = decided("lost", 4.0)
    receipts.routed(lost, 4.0)
    failed(lost)
    assert select(receipts, {"outcome": "failed"}) == []  # it may still be tried elsewhere
    receipts.observe(lost)
    whole = decided("whole", 5.0, streamed=False)
    receipts.routed(whole, 5.0)
    answered(whole, seconds=40.0)
    whole.first_token_at = None
    receipts.observe(whole)
    receipts.routed(decided("waits", 6.0), 6.0)
    assert select(receipts, {}) == ["waits", "whole", "lost", "moved", "late", "usual"]
    assert select(receipts, {"outcome": "failed"}) == ["lost"]
    assert select(receipts, {"outcome": "in_flight"}) == ["waits"]
    assert select(receipts, {"surprising": "1"}) == ["late"]
    assert select(receipts, {"slow": "2.5"}) == ["waits", "whole", "late"]
    assert select(receipts, {"slow": "2.5", "outcome": "done"}) == ["whole", "late"]
    assert select(receipts, {"endpoint": "e1"}) == ["moved"]
    assert "moved" in select(receipts, {"endpoint": "e0"})  # it failed there
    assert select(receipts, {"endpoint": "elsewhere"}) == []


def test_a_query_is_read() -> None:
    assert read_selection({}) == Selection()
    assert read_selection(
        {"limit": "7", "endpoint": "a", "outcome": "done", "slow": "0.25", "surprising": "true"}
    ) == Selection(7, "a", "done", 0.25, True)
