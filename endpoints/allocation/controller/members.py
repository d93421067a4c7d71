"""What the pods of a replica do, as facts, and how the replica stands by them. Pure."""

from collections.abc import Iterable, Sequence
from enum import Enum

from msgspec import Struct

from endpoints.allocation.emission.identity import Object
from endpoints.allocation.holdings import REPLICA_LABEL, ROLE_LABEL


class Standing(Enum):
    """How far a replica has come, by its least pod.

    MISSING: fewer pods than planned are there. PENDING: some have no node yet. STARTING: all
    have one, some are not ready. READY: all are.
    """

    MISSING = "missing"
    PENDING = "pending"
    STARTING = "starting"
    READY = "ready"


class Member(Struct, frozen=True):
    """One pod. ``said`` is what the scheduler says of a pod without a node.

    ``finished``: it ended, or was evicted, and will not run again. ``leaving``: it is being
    deleted. Both still hold their names. ``claims`` are names of its ResourceClaims.
    """

    name: str
    replica: str
    role: str
    node: str | None = None
    ready: bool = False
    finished: bool = False
    leaving: bool = False
    said: str = ""
    claims: tuple[str, ...] = ()

    @property
    def counts(self) -> bool:
        """Whether it is one of the replica's pods, and not on its way out."""
        return not (self.finished or self.leaving)


def member_of(pod: Object) -> Member:
    """The facts of a pod as the API server has it."""
    metadata, status = pod["metadata"], pod.get("status") or {}
    labels = metadata.get("labels") or {}
    conditions = {one["type"]: one for one in status.get("conditions") or ()}
    scheduled = conditions.get("PodScheduled", {})
    claims = tuple(
        one["resourceClaimName"]
        for one in status.get("resourceClaimStatuses") or ()
        if one.get("resourceClaimName")
    )
    return Member(
        name=metadata["name"],
        replica=labels.get(REPLICA_LABEL, ""),
        role=labels.get(ROLE_LABEL, ""),
        node=(pod.get("spec") or {}).get("nodeName"),
        ready=conditions.get("Ready", {}).get("status") == "True",
        finished=status.get("phase") in {"Failed", "Succeeded"},
        leaving="deletionTimestamp" in metadata,
        said=scheduled.get("message", "") if scheduled.get("status") == "False" else "",
        claims=claims,
    )


def standing_of(members: Iterable[Member], pods: int) -> Standing:
    """How a replica of so many ``pods`` stands."""
    counted = [one for one in members if one.counts]
    if len(counted) < pods:
        return Standing.MISSING
    if any(one.node is None for one in counted):
        return Standing.PENDING
    return Standing.READY if all(one.ready for one in counted) else Standing.STARTING


def by_replica(members: Iterable[Member]) -> dict[str, Sequence[Member]]:
    """The pods by the name of their replica."""
    found: dict[str, list[Member]] = {}
    for one in members:
        found.setdefault(one.replica, []).append(one)
    return dict(found)
