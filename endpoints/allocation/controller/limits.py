"""What an InferenceCapacity can give, asked for whenever its scaler decides."""

import logging
from collections.abc import Mapping

from msgspec import Struct

from endpoints.allocation.controller.resources import CAPACITIES
from endpoints.allocation.emission.identity import Object
from endpoints.kubernetes.errors import KubernetesError
from endpoints.kubernetes.objects import Objects
from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.role import Role

_log = logging.getLogger(__name__)
_MOST_ATTAINED = 0.999
"""No size of a pool serves everybody in time."""


class Aims(Struct, frozen=True):
    """What an InferenceCapacity's ``spec.slo`` says; None: nothing. Seconds, and a share."""

    ttft: float | None = None
    itl: float | None = None
    attainment: float | None = None


def aims_of(capacity: Object) -> Aims:
    """The objective that its replicas are to meet, from a capacity as the API server has it."""
    said = (capacity.get("spec") or {}).get("slo") or {}

    def number(key: str) -> float | None:
        value = said.get(key)
        return float(value) if isinstance(value, int | float) and value > 0 else None

    attainment = number("attainment")
    if attainment is not None:
        attainment = min(attainment, _MOST_ATTAINED)
    return Aims(number("ttftSeconds"), number("itlSeconds"), attainment)


class CapacityLimit:
    """The ceiling of a role whose endpoints are an InferenceCapacity's whole replicas.

    ``role``: of the endpoints; one replica is one of them. What can't be read is no ceiling: the
    planner never places more than there is room for, whoever asks.
    """

    def __init__(self, objects: Objects, namespace: str, name: str, role: Role) -> None:
        self._objects = objects
        self._namespace = namespace
        self._name = name
        self._role = role
        self._unread = False

    async def aims(self) -> Aims:
        """Its objective; nothing said when it can't be read."""
        try:
            return aims_of(await self._objects.get(CAPACITIES, self._name, self._namespace))
        except KubernetesError as error:
            _log.warning("InferenceCapacity %s/%s: %s", self._namespace, self._name, error)
            return Aims()

    async def __call__(self) -> Mapping[Role, Ceiling] | None:
        """What its status says now; None while it says nothing."""
        try:
            item = await self._objects.get(CAPACITIES, self._name, self._namespace)
        except KubernetesError as error:
            if not self._unread:
                _log.warning(
                    "InferenceCapacity %s/%s: how many replicas can be is not known: %s",
                    self._namespace,
                    self._name,
                    error,
                )
            self._unread = True
            return None
        self._unread = False
        ceiling = ceiling_of(item)
        return None if ceiling is None else {self._role: ceiling}


def ceiling_of(capacity: Object) -> Ceiling | None:
    """The most whole replicas that can be, from a capacity as the API server has it.

    None while its status says nothing of it: not known is no ceiling of zero.
    """
    status = capacity.get("status") or {}
    now, after = status.get("feasible"), status.get("afterPreemption")
    if now is None or after is None:
        return None
    return Ceiling(now, after, status.get("limit") or "all devices that fit are in use")
