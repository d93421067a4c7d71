"""One pool's endpoints, kept up to date pod by pod: a change costs what it changes. Pure."""

from collections.abc import Iterable, Mapping

from endpoints.discovery.kubernetes.labels import narrowed
from endpoints.discovery.kubernetes.pods import LabelRules, endpoints_of, node_of
from endpoints.discovery.kubernetes.pools import PoolSpec
from endpoints.kubernetes.resources import Key, Object
from routing.endpoint import Endpoint

_NOTHING: Mapping[str, str] = {}


class NodePlaces:
    """What nodes' labels say of where they are."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._patterns = tuple(patterns)
        self._labels: dict[str, Mapping[str, str]] = {}

    def of(self, node: str) -> Mapping[str, str]:
        """The labels that tell; empty for a node that is not known."""
        return self._labels.get(node, _NOTHING)

    def update(self, keys: Iterable[Key], nodes: Mapping[Key, Object]) -> frozenset[str]:
        """Read those nodes again; the names of the ones that say something else now.

        Nodes report every few seconds that they are alive, which says nothing new here.
        """
        changed = set()
        for key in keys:
            name = key[1]
            node = nodes.get(key)
            said = narrowed((node["metadata"].get("labels") or {}) if node else {}, self._patterns)
            if said != self._labels.get(name, _NOTHING):
                changed.add(name)
                if said:
                    self._labels[name] = said
                else:
                    self._labels.pop(name, None)
        return frozenset(changed)


class PoolMembers:
    """The endpoints of one pool's pods."""

    def __init__(self, spec: PoolSpec, rules: LabelRules, places: NodePlaces) -> None:
        self.spec = spec
        self._rules = rules
        self._places = places
        self._of_pod: dict[Key, tuple[Endpoint, ...]] = {}
        self._on_node: dict[str, set[Key]] = {}
        self._node_of: dict[Key, str] = {}

    @property
    def endpoints(self) -> tuple[Endpoint, ...]:
        """All of them, in the order of their pods' names."""
        return tuple(endpoint for key in sorted(self._of_pod) for endpoint in self._of_pod[key])

    def pods_changed(self, keys: Iterable[Key], pods: Mapping[Key, Object]) -> bool:
        """Read those pods again; whether the endpoints are others now."""
        changed = False
        for key in keys:
            changed |= self._read(key, pods.get(key))
        return changed

    def nodes_changed(self, names: Iterable[str], pods: Mapping[Key, Object]) -> bool:
        """Read the pods on those nodes again; whether the endpoints are others now."""
        keys = {key for name in names for key in self._on_node.get(name, ())}
        return self.pods_changed(keys, pods)

    def _read(self, key: Key, pod: Object | None) -> bool:
        before = self._of_pod.get(key, ())
        node = node_of(pod) if pod is not None else ""
        self._move(key, node)
        after: tuple[Endpoint, ...] = ()
        if pod is not None:
            after = endpoints_of(pod, self.spec.ports, self._places.of(node), self._rules)
        if after == before:
            return False
        if after:
            self._of_pod[key] = after
        else:
            del self._of_pod[key]
        return True

    def _move(self, key: Key, node: str) -> None:
        was = self._node_of.get(key, "")
        if was == node:
            return
        if was:
            self._on_node[was].discard(key)
            if not self._on_node[was]:
                del self._on_node[was]
            del self._node_of[key]
        if node:
            self._on_node.setdefault(node, set()).add(key)
            self._node_of[key] = node
