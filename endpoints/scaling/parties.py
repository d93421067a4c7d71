"""Whom a pool's controller works with: who observes, decides, chooses and holds, and each role.

The controller names what it needs of them; what is behind it is put together elsewhere.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, TypeAlias

from endpoints.scaling.actuators.actuator import Actuator, Member, Target
from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.decision import Memory, Wanted
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.shrinking import Shrinking
from endpoints.scaling.signals import Observation
from routing.router import Router


class Observer(Protocol):
    """Makes observations; `endpoints.scaling.collector.Collector` in production."""

    def collect(
        self,
        router: Router,
        targets: Mapping[Role, int | None],
        now: float,
        held: int = 0,
    ) -> Observation:
        """The pool as the brain knows it; ``held`` requests wait for its first endpoint."""


class Decider(Protocol):
    """How a number of replicas is found: `endpoints.scaling.decision.decide`, or a rival's rule."""

    def __call__(
        self,
        observation: Observation,
        settings: ScalingSettings,
        memory: Memory,
        ceiling: Mapping[Role, Ceiling] | None,
        now: float,
    ) -> tuple[Wanted, Memory]:
        """The replicas wanted, and what to remember of it."""


Chooser: TypeAlias = Callable[[Sequence[Member], int], Awaitable[Sequence[tuple[str, str]]]]
"""Which so many of the members go, and why; None: those whose going costs least."""


class Holding(Protocol):
    """Where requests wait while the pool has no endpoint."""

    closed: str | None
    wake: Callable[[], object]

    def __len__(self) -> int: ...

    @property
    def oldest(self) -> float | None:
        """Since when the first of them waits, by the controller's clock; None: nobody does."""

    def learn(self) -> None:
        """Remember what the pool serves."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One thing that the loop did, or could not do. ``at`` is the controller's clock."""

    at: float
    role: Role | None
    what: str


@dataclass(slots=True)
class RoleTarget:
    """One role: its actuator, what it was last, and who of it goes."""

    actuator: Actuator
    shrinking: Shrinking
    target: Target | None = None
    trouble: str | None = None
    """Why it could not be read or changed last; None: it could."""
    conflict: str | None = None
    """Who else scales it, so that we don't; None: nobody."""
    changes: dict[str, int] = field(default_factory=lambda: {"up": 0, "down": 0})
    """Changes of its number, by direction."""
