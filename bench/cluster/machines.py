"""The cluster in virtual time: pods wait, are scheduled with their claims, and leave.

The scheduler looks at what waits every second, oldest first, one pod at a time: it knows no gangs.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from bench.cluster.parts import Object
from bench.cluster.placing import place
from bench.replay.timeline import Timeline
from endpoints.allocation.inventory import Inventory

ROUND_SECONDS: Final = 1.0


@dataclass(slots=True, eq=False)
class Pod:
    """``claims`` are their ``spec.devices``. ``node`` None: it is Pending."""

    name: str
    spec: Object
    claims: Sequence[Object]
    created: float
    node: str | None = None
    scheduled: float | None = None
    gone: float | None = None
    whole: float | None = None
    """When all pods of its group had a node."""
    devices: int = 0
    said: str = ""

    def pending_seconds(self, now: float) -> float:
        """How long it had no node."""
        return _first(self.scheduled, self.gone, now) - self.created

    def device_seconds(self, now: float) -> float:
        """What its devices cost: from allocation to the end, used or not."""
        if self.scheduled is None:
            return 0.0
        return self.devices * (_first(self.gone, now) - self.scheduled)

    def partial_seconds(self, now: float) -> float:
        """What its devices cost while others of its group had none."""
        if self.scheduled is None:
            return 0.0
        return self.devices * (_first(self.whole, self.gone, now) - self.scheduled)


def _first(*times: float | None) -> float:
    """The first that is known."""
    return next(time for time in times if time is not None)


@dataclass(slots=True, eq=False)
class _Group:
    """Pods that are of use only together. ``label``: of which all their nodes have one value."""

    pods: list[Pod]
    scheduled: Callable[[], object]
    label: str | None = None


@dataclass(slots=True)
class Machines:
    """Nodes and devices, and the pods on them. ``inventory`` is what the API server would show."""

    timeline: Timeline
    inventory: Inventory
    random: Random
    pods: list[Pod] = field(default_factory=list)
    """Every pod that there ever was."""
    freed: list[Callable[[], object]] = field(default_factory=list)
    """Called once devices became free."""
    _groups: dict[str, _Group] = field(default_factory=dict)
    _changed: bool = False

    def start(self) -> None:
        """Begin to schedule."""
        self.timeline.at(self.timeline.now + ROUND_SECONDS, self._round)

    def create(
        self,
        group: str,
        pods: Iterable[tuple[str, Object, Sequence[Object]]],
        scheduled: Callable[[], object],
        label: str | None = None,
    ) -> None:
        """Pods (name, spec, claims); ``scheduled`` is called once all of them have a node.

        ``label``: required affinity of the pods to each other, by this label of nodes.
        """
        now = self.timeline.now
        made = [Pod(name, spec, claims, now) for name, spec, claims in pods]
        self.pods += made
        self._groups[group] = _Group(made, scheduled, label)
        self._changed = True

    def delete(self, group: str) -> None:
        """The pods end, and their devices are free."""
        for pod in self._groups.pop(group).pods:
            pod.gone = self.timeline.now
            for number in range(len(pod.claims)):
                self.inventory.remove_claim(f"default/{pod.name}-{number}")
        self._changed = True
        for told in self.freed:
            self.timeline.at(self.timeline.now, told)

    def claims(self, group: str) -> tuple[str, ...]:
        """The names of a group's claims."""
        return tuple(
            f"default/{pod.name}-{number}"
            for pod in self._groups[group].pods
            for number in range(len(pod.claims))
        )

    def schedule(self) -> None:
        """One round of the scheduler, now."""
        self._changed = False
        for group in list(self._groups.values()):
            waiting = [pod for pod in group.pods if pod.node is None]
            if not waiting:
                continue
            for pod in waiting:
                self._try(pod, group)
            if all(pod.node is not None for pod in group.pods):
                for pod in group.pods:
                    pod.whole = self.timeline.now
                group.scheduled()

    def partial_seconds(self) -> float:
        """What devices cost that were held for replicas that never were whole, or not yet."""
        return sum(pod.partial_seconds(self.timeline.now) for pod in self.pods)

    def device_seconds(self) -> float:
        """What all pods' devices have cost so far."""
        return sum(pod.device_seconds(self.timeline.now) for pod in self.pods)

    def _round(self) -> None:
        if self._changed:
            self.schedule()
        self.timeline.at(self.timeline.now + ROUND_SECONDS, self._round)

    def _try(self, pod: Pod, group: _Group) -> None:
        spec = pod.spec
        others = [one.node for one in group.pods if one.node is not None]
        if group.label is not None and others:
            value = self.inventory.nodes[others[0]].label(group.label)
            spec = {**spec, "nodeSelector": {group.label: value}}
        found = place(self.inventory, spec, pod.claims, self.random)
        if isinstance(found, str):
            pod.said = found
            return
        pod.node, pod.scheduled = found.node, self.timeline.now
        for number, results in enumerate(found.results):
            pod.devices += len(results)
            self.inventory.upsert_claim(
                {
                    "metadata": {"name": f"{pod.name}-{number}", "namespace": "default"},
                    "status": {
                        "allocation": {"devices": {"results": [one.written() for one in results]}}
                    },
                }
            )
