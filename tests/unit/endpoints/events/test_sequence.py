import pytest

from endpoints.events.sequence import Sequence, Verdict


@pytest.mark.parametrize(
    ("live", "applied", "message", "verdict"),
    [
        (5, 5, 4, Verdict.RESTARTED),
        (5, 9, 4, Verdict.RESTARTED),
        (5, None, 0, Verdict.RESTARTED),
        (5, 5, 5, Verdict.DUPLICATE),
        (5, None, 5, Verdict.DUPLICATE),
        (5, 9, 6, Verdict.DUPLICATE),
        (5, 9, 9, Verdict.DUPLICATE),
        (None, 9, 3, Verdict.DUPLICATE),
        (5, 5, 6, Verdict.NEXT),
        (5, 9, 10, Verdict.NEXT),
        (None, 9, 10, Verdict.NEXT),
        (5, 5, 7, Verdict.MISSING),
        (5, 9, 12, Verdict.MISSING),
        (None, None, 0, Verdict.NEXT),
        (None, None, 1, Verdict.MISSING),
        (None, None, 40, Verdict.MISSING),
    ],
)
def test_the_table(live: int | None, applied: int | None, message: int, verdict: Verdict) -> None:
    sequence = Sequence()
    sequence.live, sequence.applied = live, applied
    assert sequence.judge(message) is verdict
    assert sequence.live == message
    assert sequence.applied == applied


@pytest.mark.parametrize(
    ("message", "verdict"),
    [
        (6, Verdict.NEXT),
        (5, Verdict.DUPLICATE),
        (60, Verdict.RESTARTED),
        (2, Verdict.RESTARTED),
    ],
)
def test_after_a_broken_connection_only_the_next_number_is_trusted(
    message: int, verdict: Verdict
) -> None:
    sequence = Sequence()
    sequence.live = sequence.applied = 5
    sequence.doubtful = True
    assert sequence.judge(message) is verdict
    assert not sequence.doubtful


def test_the_first_connection_is_no_restart() -> None:
    sequence = Sequence()
    sequence.doubtful = True
    assert sequence.judge(7) is Verdict.MISSING


def test_the_next_number_to_ask_for() -> None:
    sequence = Sequence()
    assert sequence.next == 0
    sequence.applied = 8
    assert sequence.next == 9
    sequence.forget()
    assert sequence.next == 0
