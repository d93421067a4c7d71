"""Between a scaler's replicas by role and an InferenceCapacity's whole replicas. Pure.

A scaler counts endpoints of each role; a capacity has whole replicas, each with so many pods of
each role, in a ratio that its spec fixes.
"""

from collections.abc import Mapping

from endpoints.allocation.emission.identity import Object
from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.role import Role


def ceilings(capacity: Object) -> dict[Role, Ceiling] | None:
    """The most endpoints of each role that can be, from a capacity as the API server has it.

    None while its status says nothing of it: not known is no ceiling of zero.
    """
    status = capacity.get("status") or {}
    now, after = status.get("feasible"), status.get("afterPreemption")
    if now is None or after is None:
        return None
    reason = status.get("limit") or "all devices that fit are in use"
    return {
        role: Ceiling(now * pods, after * pods, reason) for role, pods in _pods(capacity).items()
    }


def whole_replicas(wanted: Mapping[Role, int], capacity: Object) -> int:
    """The fewest whole replicas that have so many endpoints of each role: ``replicas.wanted``."""
    pods = _pods(capacity)
    return max(
        (-(-count // pods[role]) for role, count in wanted.items() if role in pods), default=0
    )


def _pods(capacity: Object) -> dict[Role, int]:
    """Endpoints of each role in one replica; a role of another name does all of a request.

    A role of several pods that are one engine (pipeline parallel) is still counted by pods, unless
    it is the only one: then a replica is one endpoint.
    """
    roles = capacity["spec"]["roles"]
    if len(roles) == 1:
        return {_role(roles[0]["name"]): 1}
    found: dict[Role, int] = {}
    for one in roles:
        role = _role(one["name"])
        found[role] = found.get(role, 0) + one.get("pods", 1)
    return found


def _role(name: str) -> Role:
    try:
        return Role(name)
    except ValueError:
        return Role.BOTH
