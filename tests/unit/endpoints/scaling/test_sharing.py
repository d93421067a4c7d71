"""The leader decides on what all gateways see; who has fallen silent does not count."""

from dataclasses import replace
from math import inf

import pytest
from hypothesis import given
from hypothesis import strategies as st

from endpoints.scaling.role import Role
from endpoints.scaling.sharing import (
    FRESH_SECONDS,
    PREFIX,
    Others,
    Share,
    share_of,
    together,
    written,
)
from endpoints.scaling.signals import Observation, RoleObservation, Signal, Standing

_NUMBERS = st.floats(0.0, 1e6)
_SHARES = st.builds(
    Share,
    st.integers(0, 1_000),
    st.one_of(st.just(inf), _NUMBERS),
    st.dictionaries(st.sampled_from(list(Role)), st.tuples(_NUMBERS, _NUMBERS, _NUMBERS)),
)


ME = PREFIX + "me"


def _value(number: float) -> Signal:
    return Signal(Standing.VALUE, number, 0.0)


def _seen(rate: float, held: int = 0, idle: float = 5.0) -> Observation:
    role = RoleObservation(arrival_rate=_value(rate), in_flight=_value(2.0))
    return Observation("chat", 0.0, {Role.BOTH: role}, held, idle)


@given(st.dictionaries(st.text(min_size=1, max_size=8), _SHARES, max_size=3))
def test_what_is_written_is_read(shares: dict[str, Share]) -> None:
    others = Others()
    others.saw({PREFIX + "other": written(shares, 1)}, ME, 0.0)
    for pool, share in shares.items():
        assert others.of(pool, 0.0) == (share,)


def test_traffic_of_all_gateways_adds_up() -> None:
    share = share_of(_seen(3.0, held=4, idle=0.5))
    whole = together(_seen(1.0), (share, share))
    role = whole.roles[Role.BOTH]
    assert (whole.held, whole.idle_for) == (8, 0.5)
    assert role.arrival_rate.value == 7.0
    assert role.in_flight.value == 6.0
    assert role.forecast_rate.value == 6.0  # where we know nothing, at least what others see
    assert role.ttft.value is None
    assert together(_seen(1.0), ()) == _seen(1.0)


def test_a_silent_gateway_is_gone_whatever_its_last_words() -> None:
    others = Others()
    text = written({"chat": Share(held=3)}, 1)
    assert others.saw({PREFIX + "other": text}, ME, 0.0)
    assert not others.saw({PREFIX + "other": text}, ME, FRESH_SECONDS)
    assert len(others.of("chat", FRESH_SECONDS)) == 1
    assert others.of("chat", FRESH_SECONDS + 0.1) == ()
    assert others.stale(700.0) == (PREFIX + "other",)
    others.saw({}, ME, 701.0)
    assert others.stale(702.0) == ()


def test_our_own_words_and_others_annotations_are_not_heard() -> None:
    others = Others()
    others.saw({PREFIX + "me": written({"chat": Share(3)}, 1), "else": "x"}, ME, 0.0)
    assert others.of("chat", 0.0) == ()


@pytest.mark.parametrize("text", ["", "{}", "[1]", '{"seq": "x"}', '{"seq":1,"pools":{"chat":3}}'])
def test_what_can_not_be_read_is_nothing(text: str) -> None:
    others = Others()
    assert not others.saw({PREFIX + "other": text}, ME, 0.0)
    assert others.of("chat", 0.0) == ()


def test_somebody_who_begins_to_hold_requests_is_news() -> None:
    others = Others()
    assert not others.saw({PREFIX + "other": written({"chat": Share()}, 1)}, ME, 0.0)
    assert others.saw({PREFIX + "other": written({"chat": Share(held=1)}, 2)}, ME, 1.0)
    assert not others.saw({PREFIX + "other": written({"chat": Share(held=1)}, 3)}, ME, 2.0)


def test_a_share_is_of_what_one_gateway_sees() -> None:
    seen = replace(_seen(1.5, held=2), idle_for=inf)
    share = share_of(seen)
    assert share == Share(2, inf, {Role.BOTH: (1.5, 2.0, 0.0)})
