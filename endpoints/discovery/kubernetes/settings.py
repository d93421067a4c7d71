"""Which pools of a cluster are served, and what is read beside them."""

from dataclasses import dataclass, field
from typing import Final

from endpoints.discovery.kubernetes.pods import LabelRules
from endpoints.discovery.kubernetes.pools import PoolSpec
from endpoints.kubernetes.cache import CacheSettings
from endpoints.kubernetes.resources import Resource

RULE_GROUPS: Final = ("inference.networking.x-k8s.io/v1alpha2", "llm-d.ai/v1alpha2")
"""Groups and versions that objectives and rewrites may be in; those that a cluster lacks are
looked for again from time to time."""


@dataclass(frozen=True, slots=True)
class ServiceSource:
    """A headless Service whose endpoints are a pool; ``port`` by number or name, None: all."""

    namespace: str
    name: str
    port: int | str | None = None

    @property
    def spec(self) -> PoolSpec:
        """The pool that it stands for."""
        return PoolSpec(self.namespace, self.name, source="Service")


@dataclass(frozen=True, slots=True)
class DiscoverySettings:
    """``namespaces`` to look in; empty: all. ``pools`` by name; empty: all that there are.

    ``picker``: serve only pools whose ``endpointPickerRef`` names this Service, or that name none.
    ``inference_pools`` False: only ``services``. ``nodes``: whether nodes are read for topology.
    """

    namespaces: tuple[str, ...] = ()
    pools: tuple[str, ...] = ()
    picker: str | None = None
    inference_pools: bool = True
    services: tuple[ServiceSource, ...] = ()
    nodes: bool = True
    labels: LabelRules = field(default_factory=LabelRules)
    rule_groups: tuple[str, ...] = RULE_GROUPS
    cache: CacheSettings = field(default_factory=CacheSettings)

    def wants(self, spec: PoolSpec) -> bool:
        """Whether this pool is ours to serve."""
        if self.pools and spec.name not in self.pools:
            return False
        return self.picker is None or spec.picker is None or spec.picker.name == self.picker

    def resources(self, plural: str, kind: str) -> tuple[Resource, ...]:
        """One kind of rules, in every group that it may be in."""
        found = []
        for one in self.rule_groups:
            group, _, version = one.partition("/")
            found.append(Resource(group, version, plural, kind))
        return tuple(found)
