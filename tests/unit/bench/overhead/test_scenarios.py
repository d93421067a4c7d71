import pytest

from bench.overhead.scenarios import SCENARIOS, chosen, fit_descriptors

STREAMS = SCENARIOS[-1]


def test_a_scenario_is_chosen_by_its_name_or_by_the_beginning_of_it() -> None:
    assert chosen(()) == SCENARIOS
    assert [one.name for one in chosen(["unary-4k"])] == ["unary-4k-c1", "unary-4k-c32"]
    assert [one.name for one in chosen(["streams-100"])] == ["streams-100"]
    with pytest.raises(ValueError, match="unary-4k-c32"):
        chosen(["unary-5k"])


def test_scaling_leaves_a_request_a_connection_at_least() -> None:
    tiny = STREAMS.scaled(0.00001)
    assert (tiny.requests, tiny.connections) == (1, 1)
    half = SCENARIOS[1].scaled(0.5)
    assert (half.requests, half.connections) == (10_000, 32)


def test_open_streams_are_as_many_as_there_are_descriptors_for() -> None:
    fitted = fit_descriptors(STREAMS, 20_000)
    assert fitted.connections == fitted.requests == 9_850
    assert fit_descriptors(STREAMS, 100_000) == STREAMS
