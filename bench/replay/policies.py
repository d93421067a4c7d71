"""A fresh policy for a replay: by name, with the replay's seed, or the one that reads minds."""

from collections.abc import Callable, Mapping
from inspect import signature
from random import Random
from typing import TypeAlias

from bench.replay.clairvoyant import Clairvoyant
from bench.replay.engine import Engine
from routing.policies import POLICIES, make_policy
from routing.policies.policy import Policy
from routing.policies.power_of_two import PowerOfTwo

PolicyChoice: TypeAlias = str | Callable[[], Policy]
"""A policy's name, ``clairvoyant`` among them, or what makes a fresh one."""


def fresh_policy(choice: PolicyChoice, engines: Mapping[str, Engine], seed: int) -> Policy:
    """A policy whose draws, if it draws, come from the seed. ValueError for an unknown name."""
    if not isinstance(choice, str):
        return choice()
    if choice == Clairvoyant.name:
        return Clairvoyant(engines)
    if choice == PowerOfTwo.name:
        return PowerOfTwo(Random(seed))
    made = make_policy(choice)
    if "seed" in signature(type(made)).parameters:
        seeded: Callable[..., Policy] = POLICIES[choice]
        return seeded(seed=seed)
    return made
