"""What a scaling policy is, and what all of them share."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.decision import Wanted, finished, present, watched
from endpoints.scaling.edits import standing
from endpoints.scaling.memory import Memory, RoleMemory
from endpoints.scaling.receipt import Candidate
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import Observation, RoleObservation
from endpoints.scaling.trail import Trail


class ScalingPolicy(Protocol):
    """Decides like `endpoints.scaling.decision.decide`."""

    name: str

    def decide(
        self,
        observation: Observation,
        settings: ScalingSettings,
        memory: Memory,
        ceiling: Mapping[Role, Ceiling] | None,
        now: float,
    ) -> tuple[Wanted, Memory]:
        """The replicas that each role should have, and what to remember."""
        ...


Opinion = tuple[int | None, str, RoleMemory]
"""Replicas that a rule calls for (None: it can't tell), why, and what to remember."""


class RuleOfEach:
    """A policy that looks at each role alone: what remains is `role`.

    Bounds, budget, ceiling, and others' edits hold for every policy; a pool that is empty starts
    when requests wait.
    """

    name = ""

    def role(
        self,
        seen: RoleObservation,
        role: Role,
        current: int,
        settings: ScalingSettings,
        memory: RoleMemory,
        now: float,
    ) -> Opinion:
        """The rule: what one role should have, stabilised and paced as the rule has it."""
        raise NotImplementedError

    def decide(
        self,
        observation: Observation,
        settings: ScalingSettings,
        memory: Memory,
        ceiling: Mapping[Role, Ceiling] | None,
        now: float,
    ) -> tuple[Wanted, Memory]:
        """The rule for each role, within the bounds of all."""
        memory = watched(observation, settings, memory, now)
        current = present(observation, settings)
        trail = Trail(current)
        candidates: list[Candidate] = []
        roles = {}
        held = None
        for role in settings.roles:
            seen, known = observation.role(role), memory.of(role)
            held = held or standing(known, role, now, settings.edit_hold)
            count, reason, roles[role] = self.role(seen, role, current[role], settings, known, now)
            candidates.append(Candidate(role, self.name, count, reason))
            if count is not None:
                trail.move(role, "need", count, reason)
            if current[role] == 0 and observation.held:
                trail.move(role, "activation", max(trail[role], 1), "requests wait")
        memory = replace(memory, roles=roles)
        return finished(observation, settings, memory, ceiling, trail, candidates, now, held=held)


def remembered(
    values: Sequence[tuple[float, float]], now: float, value: float, keep: float
) -> tuple[tuple[float, float], ...]:
    """The values of the last ``keep`` seconds, with the present one."""
    return (*(one for one in values if one[0] > now - keep), (now, value))


def mean_since(values: Sequence[tuple[float, float]], since: float) -> float | None:
    """The mean of the values from then on; None without any."""
    recent = [value for at, value in values if at >= since]
    return sum(recent) / len(recent) if recent else None
