"""The model's name in answers."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from gateway.apis.renaming import NameBack

ANSWER = b'{"model":"v1","a":[{"model": "v1"}],"t":"\\"model\\":\\"v1\\"","model":"v10"}'
RENAMED = b'{"model":"food","a":[{"model": "food"}],"t":"\\"model\\":\\"v1\\"","model":"v10"}'


@given(st.lists(st.integers(0, len(ANSWER)), max_size=6))
def test_an_answer_is_renamed_wherever_it_is_cut(cuts: list[int]) -> None:
    names = NameBack("v1", "food")
    places = sorted({0, len(ANSWER), *cuts})
    pieces = [ANSWER[start:stop] for start, stop in pairwise(places)]
    assert b"".join(map(names.feed, pieces)) + names.rest() == RENAMED


def test_what_cannot_be_the_beginning_of_a_name_is_not_held() -> None:
    names = NameBack("v1", "food")
    assert names.feed(b'data: {"x":"model"}\n\n') == b'data: {"x":"model"}\n\n'
