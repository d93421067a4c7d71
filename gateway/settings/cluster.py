"""Pools, Gateways and pickers of a Kubernetes cluster."""

from typing import Literal

from endpoints.discovery.kubernetes.labels import NODE_LABELS
from endpoints.discovery.kubernetes.pods import LabelRules
from endpoints.discovery.kubernetes.settings import RULE_GROUPS, DiscoverySettings, ServiceSource
from endpoints.kubernetes.connection import ClusterSettings, own_namespace
from gateway.settings.types import NamespacedName, Port, Seconds, Section, Text


class KubernetesService(Section, frozen=True):
    """A headless Service whose endpoints are a pool; ``port``: its number or name, null: all."""

    name: Text
    namespace: Text | None = None
    port: Port | Text | None = None


class KubernetesSettings(Section, frozen=True):
    """Pools from a cluster: which one, and which of its pools."""

    url: Text | None = None
    kubeconfig: Text | None = None
    context: Text | None = None
    token_file: Text | None = None
    ca_file: Text | None = None
    namespaces: tuple[Text, ...] = ()
    pools: tuple[Text, ...] = ()
    picker: Text | None = None
    inference_pools: bool = True
    services: tuple[KubernetesService, ...] = ()
    nodes: bool = True
    pod_labels: tuple[Text, ...] = ()
    node_labels: tuple[Text, ...] = NODE_LABELS
    rule_groups: tuple[Text, ...] = RULE_GROUPS

    def cluster(self) -> ClusterSettings:
        """How to reach its API server."""
        return ClusterSettings(
            self.url, self.kubeconfig, self.context, self.token_file, self.ca_file
        )

    def discovery(self) -> DiscoverySettings:
        """What is looked for there; without namespaces, in the one that we run in."""
        here = own_namespace()
        everywhere = "*" in self.namespaces
        return DiscoverySettings(
            namespaces=() if everywhere else self.namespaces or (here,),
            pools=self.pools,
            picker=self.picker,
            inference_pools=self.inference_pools,
            services=tuple(
                ServiceSource(one.namespace or here, one.name, one.port) for one in self.services
            ),
            nodes=self.nodes,
            labels=LabelRules(self.pod_labels, self.node_labels),
            rule_groups=self.rule_groups,
        )


class GatewayPort(Section, frozen=True):
    """A port that Gateways name, and the one that is listened on instead; 0: any free one."""

    gateway: Port
    listen: Port


class PickerSettings(Section, frozen=True):
    """How other people's endpoint pickers are asked."""

    timeout: Seconds = 10.0
    connect_timeout: Seconds = 1.0
    tls: Literal["off", "unverified"] = "off"


class GatewayApiSettings(Section, frozen=True):
    """Being a Gateway API implementation in the cluster of ``kubernetes``."""

    controller: Text = "inferway.dev/gateway-controller"
    addresses: tuple[Text, ...] = ("127.0.0.1",)
    published: tuple[Text, ...] = ()
    service: NamespacedName | None = None
    ports: tuple[GatewayPort, ...] = ()
    pickers: PickerSettings = PickerSettings()
