"""What the planner answers: a plan, or for each domain why not; and how many replicas there are.

Plans are values: making one reserves nothing (`endpoints.allocation.ledger` does).
"""

from collections.abc import Iterator
from itertools import repeat
from typing import NamedTuple

from msgspec import Struct

from endpoints.allocation.needs import Gang


class DeviceId(NamedTuple):
    """A device, cluster-wide: names are unique within a driver's pool only."""

    driver: str
    pool: str
    device: str

    def __str__(self) -> str:
        return "/".join(self)


class Domain(NamedTuple):
    """A place in the topology: a level's name, the value of its node label, and that label."""

    level: str
    value: str
    label: str

    def __str__(self) -> str:
        return f"{self.level} {self.value}"


class Grant(Struct, frozen=True):
    """What one request gets. ``option`` is the alternative's name, empty where there is none.

    ``consumed`` holds for each device what of its capacities is taken, by qualified name, or None
    for one that is not shared; it is empty when none of them is.
    """

    request: str
    option: str
    device_class: str
    devices: tuple[DeviceId, ...]
    consumed: tuple[tuple[tuple[str, int], ...] | None, ...] = ()
    admin_access: bool = False

    def uses(self) -> Iterator[tuple[DeviceId, tuple[tuple[str, int], ...] | None]]:
        """Each device that is used, with what is taken of it (None: all)."""
        if not self.admin_access:
            yield from zip(self.devices, self.consumed or repeat(None), strict=False)


class PodPlan(Struct, frozen=True):
    """One pod's node, devices, and the domains that the node is in, broad to narrow."""

    role: str
    index: int
    node: str
    grants: tuple[Grant, ...]
    domains: tuple[Domain, ...]


class Eviction(Struct, frozen=True):
    """A replica that has to go before the plan can come true."""

    pool: str
    replica: str


class Term(Struct, frozen=True):
    """One term of a plan's score, smaller is better, in order. ``detail`` is for people."""

    name: str
    value: float
    detail: str = ""


class Refusal(Struct, frozen=True):
    """Why not there. ``domain`` None: not anywhere. ``code`` is stable, ``reason`` a sentence.

    ``possible``/``wanted`` count pods where that is what fell short, else None.
    """

    domain: Domain | None
    code: str
    reason: str
    role: str | None = None
    possible: int | None = None
    wanted: int | None = None


class Plan(Struct, frozen=True):
    """Where one replica goes, whole.

    ``domain`` is the required domain that was chosen, None where none is required;
    ``role_domains`` the ones that roles require on their own. ``options`` names the alternative
    that each role's requests take: (role, request) -> option. ``refusals`` tell of the domains
    that could not hold it; ``candidates`` how many could. ``fragile`` are nodes on which the
    scheduler, which takes the first devices that fit, may leave too little for later pods: there
    the claims should select the planned devices.
    """

    gang: Gang
    pods: tuple[PodPlan, ...]
    domain: Domain | None
    role_domains: tuple[tuple[str, Domain], ...]
    options: tuple[tuple[tuple[str, str], str], ...]
    score: tuple[Term, ...]
    cost: float
    evictions: tuple[Eviction, ...]
    refusals: tuple[Refusal, ...]
    candidates: int
    fragile: tuple[str, ...] = ()

    def pods_of(self, role: str) -> tuple[PodPlan, ...]:
        """The pods of a role, in order."""
        return tuple(pod for pod in self.pods if pod.role == role)

    def devices(self) -> tuple[DeviceId, ...]:
        """Every device that is used, not only looked at; a shared one once for each use."""
        return tuple(
            device for pod in self.pods for grant in pod.grants for device, _ in grant.uses()
        )

    def exclusive_devices(self) -> tuple[DeviceId, ...]:
        """The devices that nobody else may use beside this plan."""
        return tuple(
            device
            for pod in self.pods
            for grant in pod.grants
            for device, consumed in grant.uses()
            if consumed is None
        )


class NoPlan(Struct, frozen=True):
    """No domain can hold the gang. ``reason`` says it in a sentence, ``refusals`` one by one."""

    gang: Gang
    reason: str
    refusals: tuple[Refusal, ...]


class Feasible(Struct, frozen=True):
    """How many more replicas there can be.

    ``now`` beside everything that runs or is reserved; ``after_preemption`` when idle replicas of
    lower priority go (at least ``now``; the same where the gang may not preempt). ``reason`` says
    what limits it; ``capped``: that was where counting stopped, there may be more.
    """

    now: int
    after_preemption: int
    reason: str
    capped: bool = False
    refusals: tuple[Refusal, ...] = ()
