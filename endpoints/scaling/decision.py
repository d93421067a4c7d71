"""From an observation to the replicas a pool should have. Pure: the caller owns time.

    wanted, memory = decide(observation, settings, memory, ceiling, now)

The same arguments give the same answer. `Memory` is what has to be known of earlier decisions;
an empty one (`Memory()`) is right after a start or a change of leader: the pool then starts from
what it is, not from zero.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.receipt import Receipt
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import Observation


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many replicas each role should have from now on, and why.

    ``held`` says why nothing may be changed now whatever the numbers are (somebody else's edit
    stands, nothing is known); ``replicas`` then are the present targets. None: carry it out.
    """

    pool: str
    at: float
    replicas: Mapping[Role, int]
    receipt: Receipt
    held: str | None = None


@dataclass(frozen=True, slots=True)
class Memory:
    """What decisions remember of earlier ones. Immutable; an empty one knows nothing."""


def decide(
    observation: Observation,
    settings: ScalingSettings,
    memory: Memory,
    ceiling: Mapping[Role, Ceiling] | None,
    now: float,
) -> tuple[Wanted, Memory]:
    """The replicas that each role of the pool should have, and what to remember of it."""
    replicas = {}
    for role in settings.roles:
        seen = observation.roles[role].replicas
        replicas[role] = seen.present if seen.target is None else seen.target
    receipt = Receipt(observation.pool, now, (), (), (), (), "not decided yet")
    return Wanted(observation.pool, now, replicas, receipt), memory
