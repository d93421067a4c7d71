"""Which nodes a pod may go to, and what its claims get there: one pod, as the scheduler sees it."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from random import Random
from typing import Any

from bench.cluster.allocating import AbortedError, Result, allocate
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.needs import Toleration
from endpoints.allocation.nodes import Node, read_node_selector
from endpoints.allocation.taints import untolerated


@dataclass(frozen=True, slots=True)
class Placement:
    """A node for a pod, and results for each of its claims, in their order."""

    node: str
    results: tuple[tuple[Result, ...], ...]


def place(
    inventory: Inventory,
    pod_spec: Mapping[str, Any],
    claims: Sequence[Mapping[str, Any]],
    random: Random,
) -> Placement | str:
    """A node where all claims (their ``spec.devices``) can be had, or why there is none.

    Of several, any may be chosen: what the scheduler scores says nothing of devices.
    """
    nodes = [node for node in inventory.nodes.values() if fits(node, pod_spec)]
    refused = len(inventory.nodes) - len(nodes)
    random.shuffle(nodes)
    for node in nodes:
        found = _claims_on(inventory, node.name, claims)
        if isinstance(found, str):
            return found
        if found is not None:
            return Placement(node.name, found)
    total = len(inventory.nodes)
    return (
        f"0/{total} nodes are available: {refused} node(s) didn't match Pod's node "
        f"affinity/selector or had untolerated taints, {total - refused} cannot allocate all claims"
    )


def fits(node: Node, pod_spec: Mapping[str, Any]) -> bool:
    """Whether the pod's selector, affinity and tolerations let it go there."""
    if not node.ready:
        return False
    if any(node.label(key) != value for key, value in pod_spec.get("nodeSelector", {}).items()):
        return False
    affinity = pod_spec.get("affinity", {}).get("nodeAffinity", {})
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution")
    if required is not None and not read_node_selector(required, "affinity").matches(node):
        return False
    return untolerated(node.taints, _tolerations(pod_spec.get("tolerations", ()))) is None


def _claims_on(
    inventory: Inventory, node: str, claims: Iterable[Mapping[str, Any]]
) -> tuple[tuple[Result, ...], ...] | str | None:
    found = []
    for devices in claims:
        try:
            results = allocate(inventory, node, devices)
        except AbortedError as error:
            return f"claim can't be allocated: {error}"
        if results is None:
            return None
        found.append(results)
    return tuple(found)


def _tolerations(written: Iterable[Mapping[str, Any]]) -> list[Toleration]:
    return [
        Toleration(
            one.get("key", ""),
            one.get("operator", "Equal"),
            one.get("value", ""),
            one.get("effect", ""),
        )
        for one in written
    ]
