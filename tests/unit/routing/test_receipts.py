"""Receipts: what is kept, what is found, and what they say of the candidates."""

import pytest

import routing.receipts
from routing.decision import Phase
from routing.receipts import Receipt, Receipts
from tests.support.receipts import answered, decided, failed, over, retried
from tests.support.slates import busy, scraped


def ids(kept: list[Receipt]) -> list[str]:
    return [receipt.decision.request.id for receipt in kept]


def test_requests_in_flight_are_found_and_those_that_ended_with_them() -> None:
    receipts = Receipts(4)
    first, second = decided("a", 1.0), decided("b", 2.0)
    receipts.routed(first, 1.0)
    receipts.routed(second, 2.0)
    assert ids(receipts.latest()) == ["b", "a"]
    assert not receipts.find("a")[0].over
    answered(first)
    receipts.observe(first)
    assert ids(receipts.latest()) == ["b", "a"]
    assert receipts.find("a")[0].over and not receipts.find("b")[0].over
    assert receipts.find("c") == []


def test_only_the_latest_are_kept() -> None:
    receipts = Receipts(3, reach=0.0)
    for number in range(10):
        over(receipts, decided(str(number), float(number)))
    assert ids(receipts.latest()) == ["9", "8", "7"]


def test_of_an_id_that_was_used_again_the_latest_comes_first() -> None:
    receipts = Receipts(4)
    over(receipts, decided("a", 1.0))
    again = over(receipts, decided("a", 2.0))
    assert [receipt.decision.at for receipt in receipts.find("a")] == [2.0, 1.0]
    assert receipts.find("a")[0].decision is again


def test_a_request_ends_once() -> None:
    receipts = Receipts(4)
    decision = over(receipts, decided())
    receipts.observe(decision)
    receipts.observe(decided("never routed"))
    assert len(receipts.latest()) == 1
    assert receipts.errors.ttft.count == 1


def test_failures_retries_and_surprises_outlive_the_rest_and_the_sample() -> None:
    receipts = Receipts(3, sample=0.0)
    lost = decided("failed", 1.0)
    receipts.routed(lost, 1.0)
    failed(lost)
    receipts.observe(lost)
    moved = decided("retried", 2.0)
    receipts.routed(moved, 2.0)
    failed(moved)
    retried(moved)
    answered(moved)
    receipts.observe(moved)
    over(receipts, decided("late", 3.0, (0.5, 0.6)), ttft=2.0)
    for number in range(100):
        over(receipts, decided(f"usual-{number}", 4.0 + number))
    assert ids(receipts.latest()) == ["late", "retried", "failed"]
    assert receipts.surprising(receipts.find("late")[0])
    assert not receipts.surprising(receipts.find("retried")[0])


def test_a_client_that_gave_up_waiting_is_a_surprise_if_it_waited_too_long() -> None:
    receipts = Receipts(4)
    for name, left_after in (("soon", 0.4), ("late", 5.0)):
        decision = decided(name, 1.0)
        receipts.routed(decision, 1.0)
        decision.sent_at = 1.0
        decision.finished_at = 1.0 + left_after
        decision.enter(Phase.ABANDONED)
        receipts.observe(decision)
    assert receipts.surprising(receipts.find("late")[0])
    assert not receipts.surprising(receipts.find("soon")[0])
    assert receipts.errors.ttft.count == 0  # nothing was observed of either


def test_sampling_goes_by_the_id_alone() -> None:
    names = [f"request-{number}" for number in range(4_000)]
    one, other = Receipts(1, sample=0.25), Receipts(9, sample=0.25)
    chosen = [name for name in names if one.sample.has(name)]
    assert chosen == [name for name in names if other.sample.has(name)]
    assert 0.2 < len(chosen) / len(names) < 0.3
    assert set(chosen) <= {name for name in names if Receipts(1, sample=0.5).sample.has(name)}
    kept = Receipts(4_000, sample=0.25)
    for number, name in enumerate(names[:200]):
        over(kept, decided(name, float(number)))
    assert set(ids(kept.latest())) == set(chosen) & set(names[:200])


def _traffic(receipts: Receipts, start: float, rate: float, seconds: float) -> float:
    """Ordinary requests at ``rate`` a second; returns when they ended."""
    count = round(rate * seconds)
    for number in range(count):
        at = start + number / rate
        over(receipts, decided(f"{at:.4f}", at))
    return start + seconds


def test_under_fast_traffic_fewer_are_kept_so_that_they_last() -> None:
    receipts = Receipts(100, reach=10.0)
    now = _traffic(receipts, 0.0, rate=8.0, seconds=60.0)
    assert receipts.sample.share == 1.0
    assert len(receipts.latest()) == 100

    now = _traffic(receipts, now, rate=500.0, seconds=60.0)
    kept = receipts.latest()
    assert 0.005 < receipts.sample.share < 0.1
    assert now - kept[-1].decision.at > 3.0  # all of them would be 0.2 s
    assert all(receipts.sample.has(one.decision.request.id) for one in kept[:20])

    _traffic(receipts, now, rate=2.0, seconds=200.0)
    assert receipts.sample.share == 1.0


def test_the_share_never_exceeds_the_sample_and_reach_0_leaves_it_alone() -> None:
    scarce = Receipts(10, sample=0.5, reach=10.0)
    now = _traffic(scarce, 0.0, rate=200.0, seconds=5.0)
    assert scarce.sample.share < 0.5
    _traffic(scarce, now, rate=1.0, seconds=300.0)
    assert scarce.sample.share == 0.5
    fixed = Receipts(10, sample=0.5, reach=0.0)
    _traffic(fixed, 0.0, rate=200.0, seconds=5.0)
    assert fixed.sample.share == 0.5
    assert len(fixed.latest()) == 10


def test_failures_are_kept_whatever_the_traffic() -> None:
    receipts = Receipts(10, reach=10.0)
    now = _traffic(receipts, 0.0, rate=500.0, seconds=5.0)
    lost = decided("lost", now)
    receipts.routed(lost, now)
    failed(lost)
    receipts.observe(lost)
    _traffic(receipts, now, rate=500.0, seconds=5.0)
    assert receipts.find("lost")


def test_requests_that_are_never_reported_over_are_bounded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(routing.receipts, "MOST_IN_FLIGHT", 3)
    receipts = Receipts(4)
    for number in range(10):
        receipts.routed(decided(str(number), float(number)), float(number))
    assert ids(receipts.latest()) == ["9", "8", "7"]


def test_a_receipt_holds_how_the_candidates_stood_whatever_comes_later() -> None:
    receipts = Receipts(4)
    decision = decided()
    loaded = decision.choices[1].endpoint
    busy(loaded, 2, tokens=400, prompt=500)
    scraped(loaded, running=3.0)
    loaded.foreign_running = 3.0
    receipts.routed(decision, 0.0)
    busy(decision.choices[0].endpoint, 5, tokens=400)
    loaded.trust.observe(1_000.0, 0)
    idle, then = receipts.latest()[0].standing(0), receipts.latest()[0].standing(1)
    assert idle is not None and then is not None
    assert (idle.requests, idle.decoding, idle.queued_tokens, idle.trust) == (0, 0.0, 0.0, 1.0)
    assert (then.requests, then.decoding, then.queued_tokens, then.trust) == (2, 3.0, 800.0, 1.0)
    timing = loaded.timing
    assert then.predicted_itl == timing.inter_token_seconds(4.0, 1_000.0 + 1_000.0)
    assert receipts.latest()[0].standing(2) is None


def test_what_others_run_counts_only_from_a_fresh_scrape() -> None:
    receipts = Receipts(4)
    decision = decided(at=100.0)
    state = decision.choices[0].endpoint
    scraped(state, running=3.0)
    state.foreign_running = 3.0
    receipts.routed(decision, 100.0)
    standing = receipts.latest()[0].standing(0)
    assert standing is not None and standing.decoding == 0.0


def test_errors_are_kept_by_endpoint_until_it_leaves() -> None:
    receipts = Receipts(4)
    over(receipts, decided())
    assert receipts.by_endpoint["e0"].ttft.count == 1
    receipts.keep_endpoints(["e1"])
    assert receipts.by_endpoint == {}
    assert receipts.errors.ttft.count == 1


@pytest.mark.parametrize(
    ("capacity", "sample", "limit", "name"),
    [
        (0, 1.0, 1.0, "capacity"),
        (1, 1.1, 1.0, "sample"),
        (1, -0.1, 1.0, "sample"),
        (1, float("nan"), 1.0, "sample"),
        (1, 1.0, 0.0, "surprise_limit"),
        (1, 1.0, float("nan"), "surprise_limit"),
    ],
)
def test_what_makes_no_sense_is_refused(
    capacity: int, sample: float, limit: float, name: str
) -> None:
    with pytest.raises(ValueError, match=f"^{name} is .*: give"):
        Receipts(capacity, sample, limit)
