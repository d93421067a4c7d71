"""Nodes, and selectors of nodes."""

from collections.abc import Callable, Mapping
from sys import intern
from typing import NamedTuple

from endpoints.allocation.raw import InventoryError, Raw, items, mapping, name_of, texts
from endpoints.allocation.taints import Taint, read_taints

HOSTNAME = "kubernetes.io/hostname"
_CORDONED = Taint("node.kubernetes.io/unschedulable", "", "NoSchedule")


class Node(NamedTuple):
    """What of a node placement needs. A cordon is the taint that Kubernetes makes of it."""

    name: str
    labels: Mapping[str, str]
    taints: tuple[Taint, ...] = ()
    ready: bool = True

    def label(self, key: str) -> str | None:
        """A label's value; the host name falls back to the node's name."""
        value = self.labels.get(key)
        return self.name if value is None and key == HOSTNAME else value


def read_node(item: Raw) -> Node:
    """A core/v1 Node. A node that says nothing of its readiness counts as ready."""
    name = name_of(item)
    spec, status = mapping(item, "spec", "Node"), mapping(item, "status", "Node")
    labels = mapping(mapping(item, "metadata", "Node"), "labels", "Node.metadata")
    taints = read_taints(items(spec, "taints", f"Node {name}.spec"))
    if spec.get("unschedulable") and all(one.key != _CORDONED.key for one in taints):
        taints = (*taints, _CORDONED)
    conditions = items(status, "conditions", f"Node {name}.status")
    said = [one.get("status") for _, one in conditions if one.get("type") == "Ready"]
    kept = {intern(str(key)): str(value) for key, value in labels.items()}
    return Node(name, kept, taints, said in ([], ["True"]))


class NodeSelector(NamedTuple):
    """A core/v1 NodeSelector: any of its terms; each term all of its requirements."""

    terms: tuple[tuple[tuple[bool, str, str, tuple[str, ...]], ...], ...]

    def matches(self, node: Node) -> bool:
        """Whether the node is selected; a term without requirements selects nothing."""
        return any(
            term and all(_holds(node, *requirement) for requirement in term) for term in self.terms
        )


def read_node_selector(item: Raw, at: str) -> NodeSelector:
    """A NodeSelector; of fields only ``metadata.name`` is there to select by."""
    terms = []
    for place, term in items(item, "nodeSelectorTerms", at):
        found = []
        for key in ("matchExpressions", "matchFields"):
            for where, one in items(term, key, place):
                name, operator = str(one.get("key")), str(one.get("operator"))
                if operator not in _OPERATORS:
                    raise InventoryError(f"{where}.operator: {operator!r} is unknown")
                if key == "matchFields" and name != "metadata.name":
                    raise InventoryError(f"{where}.key: {name!r} is no field to select by")
                found.append((key == "matchFields", name, operator, texts(one, "values", where)))
        terms.append(tuple(found))
    return NodeSelector(tuple(terms))


def _holds(node: Node, field: bool, key: str, operator: str, values: tuple[str, ...]) -> bool:
    return _OPERATORS[operator](node.name if field else node.labels.get(key), values)


def _compared(value: str | None, values: tuple[str, ...], sign: int) -> bool:
    try:
        return value is not None and (int(value) - int(values[0])) * sign > 0
    except (ValueError, IndexError):
        return False


_OPERATORS: dict[str, Callable[[str | None, tuple[str, ...]], bool]] = {
    "In": lambda value, values: value is not None and value in values,
    "NotIn": lambda value, values: value is None or value not in values,
    "Exists": lambda value, values: value is not None,
    "DoesNotExist": lambda value, values: value is None,
    "Gt": lambda value, values: _compared(value, values, 1),
    "Lt": lambda value, values: _compared(value, values, -1),
}
