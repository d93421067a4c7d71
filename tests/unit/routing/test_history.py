from routing.fleet import Endpoint
from routing.history import SentPrompts
from tests.support.slates import chain_of, endpoints, request_of


def test_it_matches_what_was_sent() -> None:
    states, history = endpoints(3), SentPrompts()
    shared = chain_of("shared", 5)
    history.sent(request_of(shared), states[1], 100)
    history.sent(request_of(chain_of(1, 3, after=shared)), states[0], 100)
    asked = request_of(chain_of(1, 9, after=shared))
    assert history.match(asked, states) == {"e0": 8, "e1": 5}
    assert history.match(asked, states[1:]) == {"e1": 5}
    assert history.match(asked, states, most_blocks=4) == {"e0": 4, "e1": 4}
    assert history.match(request_of(chain_of(7, 5)), states) == {}
    assert history.match(request_of(), states) == {}


def test_several_prompts_add_up() -> None:
    states, history = endpoints(2), SentPrompts()
    history.sent(request_of(chain_of(0, 3), chain_of(1, 4)), states[0], 100)
    history.sent(request_of(chain_of(1, 4)), states[1], 100)
    asked = request_of(chain_of(0, 3), chain_of(1, 4), chain_of(2, 5))
    assert history.match(asked, states) == {"e0": 7, "e1": 4}


def test_the_one_that_was_sent_a_prefix_first_comes_first() -> None:
    states, history = endpoints(3), SentPrompts()
    prompt = request_of(chain_of(0, 4))
    for number in (2, 0, 1):
        history.sent(prompt, states[number], 100)
    assert list(history.match(prompt, states)) == ["e2", "e0", "e1"]


def test_another_endpoint_of_the_name_was_sent_nothing() -> None:
    history, prompt = SentPrompts(), request_of(chain_of(0, 4))
    old, new = endpoints(1), endpoints(1)
    history.sent(prompt, old[0], 100)
    assert history.match(prompt, new) == {}
    history.sent(request_of(chain_of(1, 2)), new[0], 100)
    assert history.match(prompt, new) == {}
    new[0].endpoint = Endpoint("e0", "http://elsewhere")
    assert history.match(request_of(chain_of(1, 2)), new) == {}


def test_unique_prompts_and_names_do_not_grow_it() -> None:
    budget = 200_000
    history = SentPrompts(budget)
    for number in range(400):
        state = endpoints(1, prefix=f"n{number}-")[0]
        history.sent(request_of(chain_of(number, 60)), state, 1_000)
        assert history.bytes_used <= budget
