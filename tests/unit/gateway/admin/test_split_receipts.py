"""What receipts tell of split requests."""

from gateway.admin.receipts import ReceiptPage, receipt_page
from gateway.explain.wording import what_happened
from routing.decision import Decision
from routing.receipts import Receipt, Receipts, Standing
from tests.support.splitting import request_of, route, router_of


def page_of(decision: Decision) -> ReceiptPage:
    standings = [Standing(choice.endpoint, 1.0, 0.0) for choice in decision.choices]
    return receipt_page(Receipt(decision, standings), Receipts(10), 9.0)


def test_a_split_request_tells_of_both_halves() -> None:
    router = router_of("pd")
    decision = route(router, request_of(8_192))
    router.prefill_sent(decision, 0.0)
    router.prefill_done(decision, 1.0)
    router.sent(decision, 1.0)
    router.first_token(decision, 1.25)
    router.finished(decision, 3.0, prompt_tokens=8_192, cached_tokens=8_191, completion_tokens=9)
    page = page_of(decision)
    assert page.split is not None
    assert (page.split.reason, page.split.prefill, page.split.phase) == ("always", "p0", "done")
    assert page.split.observed_seconds == 1.0
    assert page.error.cached_tokens is None  # what was read was never predicted to be cached
    told = "\n".join(what_happened(page))
    assert "split (always): p0 computes 8,192 tokens" in told
    assert "the prefill took 1.00 s, the transfer" in told


def test_a_leg_that_was_given_up_says_why() -> None:
    router = router_of("pd")
    decision = route(router, request_of(8_192))
    router.prefill_failed(decision, 1.0, "503")
    assert "the prefill leg was given up: 503" in what_happened(page_of(decision))


def test_why_it_was_not_split_and_nothing_without_roles() -> None:
    whole = route(router_of("pd", "never"), request_of())
    assert "it was not split: never" in what_happened(page_of(whole))
    assert page_of(route(router_of("ww"), request_of())).split is None
