"""What the cluster's devices can really give: the allocator's bound on every decision."""

from dataclasses import dataclass
from typing import Final

NEEDED_ANNOTATION: Final = "inferway.dev/needed"
"""The way back: replicas that an InferenceCapacity's traffic needs, room for them or not."""


@dataclass(frozen=True, slots=True)
class Ceiling:
    """The most replicas of one role that could run, its present ones included.

    ``now``: with what is free; ``after_preemption``: when others gave way that would, at least
    ``now``; the same for who may not preempt. ``reason`` says in words what is exhausted.
    """

    now: int
    after_preemption: int
    reason: str

    def __post_init__(self) -> None:
        for name in ("now", "after_preemption"):
            value = getattr(self, name)
            if value < 0:
                raise ValueError(f"ceiling: {name} is {value}; it must not be negative")
