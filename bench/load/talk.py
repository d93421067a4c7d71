"""What users say: system prompts that tenants share, conversations that grow, long documents.

Texts are made from seeds, so that equal seeds give equal prompts, in every process.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from random import Random

Message = dict[str, str]

_SYLLABLES = ("ba", "ce", "di", "fo", "gu", "ka", "le", "mi", "no", "pu", "ra", "se", "ti", "vo")
_SENTENCE_WORDS = 12


def prose(dice: Random, words: int) -> str:
    """That many invented words, in sentences."""
    said = [
        "".join(dice.choice(_SYLLABLES) for _ in range(dice.randint(1, 3))) for _ in range(words)
    ]
    return " ".join(
        word + "." * (place % _SENTENCE_WORDS == _SENTENCE_WORDS - 1)
        for place, word in enumerate(said)
    )


@dataclass(frozen=True, slots=True)
class Sizes:
    """How long things are, in words; ``answer_tokens`` is the most that is asked for."""

    system: int = 400
    question: tuple[int, int] = (15, 80)
    document: int = 4_000
    answer_tokens: int = 96
    turns: tuple[int, int] = (2, 8)


@lru_cache(maxsize=1024)
def system_prompt(seed: int, tenant: int, words: int) -> str:
    """The system prompt of a tenant: all its users begin with it."""
    return f"You work for tenant {tenant}. " + prose(Random(f"tenant {seed} {tenant}"), words)


@dataclass(slots=True)
class Conversation:
    """A chat of one user of a tenant, as it grows."""

    dice: Random
    sizes: Sizes
    messages: list[Message] = field(default_factory=list)

    @classmethod
    def begin(cls, dice: Random, sizes: Sizes, seed: int, tenants: int) -> "Conversation":
        """A new one, for a tenant whose popularity falls with its number, as 1/n."""
        tenant = dice.choices(range(tenants), [1 / (n + 1) for n in range(tenants)])[0]
        system = system_prompt(seed, tenant, sizes.system)
        return cls(dice, sizes, [{"role": "system", "content": system}])

    def ask(self) -> list[Message]:
        """The messages of the next turn."""
        question = prose(self.dice, self.dice.randint(*self.sizes.question))
        self.messages.append({"role": "user", "content": question})
        return self.messages

    def answered(self, text: str) -> None:
        """What was said belongs to the next prompt."""
        self.messages.append({"role": "assistant", "content": text})


def siblings(dice: Random, sizes: Sizes, count: int) -> Iterator[list[Message]]:
    """What an agent asks at once: one long beginning, and a step of its own in each."""
    plan = prose(dice, sizes.system * 2)
    for number in range(count):
        yield [
            {"role": "system", "content": plan},
            {"role": "user", "content": f"Step {number}: {prose(dice, 10)}"},
        ]


def document(dice: Random, sizes: Sizes) -> list[Message]:
    """A long text of its own, and a question about it."""
    text = prose(dice, sizes.document)
    return [{"role": "user", "content": f"{text}\n\nWhat does it say of {prose(dice, 2)}?"}]
