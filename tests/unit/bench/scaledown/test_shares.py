"""What removals cost is what only removed servers had, and somebody asked for again."""

from dataclasses import replace

from bench.scaledown.measure import MODEL, Arm, checks, share_of_random
from bench.scaledown.traffic import Traffic, TrafficSettings

WORTH = Arm("worth", 50, 1_000, 0, 0, 10.0, 0.9, 1_000.0)
RANDOM = Arm("random", 50, 1_000, 0, 0, 10.0, 0.9, 4_000.0)


def test_the_share_is_of_lost_tokens_a_removal() -> None:
    assert share_of_random(WORTH, RANDOM) == 0.25
    assert share_of_random(WORTH, replace(RANDOM, lost_tokens_a_removal=0.0)) is None


def test_every_failure_counts_in_whichever_arm() -> None:
    found = checks([WORTH, replace(RANDOM, failures=1)], 0.25, 100)
    assert [check.ok for check in found] == [False, True, True]
    assert not checks([WORTH], None, 100)[2].ok


def test_a_token_is_lost_when_only_a_removed_server_had_it() -> None:
    traffic = Traffic("http://nobody", MODEL, TrafficSettings(documents=1))
    prompt = [{"role": "user", "content": "x" * (2_560 - 6)}]  # with role and line ends: 10 blocks

    def answered(server: str, cached: int) -> float:
        before = traffic.books.lost_tokens
        usage = {"prompt_tokens": 640, "prompt_tokens_details": {"cached_tokens": cached}}
        traffic._book(prompt, usage, server)
        return traffic.books.lost_tokens - before

    assert answered("a", 0) == 0.0  # nobody had it
    assert answered("b", 0) == 0.0  # b was cold, and nobody was removed
    traffic.keep(["b"])
    assert answered("b", 640) == 0.0  # b had it, too
    traffic.keep([])
    assert answered("c", 0) == 640.0  # a and b are gone, and so it is
    assert answered("c", 0) == 0.0  # it is warm again
