"""Users of a chat API, for locust: people who chat, agents that ask in bursts, long documents.

    locust -f bench/load/locustfile.py --host http://127.0.0.1:8080 --model smol
    locust -f bench/load/locustfile.py,bench/load/spike.py --host ... --headless

Any OpenAI API will do. See docs/load.md.
"""

from itertools import count
from random import Random

import gevent
from locust import User, task

from bench.load import talk
from bench.load.options import options, sizes
from bench.load.streaming import Talker

_numbers = count()
_SIBLINGS = (3, 8)


class _ChatApiUser(User):
    """What all users have: a voice, dice of their own, and pauses."""

    abstract = True

    def on_start(self) -> None:
        """Take up what the command line says."""
        told = options(self.environment)
        assert self.host is not None, "which API? --host http://127.0.0.1:8080"
        self.told = told
        self.sizes = sizes(told)
        self.dice = Random(f"{told.seed} {next(_numbers)}")
        self.talker = Talker(self.environment, self.host, told.model)

    def wait_time(self) -> float:
        """Time to think: exponential, as people's is about."""
        return self.dice.expovariate(1 / self.told.think) if self.told.think > 0 else 0.0

    def say(self, name: str, messages: list[talk.Message]) -> str | None:
        """Ask, and hear the answer."""
        return self.talker.say(name, messages, self.sizes.answer_tokens)


class Person(_ChatApiUser):
    """Chats in growing conversations, under a system prompt that the tenant's users share."""

    weight = 8

    @task
    def chat(self) -> None:
        """One conversation, turn by turn."""
        told = self.told
        conversation = talk.Conversation.begin(self.dice, self.sizes, told.seed, told.tenants)
        for turn in range(self.dice.randint(*self.sizes.turns)):
            if turn:
                gevent.sleep(self.wait_time())
            answer = self.say("first turn" if not turn else "later turn", conversation.ask())
            if answer is None:
                return
            conversation.answered(answer)


class Agent(_ChatApiUser):
    """Asks several things at once that begin alike, and goes on when all are answered."""

    weight = 1

    @task
    def burst(self) -> None:
        """One burst."""
        asked = talk.siblings(self.dice, self.sizes, self.dice.randint(*_SIBLINGS))
        gevent.joinall([gevent.spawn(self.say, "sibling", messages) for messages in asked])


class Reader(_ChatApiUser):
    """Asks about long documents that nobody asked about before."""

    weight = 1

    @task
    def read(self) -> None:
        """One document."""
        self.say("document", talk.document(self.dice, self.sizes))
