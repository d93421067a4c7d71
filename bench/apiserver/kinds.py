"""The table of what the stand-in serves: one line a resource."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Kind:
    """A resource and its versions (the first is preferred; all are the same objects).

    ``status``: it has a status subresource, so that writes to the object leave the status alone
    and the other way round. ``scale``: it has ``/scale`` on ``spec.replicas``.
    """

    group: str
    versions: tuple[str, ...]
    plural: str
    kind: str
    namespaced: bool = True
    status: bool = True
    scale: bool = False

    @property
    def name(self) -> str:
        """As RBAC rules and messages write it."""
        return f"{self.plural}.{self.group}" if self.group else self.plural

    def api_version(self, version: str) -> str:
        """As objects write it."""
        return f"{self.group}/{version}" if self.group else version

    def verbs(self) -> list[str]:
        """What discovery says can be done."""
        return ["create", "delete", "get", "list", "patch", "update", "watch"]


def _cluster(group: str, versions: tuple[str, ...], plural: str, kind: str) -> Kind:
    return Kind(group, versions, plural, kind, namespaced=False)


_DRA: Final = ("v1", "v1beta2", "v1beta1")
_PLAIN: Final = {"status": False}

KINDS: Final[tuple[Kind, ...]] = (
    Kind("", ("v1",), "pods", "Pod"),
    Kind("", ("v1",), "services", "Service"),
    Kind("", ("v1",), "secrets", "Secret", **_PLAIN),
    Kind("", ("v1",), "configmaps", "ConfigMap", **_PLAIN),
    Kind("", ("v1",), "events", "Event", **_PLAIN),
    Kind("", ("v1",), "serviceaccounts", "ServiceAccount", **_PLAIN),
    Kind("", ("v1",), "endpoints", "Endpoints", **_PLAIN),
    _cluster("", ("v1",), "nodes", "Node"),
    _cluster("", ("v1",), "namespaces", "Namespace"),
    Kind("events.k8s.io", ("v1",), "events", "Event", **_PLAIN),
    Kind("discovery.k8s.io", ("v1",), "endpointslices", "EndpointSlice", **_PLAIN),
    Kind("coordination.k8s.io", ("v1",), "leases", "Lease", **_PLAIN),
    Kind("apps", ("v1",), "deployments", "Deployment", scale=True),
    Kind("apps", ("v1",), "replicasets", "ReplicaSet", scale=True),
    Kind("apps", ("v1",), "statefulsets", "StatefulSet", scale=True),
    Kind("apps", ("v1",), "daemonsets", "DaemonSet"),
    Kind("autoscaling", ("v2",), "horizontalpodautoscalers", "HorizontalPodAutoscaler"),
    Kind("policy", ("v1",), "poddisruptionbudgets", "PodDisruptionBudget"),
    _cluster("scheduling.k8s.io", ("v1",), "priorityclasses", "PriorityClass"),
    Kind("scheduling.k8s.io", ("v1alpha2", "v1alpha1"), "workloads", "Workload"),
    Kind("scheduling.k8s.io", ("v1alpha2", "v1alpha1"), "podgroups", "PodGroup"),
    _cluster("resource.k8s.io", _DRA, "deviceclasses", "DeviceClass"),
    _cluster("resource.k8s.io", _DRA, "resourceslices", "ResourceSlice"),
    Kind("resource.k8s.io", _DRA, "resourceclaims", "ResourceClaim"),
    Kind("resource.k8s.io", _DRA, "resourceclaimtemplates", "ResourceClaimTemplate", **_PLAIN),
    _cluster(
        "resource.k8s.io", ("v1", "v1beta2", "v1alpha3"), "devicetaintrules", "DeviceTaintRule"
    ),
    Kind("inference.networking.k8s.io", ("v1",), "inferencepools", "InferencePool"),
    Kind(
        "inference.networking.x-k8s.io", ("v1alpha2",), "inferenceobjectives", "InferenceObjective"
    ),
    Kind(
        "inference.networking.x-k8s.io",
        ("v1alpha2",),
        "inferencemodelrewrites",
        "InferenceModelRewrite",
    ),
    Kind(
        "inference.networking.x-k8s.io",
        ("v1alpha1",),
        "inferencepoolimports",
        "InferencePoolImport",
    ),
    _cluster("gateway.networking.k8s.io", ("v1", "v1beta1"), "gatewayclasses", "GatewayClass"),
    Kind("gateway.networking.k8s.io", ("v1", "v1beta1"), "gateways", "Gateway"),
    Kind("gateway.networking.k8s.io", ("v1", "v1beta1"), "httproutes", "HTTPRoute"),
    Kind("gateway.networking.k8s.io", ("v1",), "grpcroutes", "GRPCRoute"),
    Kind("gateway.networking.k8s.io", ("v1beta1", "v1"), "referencegrants", "ReferenceGrant"),
    Kind("gateway.networking.k8s.io", ("v1", "v1alpha3"), "backendtlspolicies", "BackendTLSPolicy"),
    Kind("leaderworkerset.x-k8s.io", ("v1",), "leaderworkersets", "LeaderWorkerSet", scale=True),
    Kind("scheduling.run.ai", ("v2alpha2",), "podgroups", "PodGroup"),
    _cluster("scheduling.run.ai", ("v2",), "queues", "Queue"),
    _cluster("kai.scheduler", ("v1alpha1",), "topologies", "Topology"),
    _cluster("kueue.x-k8s.io", ("v1beta2", "v1beta1"), "topologies", "Topology"),
    _cluster("grove.io", ("v1alpha1",), "clustertopologybindings", "ClusterTopologyBinding"),
    Kind("grove.io", ("v1alpha1",), "podcliquesets", "PodCliqueSet", scale=True),
    Kind("grove.io", ("v1alpha1",), "podcliques", "PodClique", scale=True),
    Kind(
        "grove.io",
        ("v1alpha1",),
        "podcliquescalinggroups",
        "PodCliqueScalingGroup",
        scale=True,
    ),
    Kind("scheduler.grove.io", ("v1alpha1",), "podgangs", "PodGang"),
    Kind("resource.nvidia.com", ("v1beta1",), "computedomains", "ComputeDomain"),
    Kind("resource.nvidia.com", ("v1beta1",), "computedomaincliques", "ComputeDomainClique"),
    Kind("keda.sh", ("v1alpha1",), "scaledobjects", "ScaledObject"),
    Kind("inferway.dev", ("v1alpha1",), "inferencecapacities", "InferenceCapacity"),
    Kind("inferway.dev", ("v1alpha1",), "inferencescalers", "InferenceScaler"),
    Kind("inferway.dev", ("v1alpha1",), "deviceplans", "DevicePlan"),
)


class Catalogue:
    """Kinds by the paths that they are served under."""

    def __init__(self, kinds: Iterable[Kind] = KINDS) -> None:
        self._kinds: dict[tuple[str, str], Kind] = {}
        for kind in kinds:
            self.add(kind)

    def add(self, kind: Kind) -> None:
        """Serve it from now on, as if its definition had been installed."""
        self._kinds[kind.group, kind.plural] = kind

    def remove(self, group: str, plural: str) -> None:
        """Serve it no more, as if its definition had never been installed."""
        self._kinds.pop((group, plural), None)

    def find(self, group: str, version: str, plural: str) -> Kind | None:
        """The kind at a path; None when there is none."""
        kind = self._kinds.get((group, plural))
        return kind if kind is not None and version in kind.versions else None

    def groups(self) -> dict[str, list[str]]:
        """Every group's versions, the core group as the empty one."""
        found: dict[str, list[str]] = {}
        for kind in self._kinds.values():
            versions = found.setdefault(kind.group, [])
            versions += [one for one in kind.versions if one not in versions]
        return found

    def served(self, group: str, version: str) -> list[Kind]:
        """What one version of a group has."""
        return [
            kind
            for kind in self._kinds.values()
            if kind.group == group and version in kind.versions
        ]
