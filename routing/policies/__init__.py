"""How to rank endpoints: one module a policy, all with the signature of `Policy`."""

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from random import Random
from types import MappingProxyType

from routing.policies.aibrix_prefix import AibrixPrefix
from routing.policies.chwbl import BoundedLoadHash
from routing.policies.consistent_hash import ConsistentHash
from routing.policies.dynamo_cost import DynamoCost
from routing.policies.dynamo_lmetric import DynamoLmetric
from routing.policies.least_request import LeastRequest
from routing.policies.llmd_precise import LlmdPrecise
from routing.policies.llmd_weighted import LlmdWeighted
from routing.policies.policy import Choice, Policy, Slate
from routing.policies.power_of_two import PowerOfTwo
from routing.policies.preble import Preble
from routing.policies.predicted_time import PredictedTime
from routing.policies.random_choice import RandomChoice
from routing.policies.round_robin import RoundRobin
from routing.policies.sglang_cache_aware import SglangCacheAware

__all__ = ["DEFAULT_POLICY", "POLICIES", "Choice", "Policy", "Slate", "make_policy"]

POLICIES: Mapping[str, Callable[[], Policy]] = MappingProxyType(
    {
        PredictedTime.name: PredictedTime,
        RoundRobin.name: RoundRobin,
        LeastRequest.name: LeastRequest,
        PowerOfTwo.name: lambda: PowerOfTwo(Random()),
        RandomChoice.name: RandomChoice,
        # What other projects do, to compare with:
        ConsistentHash.name: ConsistentHash,
        BoundedLoadHash.name: BoundedLoadHash,
        SglangCacheAware.name: SglangCacheAware,
        LlmdWeighted.name: LlmdWeighted,
        LlmdPrecise.name: LlmdPrecise,
        DynamoCost.name: DynamoCost,
        DynamoLmetric.name: DynamoLmetric,
        AibrixPrefix.name: AibrixPrefix,
        Preble.name: Preble,
    }
)
"""Policy by name; each call makes a fresh one."""

DEFAULT_POLICY = PredictedTime.name


def make_policy(name: str) -> Policy:
    """A fresh policy; ValueError with what was perhaps meant when there is none of that name."""
    if name in POLICIES:
        return POLICIES[name]()
    close = get_close_matches(name, POLICIES, n=2)
    hint = f"did you mean {' or '.join(close)}?" if close else f"choose {', '.join(POLICIES)}"
    raise ValueError(f"unknown policy {name!r}: {hint}")
