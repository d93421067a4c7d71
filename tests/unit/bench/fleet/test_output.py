"""How long answers are and what they say."""

from collections import Counter

import pytest

from bench.fleet.engine.output import Limits, Output, echo_output, random_output
from bench.fleet.engine.tokens import decode, encode


def text(output: Output) -> str:
    """The visible text."""
    whole = decode(output.token(index) for index in range(output.length))
    return whole.encode()[: output.visible_bytes].decode()


@pytest.mark.parametrize("most", [1, 2, 5, 6, 17, 119, 120, 121, 130, 1000])
def test_random_lengths_stay_within_the_limit(most: int) -> None:
    for seed in range(200):
        output = random_output(Limits(room=5000, max_tokens=most), seed)
        assert 1 <= output.length <= most
        assert (output.reason == "length") == (output.length == most)


def test_long_random_answers_follow_the_buckets() -> None:
    lengths = [random_output(Limits(5000, max_tokens=1000), seed).length for seed in range(2000)]
    ends = (20, 40, 60, 960, 980, 1000)
    shares = Counter(next(end for end in ends if length <= end) for length in lengths)
    expected = (0.20, 0.30, 0.20, 0.05, 0.10, 0.15)
    for end, share in zip(ends, expected, strict=True):
        assert shares[end] / 2000 == pytest.approx(share, abs=0.04)


def test_without_a_limit_lengths_are_around_forty() -> None:
    lengths = [random_output(Limits(room=5000), seed).length for seed in range(500)]
    assert sum(lengths) / 500 == pytest.approx(40, abs=4)
    assert random_output(Limits(room=1), 0).length == 1


def test_the_same_seed_says_the_same() -> None:
    limits = Limits(5000, max_tokens=50, ignore_eos=True)
    assert text(random_output(limits, 3)) == text(random_output(limits, 3))
    assert text(random_output(limits, 3)) != text(random_output(limits, 4))


def test_ignore_eos_and_min_tokens_are_honoured() -> None:
    assert random_output(Limits(5000, max_tokens=700, ignore_eos=True), 1).length == 700
    for seed in range(50):
        assert random_output(Limits(5000, max_tokens=60, min_tokens=55), seed).length >= 55


def test_an_answer_comes_back_as_the_tokens_it_was_generated_with() -> None:
    output = random_output(Limits(5000, max_tokens=30, ignore_eos=True), 5)
    assert list(encode(text(output))) == [output.token(index) for index in range(30)]


def test_echo_says_the_source_once() -> None:
    output = echo_output(Limits(5000, max_tokens=100), encode("say it again, Sam"))
    assert text(output) == "say it again, Sam"
    assert output.reason == "stop"


def test_echo_is_cut_by_the_limit_and_repeated_for_ignore_eos() -> None:
    source = encode("12345678")
    cut = echo_output(Limits(5000, max_tokens=1), source)
    assert (text(cut), cut.reason) == ("1234", "length")
    repeated = echo_output(Limits(5000, max_tokens=3, ignore_eos=True), source)
    assert text(repeated) == "123456781234"


def test_a_stop_string_ends_the_answer_and_is_not_shown() -> None:
    source = encode("one two three four")
    output = echo_output(Limits(5000, stop=("hre", "four")), source)
    assert text(output) == "one two t"
    assert (output.reason, output.stopped_by, output.length) == ("stop", "hre", 3)


def test_stop_strings_count_only_after_min_tokens() -> None:
    source = encode("stop1234stop5678")
    output = echo_output(Limits(5000, min_tokens=2, stop=("stop",)), source)
    assert text(output) == "stop1234"
    assert output.length == 3


def test_a_stop_string_that_never_comes_changes_nothing() -> None:
    limits = Limits(5000, max_tokens=600, ignore_eos=True, stop=("xyzzy",))
    assert random_output(limits, 1).length == 600
