"""InferenceCapacities for tests, and a planner that only counts nodes."""

from collections.abc import Iterable
from typing import Any

from msgspec.structs import replace

from endpoints.allocation.controller.members import Member
from endpoints.allocation.emission.identity import Object
from endpoints.allocation.holdings import Holding
from endpoints.allocation.ledger import Ledger
from endpoints.allocation.manifest import API_VERSION, KIND, Capacity, capacity_from
from endpoints.allocation.needs import Gang
from endpoints.allocation.plan import (
    DeviceId,
    Domain,
    Eviction,
    Feasible,
    Grant,
    NoPlan,
    Plan,
    PodPlan,
)

CONTAINERS: Object = {"spec": {"containers": [{"name": "server", "image": "server:1"}]}}


def document(
    name: str = "llama",
    *,
    namespace: str = "default",
    pods: int = 1,
    count: int = 1,
    template: Object | None = None,
    role: Object | None = None,
    **spec: Any,
) -> Object:
    """A pool of one role, ``server``."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": {
            "poolRef": {"name": f"{name}-pool"},
            "roles": [
                {
                    "name": "server",
                    "pods": pods,
                    "devices": [
                        {"name": "gpu", "deviceClassName": "gpu.nvidia.com", "count": count}
                    ],
                    "template": template or CONTAINERS,
                    **(role or {}),
                }
            ],
            **spec,
        },
    }


def capacity(name: str = "llama", **given: Any) -> Capacity:
    return capacity_from(document(name, **given))


class CountingPlanner:
    """One replica a node; a node is free when nothing is reserved there."""

    def __init__(self, nodes: Iterable[str]) -> None:
        self.nodes = list(nodes)
        self.ledger = Ledger()
        self.idle: dict[str, Eviction] = {}
        """Nodes that an eviction would make free."""

    def plan(self, gang: Gang, now: float, holdings: Iterable[Holding] = ()) -> Plan | NoPlan:
        free = self._free(now)
        if free:
            return self._on(gang, free[0])
        for node, eviction in self.idle.items():
            return replace(self._on(gang, node), evictions=(eviction,))
        return NoPlan(gang, "no node has a free GPU", ())

    def feasible(
        self, gang: Gang, now: float, holdings: Iterable[Holding] = (), most: int = 64
    ) -> Feasible:
        free = min(len(self._free(now)), most)
        return Feasible(free, free + len(self.idle), "no node has a free GPU")

    def advise(self, gang: Gang, now: float, holdings: Iterable[Holding]) -> None:
        """Nothing can be moved."""

    def _free(self, now: float) -> list[str]:
        taken = {pod.node for held in self.ledger.active(now) for pod in held.plan.pods}
        return [node for node in self.nodes if node not in taken]

    @staticmethod
    def _on(gang: Gang, node: str) -> Plan:
        pods = tuple(
            PodPlan(
                role.name,
                index,
                node,
                (
                    Grant(
                        "gpu",
                        "",
                        "gpu.nvidia.com",
                        (DeviceId("gpu.nvidia.com", node, f"gpu-{index}"),),
                    ),
                ),
                (Domain("host", node, "kubernetes.io/hostname"),),
            )
            for role in gang.roles
            for index in range(role.pods)
        )
        return Plan(gang, pods, None, (), (), (), float(len(pods)), (), (), 1)


def member(replica: str, node: str | None = "n1", *, ready: bool = True, **facts: Any) -> Member:
    """The only pod of a replica."""
    return Member(f"{replica}-server-0", replica, "server", node, ready, **facts)
