"""What removals cost is what is computed again beyond what is computed again anyway."""

from dataclasses import replace

import pytest

from bench.scaledown.measure import Arm, checks, share_of_random

NONE = Arm("none", 0, 1_000, 0, 0, 10.0, 0.9, 100.0, None)
WORTH = Arm("worth", 50, 1_000, 0, 0, 10.0, 0.9, 150.0, 3_000.0)
RANDOM = Arm("random", 50, 1_000, 0, 0, 10.0, 0.9, 300.0, 6_000.0)


def test_the_share_is_of_the_cost_of_one_removal() -> None:
    assert share_of_random(WORTH, RANDOM, NONE) == pytest.approx(0.25)
    twice_as_long = replace(RANDOM, requests=2_000)
    assert share_of_random(WORTH, twice_as_long, NONE) == pytest.approx(0.125)


def test_what_can_not_be_told_is_not_told() -> None:
    assert share_of_random(WORTH, replace(RANDOM, again_tokens_a_request=90.0), NONE) is None
    assert share_of_random(WORTH, replace(RANDOM, removals=0), NONE) is None
    better = replace(WORTH, again_tokens_a_request=90.0)
    assert share_of_random(better, RANDOM, NONE) == 0.0


def test_every_failure_counts_in_whichever_arm() -> None:
    found = checks([WORTH, replace(RANDOM, failures=1)], 0.25, 100)
    assert [check.ok for check in found] == [False, True, True]
    assert not checks([WORTH], None, 100)[2].ok
