"""What the lab's comparison asks, and how it judges."""

from itertools import pairwise
from random import Random

import pytest

from bench.lab.trial import trial
from bench.lab.trial.play import Run
from bench.lab.trial.workloads import WORKLOADS, growing, sessions, siblings, text_of, unique


def words(text: str) -> int:
    return len(text.split())


def test_texts_come_to_the_tokens_asked_for() -> None:
    def by_letters(text: str) -> int:
        return -(-len(text) // 3)

    for tokens in (1, 50, 560):
        said = text_of(Random(1), tokens, by_letters)
        assert tokens * 0.8 - 3 <= by_letters(said) <= tokens


def test_sessions_come_back_in_orders_of_their_own() -> None:
    workload = sessions(words, 0, number=6, tokens=40, turns=3)
    rounds = [[ask.session for ask in workload.asks[n : n + 6]] for n in (0, 6, 12)]
    assert all(sorted(order) == [*range(6)] for order in rounds)
    assert rounds[0] != rounds[1]
    for session in range(6):
        turns = [ask.messages for ask in workload.asks if ask.session == session]
        for before, after in pairwise(turns):
            assert after[: len(before)] == before and len(after) == len(before) + 2


def test_equal_seeds_ask_alike_and_others_do_not() -> None:
    for make in WORKLOADS.values():
        assert make(words, 1) == make(words, 1)
        assert make(words, 1).asks != make(words, 2).asks


def test_siblings_are_asked_at_once_and_begin_alike() -> None:
    workload = siblings(words, 0, bursts=2, size=3, tokens=30)
    first = workload.asks[:3]
    assert len({ask.messages[0]["content"] for ask in first}) == 1
    assert len({ask.messages[1]["content"] for ask in first}) == 3
    assert len({ask.session for ask in workload.asks}) == 6


def test_growing_and_unique() -> None:
    grown = growing(words, 0, number=3, tokens=20, turns=4)
    longest = [ask for ask in grown.asks if ask.session == 0][-1]
    assert sum(words(message["content"]) for message in longest.messages) > 4 * 20
    alone = unique(words, 0, number=5, tokens=20)
    assert len({ask.messages[0]["content"][:20] for ask in alone.asks}) == 5


def run_of(gateway: str, workload: str, ttft: float, errors: int = 0) -> Run:
    return Run(
        gateway=gateway,
        workload=workload,
        number=0,
        requests=1,
        errors={"status 500": errors} if errors else {},
        mean_ttft=ttft,
        p50_ttft=ttft,
        p90_ttft=ttft,
        mean_seconds=ttft,
        wall_seconds=1.0,
        hit_ratio=0.5,
        requests_by_server=[1, 0],
        paused_seconds=0.0,
        ttfts=[ttft],
    )


def failed(*runs: Run) -> list[str]:
    return [check.name for check in trial.checks(trial.summaries(runs)) if not check.ok]


@pytest.mark.parametrize(("ours", "count"), [(0.69, 0), (0.75, 3)])
def test_sessions_must_be_answered_sooner_than_by_anyone(ours: float, count: int) -> None:
    others = [run_of(name, "sessions", 1.0) for name in trial.OTHERS]
    assert len(failed(run_of("inferway", "sessions", ours), *others)) == count


def test_where_nothing_can_be_gained_nothing_may_be_lost() -> None:
    base = run_of("round-robin", "unique", 1.0)
    assert failed(run_of("inferway", "unique", 1.05), base) == []
    assert failed(run_of("inferway", "unique", 1.2), base) == [
        "unique: mean time to first token, of round-robin's"
    ]


def test_a_gateway_that_is_missing_or_fails_proves_nothing() -> None:
    alone = run_of("inferway", "sessions", 0.1)
    assert len(failed(alone)) == 3
    assert failed(run_of("inferway", "unique", 1.0, errors=1), run_of("round-robin", "unique", 1.0))


def test_runs_of_several_rounds_are_averaged() -> None:
    (one,) = trial.summaries([run_of("inferway", "unique", 1.0), run_of("inferway", "unique", 3.0)])
    assert (one.runs, one.mean_ttft, one.ttft_ratio) == (2, 2.0, None)
