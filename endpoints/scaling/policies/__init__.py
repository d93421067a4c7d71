"""Scaling policies by name: ours, and others' rules for comparison and for moving over."""

from collections.abc import Callable, Mapping
from types import MappingProxyType

from endpoints.scaling.policies.apa import Apa
from endpoints.scaling.policies.dynamo_load import DynamoLoad
from endpoints.scaling.policies.hpa import Hpa
from endpoints.scaling.policies.kpa import Kpa
from endpoints.scaling.policies.objective import ForObjective
from endpoints.scaling.policies.policy import ScalingPolicy
from endpoints.scaling.policies.wva_saturation import WvaSaturation

__all__ = ["DEFAULT", "POLICIES", "ScalingPolicy", "make_scaling_policy"]

DEFAULT = ForObjective.name

POLICIES: Mapping[str, Callable[[], ScalingPolicy]] = MappingProxyType(
    {
        ForObjective.name: ForObjective,
        Hpa.name: Hpa,
        Kpa.name: Kpa,
        Apa.name: Apa,
        WvaSaturation.name: WvaSaturation,
        DynamoLoad.name: DynamoLoad,
    }
)
"""Name -> a policy with its documented defaults."""


def make_scaling_policy(name: str) -> ScalingPolicy:
    """The policy of that name; ValueError that lists the names when there is none."""
    try:
        return POLICIES[name]()
    except KeyError:
        raise ValueError(f"unknown scaling policy {name!r}: choose {', '.join(POLICIES)}") from None
