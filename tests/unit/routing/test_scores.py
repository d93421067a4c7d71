from collections import Counter
from random import Random

import pytest

from routing.scores import (
    at_least,
    best_places,
    headroom,
    lead_with,
    mean_and_deviation,
    prompt_blocks,
    softmax_place,
)
from tests.support.slates import chain_of, request_of


def test_best_places_are_the_lowest_then_the_ties_then_the_first() -> None:
    assert best_places([3.0, 1.0, 2.0, 1.0], [0, 2, 0, 1], 3) == [3, 1, 2]
    assert best_places([1.0, 1.0, 1.0], [0, 0, 0], 9) == [0, 1, 2]


def test_one_place_can_lead() -> None:
    assert lead_with(7, [1, 2, 3], 3) == [7, 1, 2]
    assert lead_with(2, [1, 2, 3], 3) == [2, 1, 3]
    assert lead_with(2, [1], 1) == [2]


def test_headroom_is_the_distance_from_the_highest() -> None:
    assert headroom([0.0, 10.0, 5.0]) == [1.0, 0.0, 0.5]
    assert headroom([4.0, 4.0]) == [1.0, 1.0]


def test_softmax_follows_its_probabilities() -> None:
    random = Random(1)
    costs = [0.0, 50.0, 100.0]
    drawn = Counter(softmax_place(costs, 1.0, random.random()) for _ in range(20_000))
    shares = [drawn[place] / 20_000 for place in range(3)]
    assert shares == pytest.approx([0.506, 0.307, 0.186], abs=0.02)
    assert softmax_place(costs, 1e-3, 0.999) == 0
    assert [softmax_place([5.0, 5.0], 1.0, sample) for sample in (0.2, 0.7)] == [0, 1]
    assert softmax_place(costs, 1.0, 1.0) == 2


def test_mean_and_deviation_are_of_the_population() -> None:
    assert mean_and_deviation([2.0, 4.0, 4.0, 4.0, 5.0, 5.0, 7.0, 9.0]) == (5.0, 2.0)


def test_blocks_of_all_prompts_count() -> None:
    assert prompt_blocks(request_of(chain_of(0, 3), chain_of(1, 4))) == 7
    assert prompt_blocks(request_of()) == 0


@pytest.mark.parametrize("value", [-1.0, float("nan"), float("inf")])
def test_a_value_out_of_range_is_named(value: float) -> None:
    with pytest.raises(ValueError, match=r"window must be a finite number of at least 0, not"):
        at_least("window", value, 0.0)
