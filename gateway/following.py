"""A pool's own rules for requests: what priority one has, and which model answers it.

An objective that a request names in a header has a priority; with one below zero it may be shed,
and is when the pool is saturated. An objective that nobody defined has priority 0. A rewritten
request is sent with another model's name, drawn by weight; only the name's bytes change.
"""

import random
from collections.abc import Mapping

from endpoints.discovery.kubernetes.rules import PoolRules
from gateway.apis.call import Api, ApiError, Call
from gateway.apis.renaming import with_model
from gateway.objectives import objective_named
from gateway.settings import Objective
from routing.router import Router


def set_priority(
    rules: PoolRules | None,
    objectives: Mapping[str, Objective],
    call: Call,
    fields: Mapping[bytes, bytes],
) -> int:
    """Give the call its objective's priority: the pool's, or the settings'. 0 without any.

    What a body says of priorities is between client and engine: anybody could claim it.
    """
    named = objective_named(fields)
    if named is None:
        return 0
    priority = None if rules is None else rules.priorities.get(named)
    if priority is None:
        objective = objectives.get(named)
        priority = 0 if objective is None else objective.priority
    call.priority = priority
    return priority


def shed_if_busy(priority: int, router: Router, model: str | None, now: float) -> None:
    """`ApiError` (429) for a priority below zero when the pool is saturated."""
    if priority < 0 and router.saturated(model, now):
        raise ApiError(
            429,
            "shed",
            f"All endpoints are busy, and requests of priority {priority} may be shed.",
            retry_after=1,
        )


def target_of(rules: PoolRules, model: str, dice: random.Random) -> str:
    """The model that a request for ``model`` goes to."""
    targets = rules.targets_of(model)
    if targets is None:
        return model
    return dice.choices(targets.models, targets.weights)[0]


def renamed(api: Api, body: bytes, model: str) -> tuple[Call, bytes]:
    """The body with another model, read again: prefixes depend on it. `ApiError` (400)."""
    try:
        body = with_model(body, model)
    except ValueError as error:
        raise ApiError(400, "invalid_field", f"The body: {error}.") from None
    return api.read(body), body
