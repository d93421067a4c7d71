"""What is asked of real engines, made token-exact with the model's own tokenizer.

Nothing depends on what the model answers: turns go on from fixed texts, so that every gateway
gets the same requests.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain
from random import Random

from bench.load.talk import Message, prose

CountTokens = Callable[[str], int]
ANSWER_TOKENS = 8
_ANSWER = "That is how it is."


@dataclass(frozen=True, slots=True)
class Ask:
    """One request. Those of one ``session`` come one after the other, in order."""

    session: int
    messages: tuple[Message, ...]


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in order, ``at_once`` of them at a time."""

    name: str
    what: str
    asks: tuple[Ask, ...]
    at_once: int


def text_of(dice: Random, tokens: int, count: CountTokens) -> str:
    """Invented words that come to about ``tokens`` tokens, and never to more."""
    words = prose(dice, tokens).split()  # a word is at least one
    low, high = 0, len(words)
    while low < high:
        middle = (low + high + 1) // 2
        if count(" ".join(words[:middle])) <= tokens:
            low = middle
        else:
            high = middle - 1
    return " ".join(words[:low])


def _user(text: str) -> Message:
    return {"role": "user", "content": text}


def _turns(first: str, questions: Sequence[str]) -> Iterator[tuple[Message, ...]]:
    """The prompts of a conversation, turn by turn."""
    messages: list[Message] = [{"role": "system", "content": first}]
    for question in questions:
        messages.append(_user(question))
        yield tuple(messages)
        messages.append({"role": "assistant", "content": _ANSWER})


def sessions(
    count: CountTokens, seed: int, *, number: int = 20, tokens: int = 560, turns: int = 4
) -> Workload:
    """Conversations that come back: together more than one server's cache, less than two's.

    Each round has a turn of every session, in an order of its own: in a fixed one, taking turns
    between two servers would by accident always meet the right one.
    """
    dice = Random(f"sessions {seed}")
    plans = [
        [*_turns(text_of(dice, tokens, count), [f"Question {n}?" for n in range(turns)])]
        for _ in range(number)
    ]
    asks = []
    for turn in range(turns):
        order = dice.sample(range(number), number)
        asks += [Ask(session, plans[session][turn]) for session in order]
    return Workload("sessions", f"{number} of {tokens} tokens, {turns} turns", tuple(asks), 2)


def growing(
    count: CountTokens, seed: int, *, number: int = 6, tokens: int = 150, turns: int = 5
) -> Workload:
    """Conversations that grow by ``tokens`` each turn; all fit anywhere."""
    dice = Random(f"growing {seed}")
    plans = [
        [
            *_turns(
                text_of(dice, tokens, count), [text_of(dice, tokens, count) for _ in range(turns)]
            )
        ]
        for _ in range(number)
    ]
    order = chain.from_iterable(dice.sample(range(number), number) for _ in range(turns))
    taken = [0] * number
    asks = []
    for session in order:
        asks.append(Ask(session, plans[session][taken[session]]))
        taken[session] += 1
    return Workload("growing", f"{number}, {tokens} tokens more in each turn", tuple(asks), 2)


def siblings(
    count: CountTokens, seed: int, *, bursts: int = 6, size: int = 4, tokens: int = 400
) -> Workload:
    """Bursts of requests that begin alike, all of a burst at once."""
    dice = Random(f"siblings {seed}")
    asks = []
    for burst in range(bursts):
        plan = text_of(dice, tokens, count)
        for number in range(size):
            step = _user(f"Step {number}: {text_of(dice, 20, count)}")
            messages = ({"role": "system", "content": plan}, step)
            asks.append(Ask(burst * size + number, messages))
    return Workload("siblings", f"{bursts} bursts of {size}, {tokens} tokens alike", tuple(asks), 4)


def unique(count: CountTokens, seed: int, *, number: int = 24, tokens: int = 450) -> Workload:
    """Prompts that have nothing in common: nothing to gain."""
    dice = Random(f"unique {seed}")
    asks = tuple(Ask(session, (_user(text_of(dice, tokens, count)),)) for session in range(number))
    return Workload("unique", f"{number} prompts of {tokens} tokens", asks, 2)


WORKLOADS = {one.__name__: one for one in (sessions, growing, siblings, unique)}
