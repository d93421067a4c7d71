"""The numbers about scaled pools that others may ask for, each with its labels and its age.

``inferway_desired_replicas`` is what our own loop would ask for. Asked for with a target of 1 per
replica, it makes an HPA (or KEDA, which makes one) a plain actuator of our decision.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from types import MappingProxyType
from typing import Final

from endpoints.scaling.controller import Controller
from endpoints.scaling.role import Role
from endpoints.scaling.signals import RoleObservation, Signal
from gateway.waiting import WaitingRooms

DESIRED: Final = "inferway_desired_replicas"
WAITING: Final = "inferway_waiting_requests"
_STALE_ROUNDS: Final = 4
_SIGNALS: Final[Mapping[str, Callable[[RoleObservation], Signal]]] = MappingProxyType(
    {
        "inferway_arrival_rate": lambda seen: seen.arrival_rate,
        "inferway_in_flight_requests": lambda seen: seen.in_flight,
        "inferway_queued_tokens": lambda seen: seen.queued_tokens,
        "inferway_kv_usage": lambda seen: seen.kv_usage,
        "inferway_ttft_seconds": lambda seen: seen.ttft,
        "inferway_itl_seconds": lambda seen: seen.itl,
    }
)
METRICS: Final = (DESIRED, WAITING, *_SIGNALS)
"""Every metric there is."""


@dataclass(frozen=True, slots=True)
class Sample:
    """One value. ``age``: seconds since it was true."""

    labels: Mapping[str, str]
    value: float
    age: float


class Numbers:
    """What the loops know. A value that is missing or too old is not given: whoever asks then
    holds what there is, which a zero would not make it do.
    """

    def __init__(
        self,
        controllers: Mapping[str, Controller],
        rooms: WaitingRooms,
        clock: Callable[[], float],
    ) -> None:
        self._controllers = controllers
        self._rooms = rooms
        self._clock = clock

    def knows(self, pool: str, role: str) -> bool:
        """Whether there is such a role of such a pool."""
        controller = self._controllers.get(pool)
        return controller is not None and any(one.value == role for one in controller.roles)

    def samples(self, metric: str) -> Sequence[Sample]:
        """A metric's values for all pools and roles; empty when nothing is known, or no metric."""
        found: list[Sample] = []
        for pool, controller in list(self._controllers.items()):
            for role in controller.roles:
                value, age = self._value(metric, pool, controller, role)
                if value is not None:
                    labels = {"pool": pool, "role": role.value}
                    found.append(Sample(labels, value, age))
        return found

    def value(self, metric: str, pool: str, role: str) -> float | None:
        """One value; None when it is not known now."""
        for sample in self.samples(metric):
            if sample.labels == {"pool": pool, "role": role}:
                return sample.value
        return None

    def active(self, pool: str) -> bool | None:
        """Whether the pool should have any endpoint at all; None: not known."""
        room = self._rooms.of(pool)
        if room is not None and len(room):
            return True
        wanted = [one.value for one in self.samples(DESIRED) if one.labels["pool"] == pool]
        return any(wanted) if wanted else None

    def _value(
        self, metric: str, pool: str, controller: Controller, role: Role
    ) -> tuple[float | None, float]:
        if metric == WAITING:
            room = self._rooms.of(pool)
            return (None if room is None else float(len(room))), 0.0
        wanted, seen = controller.wanted, controller.observation
        if wanted is None or seen is None:
            return None, 0.0
        age = max(self._clock() - wanted.at, 0.0)
        if age > _STALE_ROUNDS * controller.settings.interval:
            return None, age
        if metric == DESIRED:
            return float(wanted.replicas[role]), age
        of = _SIGNALS.get(metric)
        return (None if of is None else of(seen.role(role)).value), age
