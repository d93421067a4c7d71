import pytest

from routing.breaker import Breaker, BreakerSettings, Circuit

SETTINGS = BreakerSettings(
    failures_in_a_row=3,
    failure_share=0.5,
    window=10.0,
    window_requests=10,
    open_seconds=1.0,
    longest_open_seconds=5.0,
)


def opened(now: float = 0.0) -> Breaker:
    breaker = Breaker(SETTINGS, now)
    for request in range(3):
        breaker.failed(request, now)
    return breaker


def test_it_opens_after_a_row_of_failures_that_no_success_breaks() -> None:
    breaker = Breaker(SETTINGS, 0.0)
    for outcome in "ffsff":
        if outcome == "f":
            breaker.failed("r", 1.0)
        else:
            breaker.succeeded("r", 1.0)
    assert (breaker.admits, breaker.failures_in_a_row) == (True, 2)
    breaker.failed("r", 2.0)
    assert (breaker.circuit, breaker.admits) == (Circuit.OPEN, False)
    assert (breaker.since, breaker.half_open_at) == (2.0, 3.0)
    assert (breaker.failures, breaker.openings) == (5, 1)


def test_it_opens_when_too_large_a_share_fails() -> None:
    breaker = Breaker(SETTINGS, 0.0)
    for number in range(8):  # every second one: never three in a row
        (breaker.failed if number % 2 else breaker.succeeded)("r", 1.0)
    breaker.succeeded("r", 1.0)
    assert breaker.admits  # nine outcomes are not enough
    breaker.failed("r", 1.0)
    assert breaker.circuit is Circuit.OPEN


def test_a_share_below_the_limit_keeps_it_closed() -> None:
    breaker = Breaker(SETTINGS, 0.0)
    for number in range(100):
        (breaker.succeeded if number % 3 else breaker.failed)("r", 1.0)
    assert breaker.circuit is Circuit.CLOSED


@pytest.mark.parametrize(("pause", "circuit"), [(4.0, Circuit.OPEN), (11.0, Circuit.CLOSED)])
def test_outcomes_older_than_the_window_are_forgotten(pause: float, circuit: Circuit) -> None:
    breaker = Breaker(SETTINGS, 0.0)
    for number in range(8):
        (breaker.failed if number % 2 else breaker.succeeded)("r", 0.0)
    breaker.succeeded("r", pause)
    breaker.failed("r", pause)
    assert breaker.circuit is circuit


def test_outcomes_of_requests_sent_before_it_opened_change_nothing() -> None:
    breaker = opened()
    breaker.succeeded("before", 0.5)
    breaker.failed("before", 0.5)
    assert (breaker.circuit, breaker.half_open_at, breaker.failures) == (Circuit.OPEN, 1.0, 3)
    breaker.tick(1.0)
    breaker.sending("probe")
    breaker.succeeded("before", 1.1)
    breaker.failed("before", 1.1)
    breaker.unproven("before")
    assert (breaker.circuit, breaker.admits) == (Circuit.HALF_OPEN, False)


def test_half_open_admits_one_probe_whose_answer_closes_it() -> None:
    breaker = opened()
    breaker.tick(0.999)
    assert not breaker.admits
    breaker.tick(1.0)
    assert (breaker.circuit, breaker.since, breaker.admits) == (Circuit.HALF_OPEN, 1.0, True)
    breaker.sending("probe")
    assert not breaker.admits
    breaker.answered("probe", 1.5)
    assert (breaker.circuit, breaker.since, breaker.admits) == (Circuit.CLOSED, 1.5, True)
    breaker.failed("r", 1.6)
    assert breaker.circuit is Circuit.CLOSED  # the row began anew


def test_a_probe_without_a_verdict_makes_room_for_the_next() -> None:
    breaker = opened()
    breaker.tick(1.0)
    breaker.sending("probe")
    breaker.unproven("probe")
    assert breaker.admits
    breaker.sending("next")
    breaker.succeeded("next", 1.5)
    assert breaker.circuit is Circuit.CLOSED


def test_it_stays_open_longer_each_time_a_probe_fails_up_to_a_limit() -> None:
    breaker, now = opened(), 0.0
    lasted = []
    for probe in range(100):
        assert breaker.half_open_at is not None
        lasted.append(breaker.half_open_at - now)
        now = breaker.half_open_at
        breaker.tick(now)
        breaker.sending(probe)
        breaker.failed(probe, now)
    assert lasted[:5] == [1.0, 2.0, 4.0, 5.0, 5.0]
    assert set(lasted[3:]) == {5.0}
    breaker.tick(now + 5.0)
    breaker.sending("good")
    breaker.succeeded("good", now + 5.0)
    for request in range(3):
        breaker.failed(request, 1_000.0)
    assert breaker.half_open_at == 1_001.0  # closing forgot the growth
    assert breaker.openings == 102


def test_a_recovery_lets_a_probe_go_at_once_but_proves_nothing() -> None:
    breaker = opened()
    breaker.recovered(0.1)
    assert (breaker.circuit, breaker.half_open_at) == (Circuit.HALF_OPEN, None)
    breaker.sending("probe")
    breaker.failed("probe", 0.2)
    assert breaker.half_open_at == pytest.approx(2.2)
    closed = Breaker(SETTINGS, 0.0)
    for _ in range(2):
        closed.failed("r", 0.0)
    closed.recovered(1.0)
    for _ in range(2):
        closed.failed("r", 1.0)
    assert closed.circuit is Circuit.CLOSED
