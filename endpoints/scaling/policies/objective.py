"""Ours: the fewest endpoints that meet the objective, see `endpoints.scaling.decision`.

Parameters: `endpoints.scaling.settings.ScalingSettings`.
"""

from collections.abc import Mapping

from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.decision import Wanted, decide
from endpoints.scaling.memory import Memory
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import Observation


class ForObjective:
    """`decide` as a policy among others."""

    name = "objective"

    def decide(
        self,
        observation: Observation,
        settings: ScalingSettings,
        memory: Memory,
        ceiling: Mapping[Role, Ceiling] | None,
        now: float,
    ) -> tuple[Wanted, Memory]:
        """`decide`."""
        return decide(observation, settings, memory, ceiling, now)
