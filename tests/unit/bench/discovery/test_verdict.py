"""What counts as missed, and what as a phantom."""

from bench.discovery.verdict import Change, differences, judge


def up(at: float, url: str = "u") -> Change:
    return Change(at, "e", url)


def down(at: float) -> Change:
    return Change(at, "e", None)


def test_what_is_seen_soon_has_a_lag() -> None:
    found = judge([up(1.0), down(5.0)], [up(1.5), down(5.25)], 1.0)
    assert found.lags == [0.5, 0.25]
    assert not found.missed and not found.phantoms


def test_what_is_never_seen_is_missed_unless_it_was_over_at_once() -> None:
    found = judge([up(1.0), down(5.0)], [], 1.0)
    assert found.missed == ["e came at 1.000"]  # nothing was there to leave
    found = judge([up(1.0), down(2.0), up(2.5)], [up(1.1)], 1.0)
    assert not found.missed
    assert found.superseded == 1
    found = judge([up(1.0), down(2.0)], [up(1.1)], 1.0)
    assert found.missed == ["e left at 2.000"]


def test_what_was_never_made_or_is_long_over_is_a_phantom() -> None:
    assert judge([], [up(1.0)], 1.0).phantoms == ["e as u at 1.000"]
    assert judge([up(1.0), down(2.0)], [up(1.1), down(2.1), up(4.0)], 1.0).phantoms
    assert not judge([up(1.0), down(2.0)], [up(2.5), down(2.6)], 1.0).phantoms
    assert judge([up(1.0)], [up(1.1), down(9.0)], 1.0).phantoms == ["e as None at 9.000"]
    assert judge([up(1.0)], [up(1.1, "other")], 1.0).phantoms


def test_the_ends_are_compared() -> None:
    assert differences({"a": "1", "b": "2"}, {"b": "3", "c": "4"}) == (["a", "b"], ["b", "c"])
