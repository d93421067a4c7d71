"""What an ``InferenceCapacity`` may say, part by part, as YAML and the API server spell it."""

from typing import Any, Literal

from msgspec import Struct, field

from endpoints.allocation.needs import DEFAULT_PRIORITY


class _Part(Struct, frozen=True, rename="camel", forbid_unknown_fields=True):
    """A part of the document."""


class CelSpec(_Part, frozen=True):
    """A CEL expression over ``device``."""

    expression: str


class SelectorSpec(_Part, frozen=True):
    """A selector as claims write it."""

    cel: CelSpec


class TolerationSpec(_Part, frozen=True):
    """A toleration of taints of nodes (in a role) or devices (in a request)."""

    key: str = ""
    operator: Literal["Exists", "Equal"] = "Equal"
    value: str = ""
    effect: Literal["", "NoSchedule", "PreferNoSchedule", "NoExecute"] = ""
    toleration_seconds: int | None = None


class CapacityRequests(_Part, frozen=True):
    """What each device must have, or what is taken of it where it can be shared."""

    requests: dict[str, str | int | float] = field(default_factory=dict)


class OptionSpec(_Part, frozen=True):
    """One alternative of ``firstAvailable``."""

    name: str
    device_class_name: str
    allocation_mode: Literal["ExactCount", "All"] = "ExactCount"
    count: int | None = None
    selectors: tuple[SelectorSpec | str, ...] = ()
    capacity: CapacityRequests = CapacityRequests()
    tolerations: tuple[TolerationSpec, ...] = ()


class RequestSpec(_Part, frozen=True):
    """One request for devices: of one class, or the first of ``firstAvailable`` that there is."""

    name: str
    device_class_name: str | None = None
    allocation_mode: Literal["ExactCount", "All"] = "ExactCount"
    count: int | None = None
    selectors: tuple[SelectorSpec | str, ...] = ()
    capacity: CapacityRequests = CapacityRequests()
    tolerations: tuple[TolerationSpec, ...] = ()
    admin_access: bool = False
    first_available: tuple[OptionSpec, ...] = ()


class ConstraintSpec(_Part, frozen=True):
    """Devices with one value of an attribute in common, or all different."""

    requests: tuple[str, ...] = ()
    match_attribute: str | None = None
    distinct_attribute: str | None = None


class RoleTopologySpec(_Part, frozen=True):
    """How far apart the pods of one role may be."""

    required: str | None = None
    preferred: str | None = None


class TopologySpec(_Part, frozen=True):
    """How far apart a replica's pods may be, roles should be, replicas should be."""

    required: str | None = None
    preferred: str | None = None
    near: str | None = None
    spread: str | None = None


class RoleSpec(_Part, frozen=True):
    """One role of a replica: equal pods, each with these devices."""

    name: str
    devices: tuple[RequestSpec, ...]
    pods: int = 1
    constraints: tuple[ConstraintSpec, ...] = ()
    topology: RoleTopologySpec = RoleTopologySpec()
    node_selector: dict[str, str] = field(default_factory=dict)
    tolerations: tuple[TolerationSpec, ...] = ()
    template: dict[str, Any] = field(default_factory=dict)


class BoundsSpec(_Part, frozen=True):
    """How many replicas there may be, and how many are wanted now (None: ``min``)."""

    min: int = 0
    max: int | None = None
    wanted: int | None = None


class ObjectiveSpec(_Part, frozen=True):
    """What the replicas should reach, in seconds; ``attainment`` is a share of the requests."""

    ttft_seconds: float | None = None
    itl_seconds: float | None = None
    attainment: float | None = None


class SchedulerSpec(_Part, frozen=True):
    """Who keeps gangs whole. Auto: whatever is installed. ``name`` is the pods' scheduler.

    ``pin`` Node: pods may only go where they were planned; Domain: anywhere in that domain.
    """

    type: Literal["Auto", "KAI", "Native", "Grove", "LeaderWorkerSet", "Plain"] = "Auto"
    name: str | None = None
    pin: Literal["Node", "Domain"] = "Node"
    queue: str | None = None
    priority_class_name: str | None = None


class BudgetSpec(_Part, frozen=True):
    """What all replicas together may take; None: no bound."""

    devices: int | None = None
    cost_per_hour: float | None = None


class PoolReference(_Part, frozen=True):
    """Which pool of endpoints this is the capacity of."""

    name: str
    group: str = "inference.networking.k8s.io"
    kind: str = "InferencePool"


class CapacitySpec(_Part, frozen=True):
    """What the document's ``spec`` may say."""

    roles: tuple[RoleSpec, ...]
    pool_ref: PoolReference | None = None
    model: str | None = None
    replicas: BoundsSpec = BoundsSpec()
    priority: int = DEFAULT_PRIORITY
    preemption: Literal["Never", "LowerPriority", "FairShare"] = "Never"
    topology: TopologySpec = TopologySpec()
    slo: ObjectiveSpec = ObjectiveSpec()
    scheduler: SchedulerSpec = SchedulerSpec()
    budget: BudgetSpec = BudgetSpec()
