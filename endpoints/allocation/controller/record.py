"""What is remembered of a replica, in the status of its InferenceCapacity.

The plan has to outlive a restart: the devices that it reserves may not show in any claim yet, and
its pods have to be made again in the same place when they are lost. Written compactly, as a
replica may have hundreds of devices::

    {"domain": ["leaf", "leaf-1", "fabric.topograph.run/tier-0"],
     "roles": {"decode": {"options": {"gpu": "a100"}, "domain": [...]}},
     "pods": [["decode", 0, "node-1", [["leaf", "leaf-1", "..."], ...],
               {"gpu": ["gpu.nvidia.com", "gpu.nvidia.com/node-1", ["gpu-0"], [{...}]]}]]}
"""

from collections.abc import Sequence
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import msgspec
from msgspec import Struct

from endpoints.allocation.emission.identity import Object, Replica, content_hash
from endpoints.allocation.emission.narrowing import Narrowing
from endpoints.allocation.manifest import Capacity
from endpoints.allocation.needs import Gang
from endpoints.allocation.plan import DeviceId, Domain, Grant, Plan, PodPlan


class Phase(Enum):
    """What was decided about a replica; what its pods do is their standing."""

    PLACED = "Placed"
    DRAINING = "Draining"


class Record(Struct, frozen=True):
    """One replica: its plan, what was decided, ``since`` when (seconds of the epoch), and why.

    ``restorable``: it drains only as there are too many, and may come back when more are wanted.
    ``narrowing`` was needed where it was planned; it stays, so that lost pods come back the same.
    """

    name: str
    revision: str
    plan: Plan
    phase: Phase
    since: float
    reason: str = ""
    restorable: bool = False
    narrowing: Narrowing = {}

    @property
    def draining(self) -> bool:
        """Whether it is on its way out."""
        return self.phase is Phase.DRAINING

    @property
    def replica(self) -> Replica:
        """What its objects are written from."""
        return Replica(self.name, self.revision, self.plan, self.narrowing)


class RecordError(ValueError):
    """A recorded plan that can't be read; the message says what is wrong."""


def revision_of(capacity: Capacity) -> str:
    """The hash of all that a replica is made from; another one means other pods.

    How many there may be, how urgent they are and what they cost at most changes no pod.
    """
    spec = capacity.spec
    roles = msgspec.to_builtins(spec.roles)
    return content_hash([roles, msgspec.to_builtins(spec.topology), _scheduling(capacity)])


def _scheduling(capacity: Capacity) -> Object:
    found: Object = msgspec.to_builtins(capacity.spec.scheduler)
    return found


def written_plan(plan: Plan) -> Object:
    """The plan without what explains it and without its needs, as JSON."""
    options = {role: dict[str, str]() for role in sorted({pod.role for pod in plan.pods})}
    for (role, request), option in plan.options:
        options[role][request] = option
    domains = dict(plan.role_domains)
    return {
        "domain": None if plan.domain is None else list(plan.domain),
        "roles": {
            role: {
                "options": chosen,
                "domain": list(domains[role]) if role in domains else None,
            }
            for role, chosen in options.items()
        },
        "pods": [
            [
                pod.role,
                pod.index,
                pod.node,
                [list(domain) for domain in pod.domains],
                {grant.request: _written_grant(grant) for grant in pod.grants},
            ]
            for pod in plan.pods
        ],
        "cost": plan.cost,
    }


def _written_grant(grant: Grant) -> list[object]:
    pools: dict[str, list[str]] = {}
    for device in grant.devices:
        pools.setdefault(f"{device.driver}|{device.pool}", []).append(device.device)
    return [
        grant.option,
        grant.device_class,
        pools,
        [None if taken is None else [list(one) for one in taken] for taken in grant.consumed],
        grant.admin_access,
    ]


def read_plan(written: Object, gang: Gang) -> Plan:
    """The plan of a ``gang`` as `written_plan` wrote it. RecordError when it is not one."""
    try:
        roles = written["roles"]
        return Plan(
            gang=gang,
            pods=tuple(
                PodPlan(
                    role,
                    index,
                    node,
                    tuple(_read_grant(name, grant) for name, grant in grants.items()),
                    tuple(Domain(*domain) for domain in domains),
                )
                for role, index, node, domains, grants in written["pods"]
            ),
            domain=None if written["domain"] is None else Domain(*written["domain"]),
            role_domains=tuple(
                (role, Domain(*one["domain"])) for role, one in roles.items() if one["domain"]
            ),
            options=tuple(
                ((role, request), option)
                for role, one in roles.items()
                for request, option in one["options"].items()
            ),
            score=(),
            cost=written.get("cost", 0.0),
            evictions=(),
            refusals=(),
            candidates=0,
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise RecordError(f"a recorded plan can't be read: {error!r}") from error


def _read_grant(request: str, written: Sequence[Any]) -> Grant:
    option, device_class, pools, consumed, admin_access = written
    return Grant(
        request=request,
        option=option,
        device_class=device_class,
        devices=tuple(
            DeviceId(driver, pool, device)
            for key, devices in pools.items()
            for driver, _, pool in [key.partition("|")]
            for device in devices
        ),
        consumed=tuple(
            None if one is None else tuple((name, amount) for name, amount in one)
            for one in consumed
        ),
        admin_access=admin_access,
    )


def written_record(record: Record, phase: str) -> Object:
    """An entry of ``status.replicas``; ``phase`` is what people see."""
    where = record.plan.domain
    return {
        "name": record.name,
        "phase": phase,
        "since": timestamp(record.since),
        "domain": "" if where is None else str(where),
        "reason": record.reason,
        "plan": {
            "revision": record.revision,
            "restorable": record.restorable,
            "narrowing": record.narrowing,
            **written_plan(record.plan),
        },
    }


def read_record(written: Object, gang: Gang) -> Record:
    """The record in an entry of ``status.replicas``. RecordError when there is none."""
    try:
        draining = written["phase"] == Phase.DRAINING.value
        return Record(
            name=written["name"],
            revision=written["plan"]["revision"],
            plan=read_plan(written["plan"], gang),
            phase=Phase.DRAINING if draining else Phase.PLACED,
            since=datetime.fromisoformat(written["since"]).timestamp(),
            reason=written.get("reason", ""),
            restorable=bool(written["plan"].get("restorable")),
            narrowing=written["plan"].get("narrowing") or {},
        )
    except (KeyError, TypeError, ValueError) as error:
        raise RecordError(f"a recorded replica can't be read: {error!r}") from error


def timestamp(seconds: float) -> str:
    """Seconds of the epoch as the API server writes times."""
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
