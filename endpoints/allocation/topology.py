"""Which nodes are in one domain, by level.

Domains of a tree are told apart by their whole path from the top, as two racks of different
blocks may have one name.
"""

from typing import NamedTuple

from endpoints.allocation.inventory import Inventory
from endpoints.allocation.levels import Level, Scheme
from endpoints.allocation.nodes import HOSTNAME, Node
from endpoints.allocation.plan import Domain


class Group(NamedTuple):
    """One domain and its nodes, by name in order."""

    domain: Domain
    nodes: tuple[str, ...]


class Topology:
    """An inventory's nodes by domain, for one scheme; looked up anew when labels change."""

    def __init__(self, scheme: Scheme, inventory: Inventory) -> None:
        self.scheme = scheme
        self._inventory = inventory
        self._stamp = -1
        self._groups: dict[str, tuple[Group, ...]] = {}
        self._index: dict[str, dict[str, int]] = {}

    def groups(self, level: str) -> tuple[Group, ...]:
        """The domains of a level, by name. ValueError for a level that there is not."""
        self._look(level)
        return self._groups[self.scheme.level(level).name]

    def place(self, level: str) -> dict[str, int]:
        """For each node that is in a domain of this level, the domain's place in `groups`."""
        self._look(level)
        return self._index[self.scheme.level(level).name]

    def domain_of(self, node: str, level: str) -> Domain | None:
        """The node's domain; None when it has none."""
        place = self.place(level).get(node)
        return None if place is None else self.groups(level)[place].domain

    def domains_of(self, node: str) -> tuple[Domain, ...]:
        """All domains that a node is in, tree by tree, broad to narrow."""
        found = self._inventory.nodes.get(node)
        if found is None:
            return ()
        return tuple(
            _domain(level, found, value)
            for level in self.scheme.levels()
            if (value := level.value(found)) is not None
        )

    def _look(self, name: str) -> None:
        if self._stamp != self._inventory.labels_stamp:
            self._groups, self._index = {}, {}
            self._stamp = self._inventory.labels_stamp
        level = self.scheme.level(name)
        if level.name in self._groups:
            return
        path = self.scheme.path(level.name)
        members: dict[tuple[str | None, ...], list[str]] = {}
        for node in self._inventory.nodes.values():
            if level.value(node) is not None:
                key = tuple(one.value(node) for one in path)
                members.setdefault(key, []).append(node.name)
        groups: list[Group] = []
        index: dict[str, int] = {}
        for key in sorted(members, key=lambda one: tuple(part or "" for part in one[::-1])):
            nodes = tuple(sorted(members[key]))
            domain = _domain(level, self._inventory.nodes[nodes[0]], str(key[-1]))
            for node_name in nodes:
                index[node_name] = len(groups)
            groups.append(Group(domain, nodes))
        self._groups[level.name], self._index[level.name] = tuple(groups), index


def _domain(level: Level, node: Node, value: str) -> Domain:
    """Its label is empty when no one label value selects its nodes."""
    if level.or_host and level.label not in node.labels:
        return Domain(level.name, value, HOSTNAME)
    return Domain(level.name, value, "" if level.prefix else level.label)
