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
from routing.router import Router


def set_priority(
    rules: PoolRules, router: Router, call: Call, fields: Mapping[bytes, bytes], now: float
) -> None:
    """Give the call its objective's priority; `ApiError` (429) when it is shed."""
    named = objective_named(fields)
    if named is None:
        return
    call.priority = rules.priorities.get(named, 0)
    if call.priority < 0 and router.saturated(call.model, now):
        raise ApiError(
            429,
            "shed",
            f"All endpoints are busy, and the objective {named!r} may be shed.",
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
