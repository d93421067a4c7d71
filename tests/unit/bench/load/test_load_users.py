"""What the users of bench/load say, and when there are how many of them."""

from random import Random

import pytest

from bench.load.profiles import day, spikes, steps
from bench.load.talk import Conversation, Sizes, document, prose, siblings, system_prompt

SIZES = Sizes(system=50, document=300)


def test_conversations_grow_by_question_and_answer() -> None:
    conversation = Conversation.begin(Random(1), SIZES, seed=0, tenants=4)
    first = [*conversation.ask()]
    conversation.answered("so it is")
    second = conversation.ask()
    assert [message["role"] for message in second] == ["system", "user", "assistant", "user"]
    assert second[: len(first)] == first
    assert second[2]["content"] == "so it is"


def test_tenants_share_their_system_prompt_and_few_have_most_users() -> None:
    dice = Random(2)
    begun = [
        Conversation.begin(dice, SIZES, seed=0, tenants=4).messages[0]["content"]
        for _ in range(400)
    ]
    assert set(begun) == {system_prompt(0, tenant, SIZES.system) for tenant in range(4)}
    counts = [begun.count(system_prompt(0, tenant, SIZES.system)) for tenant in range(4)]
    assert counts[0] > counts[3] * 2
    assert system_prompt(1, 0, 50) != system_prompt(0, 0, 50)


def test_siblings_begin_alike_and_differ() -> None:
    asked = [*siblings(Random(3), SIZES, 5)]
    assert len({messages[0]["content"] for messages in asked}) == 1
    assert len({messages[1]["content"] for messages in asked}) == 5


def test_texts_are_as_long_as_told_and_repeat_with_their_seed() -> None:
    assert len(prose(Random(4), 500).split()) == 500
    assert document(Random(5), SIZES) == document(Random(5), SIZES)
    assert document(Random(5), SIZES) != document(Random(6), SIZES)
    assert len(document(Random(5), SIZES)[0]["content"].split()) >= SIZES.document


@pytest.mark.parametrize(("time", "users"), [(0, 10), (59, 10), (60, 20), (119, 20), (120, None)])
def test_steps(time: float, users: int | None) -> None:
    assert steps(10, 60.0, 2)(time) == users


@pytest.mark.parametrize(("time", "users"), [(0, 5), (79, 5), (80, 50), (99, 50), (100, 5)])
def test_spikes(time: float, users: int) -> None:
    profile = spikes(5, 50, every=100, lasting=20, until=300)
    assert profile(time) == users
    assert profile(300) is None


def test_a_day_has_its_night_and_its_noon() -> None:
    profile = day(4, 50, seconds=600, days=2)
    assert (profile(0), profile(300), profile(600)) == (4, 50, 4)
    assert profile(150) == profile(450) == 27
    assert profile(1200) is None
