"""One InferenceCapacity as the controller knows it between two passes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from math import inf

from endpoints.allocation.controller.conditions import condition_list, invalid
from endpoints.allocation.controller.course import needed_of
from endpoints.allocation.controller.members import Member, by_replica, member_of
from endpoints.allocation.controller.record import (
    Record,
    RecordError,
    read_record,
    revision_of,
)
from endpoints.allocation.controller.watchdog import Watchdog
from endpoints.allocation.emission.identity import Object, Owner
from endpoints.allocation.manifest import Capacity, ManifestError, capacity_from
from endpoints.allocation.shares import Needs, Stake


@dataclass(slots=True)
class ManagedPool:
    """``item`` is the object as the API server has it. ``capacity`` None: it can't be used.

    Records are read from the status once, at first sight; from then on ours are the truth, as
    the status that a cache holds may be older than what we decided.
    """

    item: Object
    capacity: Capacity | None = None
    revision: str = ""
    problem: str = ""
    records: tuple[Record, ...] = ()
    unreadable: str = ""
    watchdog: Watchdog = field(default_factory=Watchdog)
    pods: Sequence[Object] = ()
    members: Mapping[str, Sequence[Member]] = field(default_factory=dict)
    needs: Needs = field(default_factory=Needs)
    """What its scaler has needed lately."""
    advice: str = ""
    """What could be moved to make room; "" while nothing is missing, or nothing helps."""
    advised: float = -inf
    """When that was last looked for."""
    status: Object | None = None
    """The last one that was written."""

    @classmethod
    def first_seen(cls, item: Object, watchdog: Watchdog) -> "ManagedPool":
        """With the records of its status. Those that can't be read are given up."""
        pool = cls(item, watchdog=watchdog)
        pool.take(item)
        if pool.capacity is not None:
            pool._read_records(pool.capacity)
        return pool

    def take(self, item: Object) -> None:
        """Another version of the object."""
        self.item = item
        try:
            self.capacity = capacity_from(item, f"InferenceCapacity {self.name}")
        except ManifestError as error:
            self.capacity, self.problem = None, str(error)
            return
        self.revision, self.problem = revision_of(self.capacity), ""

    def see(self, pods: Iterable[Object]) -> None:
        """Its pods as they are now."""
        self.pods = tuple(pods)
        self.members = by_replica(member_of(pod) for pod in self.pods)

    def pods_of(self, replica: str) -> list[Object]:
        """The pods of a replica that may still work."""
        names = {one.name for one in self.members.get(replica, ()) if not one.finished}
        return [pod for pod in self.pods if pod["metadata"]["name"] in names]

    def look_at_need(self, now: float) -> None:
        """Remember what it needs now."""
        if self.capacity is not None:
            annotations = self.item["metadata"].get("annotations") or {}
            self.needs.note(needed_of(self.capacity, annotations), now)

    def stake(self, needed: int) -> Stake:
        """What it has, and that it needs so many."""
        least = 0 if self.capacity is None else self.capacity.spec.replicas.min
        return Stake(needed, sum(not one.draining for one in self.records), least)

    @property
    def name(self) -> str:
        """Its name."""
        return str(self.item["metadata"]["name"])

    @property
    def namespace(self) -> str:
        """Its namespace."""
        return str(self.item["metadata"]["namespace"])

    @property
    def uid(self) -> str:
        """Its identity, which a later one of the same name does not have."""
        return str(self.item["metadata"]["uid"])

    @property
    def generation(self) -> int:
        """Which version of its spec it is."""
        return int(self.item["metadata"].get("generation", 0))

    def owner(self) -> Owner:
        """As everything that belongs to it says."""
        assert self.capacity is not None
        return Owner(self.name, self.namespace, self.uid, self.capacity.gang.pool)

    def status_when_invalid(self, reason: str, message: str, now: float) -> Object:
        """The status of a capacity that nothing can be done for; what runs is left alone."""
        before = (self.item.get("status") or {}).get("conditions") or ()
        kept = [one for one in before if one["type"] != "Valid"]
        turned = condition_list([invalid(reason, message)], before, self.generation, now)
        return {"observedGeneration": self.generation, "conditions": [*turned, *kept]}

    def _read_records(self, capacity: Capacity) -> None:
        found = []
        for written in (self.item.get("status") or {}).get("replicas") or ():
            try:
                found.append(read_record(written, capacity.gang))
            except RecordError as error:
                self.unreadable = str(error)
        self.records = tuple(found)
