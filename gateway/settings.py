"""What can be set: typed, frozen sections with their defaults, in seconds and bytes.

A field's constraints and how messages call a right value (`msgspec.Meta`) stand in its type.
docs/configuration.md explains each key; `gateway.config` reads them from a file.
"""

from collections.abc import Iterable
from typing import Annotated, Literal, TypeAlias

import msgspec

from endpoints.discovery.kubernetes.labels import NODE_LABELS
from endpoints.discovery.kubernetes.pods import LabelRules
from endpoints.discovery.kubernetes.settings import (
    RULE_GROUPS,
    DiscoverySettings,
    ServiceSource,
)
from endpoints.discovery.static import endpoint_from_url
from endpoints.events import EventSettings
from endpoints.kubernetes.connection import ClusterSettings, own_namespace
from endpoints.scaling.policies import DEFAULT as DEFAULT_SCALING_POLICY
from routing.disaggregation import DisaggregationSettings as Splitting
from routing.fleet import Endpoint
from routing.policies import DEFAULT_POLICY
from routing.transfer import Link

_DAY = 86_400.0

Text: TypeAlias = Annotated[str, msgspec.Meta(min_length=1, description="non-empty text")]
Port: TypeAlias = Annotated[
    int, msgspec.Meta(ge=0, le=65_535, description="a port, 0 (any free one) to 65535")
]
Seconds: TypeAlias = Annotated[
    float, msgspec.Meta(gt=0, le=_DAY, description="seconds, above 0 and at most 86400")
]
SecondsOrZero: TypeAlias = Annotated[
    float, msgspec.Meta(ge=0, le=_DAY, description="seconds, 0 to 86400")
]
Bytes: TypeAlias = Annotated[
    int, msgspec.Meta(ge=1024, le=1 << 40, description="a whole number of bytes, at least 1024")
]
Count: TypeAlias = Annotated[
    int, msgspec.Meta(ge=1, le=1_000_000_000, description="a whole number, at least 1")
]
CountOrZero: TypeAlias = Annotated[
    int, msgspec.Meta(ge=0, le=1_000_000_000, description="a whole number, at least 0")
]

Fraction: TypeAlias = Annotated[
    float, msgspec.Meta(ge=0, le=1, description="a fraction, from 0 to 1")
]
Rate: TypeAlias = Annotated[
    float, msgspec.Meta(ge=0, le=1e6, description="a rate per second, at least 0")
]
Share: TypeAlias = Annotated[
    float, msgspec.Meta(gt=0, le=1, description="a share, above 0 and at most 1")
]
Weight: TypeAlias = Annotated[
    float, msgspec.Meta(gt=0, le=1000, description="a factor, above 0 and at most 1000")
]
Bandwidth: TypeAlias = Annotated[
    float, msgspec.Meta(gt=0, le=1e15, description="bytes a second, above 0")
]
ErrorStatus: TypeAlias = Annotated[
    int, msgspec.Meta(ge=400, le=599, description="a status of an error, 400 to 599")
]
Origin: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^(\*|[a-z][a-z0-9+.-]*://[^/\sA-Z*,?#@]+)$",
        description="an origin as browsers send it, such as https://chat.example.com, or *",
    ),
]
FieldName: TypeAlias = Annotated[
    str, msgspec.Meta(pattern="^[A-Za-z0-9_-]+$", description="the name of a header field")
]
FieldPattern: TypeAlias = Annotated[
    str,
    msgspec.Meta(
        pattern=r"^[A-Za-z0-9_-]+\*?$",
        description="the name of a header field, or how names begin and a *",
    ),
]
Method: TypeAlias = Annotated[
    str, msgspec.Meta(pattern="^[A-Z]+$", description="a method in capitals, such as GET")
]


NamespacedName: TypeAlias = Annotated[
    str, msgspec.Meta(pattern="^[a-z0-9.-]+/[a-z0-9.-]+$", description="namespace/name")
]


class Section(msgspec.Struct, frozen=True, forbid_unknown_fields=True, kw_only=True):
    """A part of the settings. What is built in code, not from a file, is not checked."""


class TlsSettings(Section, frozen=True):
    """TLS towards clients, from PEM files; ``client_ca`` makes client certificates required."""

    certificate: Text
    key: Text
    client_ca: Text | None = None
    min_version: Literal["1.2", "1.3"] = "1.2"


class ListenSettings(Section, frozen=True):
    """Where clients connect."""

    host: Text = "127.0.0.1"
    port: Port = 8080
    tls: TlsSettings | None = None


class CorsSettings(Section, frozen=True):
    """Which pages of other origins may call, and with what; no origins: none may."""

    origins: tuple[Origin, ...] = ()
    methods: tuple[Method, ...] = ("GET", "POST", "OPTIONS")
    headers: tuple[FieldPattern, ...] = (
        "authorization",
        "content-type",
        "x-request-id",
        "x-api-key",
        "anthropic-*",
        "openai-*",
        "x-stainless-*",
    )
    expose: tuple[FieldName, ...] = ("x-request-id", "x-inferway-endpoint")
    max_age: CountOrZero = 600
    credentials: bool = False


class AdminSettings(Section, frozen=True):
    """Where operators connect."""

    host: Text = "127.0.0.1"
    port: Port = 9090


class EndpointSettings(Section, frozen=True):
    """One model server; None leaves it to what discovery and probes find out."""

    url: Text
    name: Text | None = None
    engine: Text | None = None
    models: tuple[Text, ...] | None = None
    cache_tokens: Count | None = None
    labels: dict[str, str] = {}

    def endpoint(self) -> Endpoint:
        """The endpoint of these facts; ValueError says which one can't be."""
        return endpoint_from_url(
            self.url,
            name=self.name,
            engine=self.engine,
            models=self.models,
            cache_tokens=self.cache_tokens,
            labels=tuple(self.labels.items()),
        )


class RetryBudgetSettings(Section, frozen=True):
    """How many retries there may be, so that an outage is not multiplied."""

    fraction: Fraction = 0.2
    minimum_per_second: Rate = 3.0


class BreakerSettings(Section, frozen=True):
    """When an endpoint that keeps failing is left alone, and for how long."""

    failures: Count = 5
    open_seconds: Seconds = 1.0
    max_open_seconds: Seconds = 30.0


class Objective(Section, frozen=True):
    """How soon a first token and how soon each further one should come."""

    ttft: Seconds = 2.0
    itl: Seconds = 0.050


class DisaggregationSettings(Section, frozen=True):
    """When one endpoint computes a prompt for another; see `routing.disaggregation`."""

    mode: Literal["adaptive", "always", "never", "threshold", "dynamo"] = "adaptive"
    bytes_per_token: Count = 131_072
    model_bytes_per_token: dict[Text, Count] = {}
    bandwidth: Bandwidth = 12.5e9
    links: dict[Text, Bandwidth] = {}
    latency: Annotated[float, msgspec.Meta(ge=0, le=60, description="seconds, from 0 to 60")] = (
        0.010
    )
    threshold_tokens: CountOrZero = 512
    dynamo_local_tokens: CountOrZero = 1_000
    dynamo_queue: CountOrZero = 2
    fewest_tokens: CountOrZero = 256
    least_gain: Annotated[
        float, msgspec.Meta(ge=-1, lt=1, description="a share, from -1 to 1")
    ] = -0.02
    pace_share: Weight = 1.0
    stall_share: Weight = 2.0
    busy_seconds: Seconds = 10.0
    most_prefill_wait: Weight = 2.0
    most_kv_usage: Share = 0.9
    most_stranded: Fraction = 0.2

    def decision(self) -> Splitting:
        """The same for whoever decides."""
        return Splitting(
            mode=self.mode,
            bytes_per_token=float(self.bytes_per_token),
            model_bytes_per_token={
                model: float(size) for model, size in self.model_bytes_per_token.items()
            },
            bandwidth=self.bandwidth,
            latency=self.latency,
            links=tuple(Link(label, speed) for label, speed in self.links.items()),
            threshold_tokens=float(self.threshold_tokens),
            dynamo_local_tokens=float(self.dynamo_local_tokens),
            dynamo_queue=self.dynamo_queue,
            fewest_tokens=float(self.fewest_tokens),
            least_gain=self.least_gain,
            pace_share=self.pace_share,
            stall_share=self.stall_share,
            busy_seconds=self.busy_seconds,
            most_prefill_wait=self.most_prefill_wait,
            most_kv_usage=self.most_kv_usage,
            most_stranded=self.most_stranded,
        )


class RoutingSettings(Section, frozen=True):
    """How endpoints are chosen."""

    policy: Text = DEFAULT_POLICY
    index_bytes: Bytes = 268_435_456
    default_cache_tokens: Count = 500_000
    max_requests_per_endpoint: Count | None = None
    fallbacks: CountOrZero = 3
    receipts: Count = 1_000
    receipt_sample: Fraction = 1.0
    objective: Objective = Objective()
    objectives: dict[Text, Objective] = {}
    retry_budget: RetryBudgetSettings = RetryBudgetSettings()
    breaker: BreakerSettings = BreakerSettings()
    disaggregation: DisaggregationSettings = DisaggregationSettings()


class KvEventSettings(Section, frozen=True):
    """Where engines publish what their caches hold; see `endpoints.events.EventSettings`."""

    address: Text = "tcp://{host}:5557"
    replay_address: Text | None = None
    topic: str = ""
    ranks: Count = 1
    after_loss: Literal["keep", "clear"] = "keep"
    silent_after: Seconds = 60.0
    view_bytes: Bytes = 268_435_456

    def events(self) -> EventSettings:
        """The same for whoever follows them; ValueError names an address that is none."""
        return EventSettings(
            address=self.address,
            replay_address=self.replay_address,
            topic=self.topic,
            ranks=self.ranks,
            after_loss=self.after_loss,
            silent_after=self.silent_after,
            view_bytes=self.view_bytes,
        )


class ProbeSettings(Section, frozen=True):
    """How endpoints are watched."""

    interval: Seconds = 0.5
    timeout: Seconds = 2.0
    models_interval: Seconds = 10.0
    unhealthy_after: Count = 2
    healthy_after: Count = 1


class ProxySettings(Section, frozen=True):
    """Limits and time-outs of the data plane."""

    max_body_bytes: Bytes = 67_108_864
    max_json_depth: Count | None = None
    max_header_bytes: Bytes = 65_536
    max_headers: Count = 100
    max_connections: Count = 20_000
    max_concurrent_requests: Count = 20_000
    connect_timeout: Seconds = 2.0
    first_byte_timeout: Seconds = 600.0
    idle_timeout: Seconds = 300.0
    request_timeout: Seconds = 3600.0
    keepalive_timeout: Seconds = 75.0
    header_timeout: Seconds = 20.0
    body_timeout: Seconds = 60.0
    drain_seconds: Seconds = 30.0
    max_idle_upstream: CountOrZero = 256
    upstream_idle_timeout: Seconds = 4.0
    upstream_ca_file: Text | None = None
    upstream_verify: bool = True
    retry_statuses: tuple[ErrorStatus, ...] = (429, 502, 503, 504)
    prefill_patience: Annotated[
        float, msgspec.Meta(ge=1, le=1000, description="a factor, from 1 to 1000")
    ] = 4.0
    prefill_grace: Seconds = 1.0
    prefill_retries: CountOrZero = 1
    internal_fields: Literal["strip", "refuse"] = "strip"
    forwarded: Literal["append", "replace", "off"] = "append"


class ExtProcSettings(Section, frozen=True):
    """The external processor that Envoy asks; see `gateway.extproc`."""

    host: Text = "127.0.0.1"
    port: Port = 9002
    alone: bool = False
    tls: TlsSettings | None = None
    self_signed: bool = False
    pool: Text = "default"
    picker_config: Text | None = None
    fallbacks: CountOrZero = 3
    learn: Fraction = 0.0
    rewrites: dict[Text, dict[Text, Count]] = {}
    test_selection: bool = False
    max_body_bytes: Bytes = 67_108_864
    max_held_bytes: Bytes = 1_073_741_824
    max_message_bytes: Bytes = 68_157_440
    max_header_bytes: Bytes = 65_536
    max_connections: Count = 1_000
    max_streams: Count = 10_000
    max_concurrent_requests: Count = 20_000
    stall_timeout: Seconds = 30.0
    drain_seconds: Seconds = 30.0


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


class LogSettings(Section, frozen=True):
    """What is written about it all."""

    format: Literal["console", "json"] = "console"
    level: Literal["debug", "info", "warning", "error"] = "info"
    access: bool = True
    traffic: Text | None = None
    traffic_bytes: Bytes = 268_435_456


class ScaleTargetSettings(Section, frozen=True):
    """What Kubernetes object has the number of replicas; see `endpoints.scaling.actuators`."""

    name: Text
    kind: Text = "Deployment"
    api_version: Text = "apps/v1"
    namespace: Text | None = None


class ScaledRoleSettings(Section, frozen=True):
    """One role of a pool: how many replicas, and where; ``target`` or ``command``, not both."""

    target: ScaleTargetSettings | None = None
    command: tuple[Text, ...] | None = None
    min: CountOrZero = 1
    max: Count = 10
    cost: Count = 1


class PaceSettings(Section, frozen=True):
    """How fast one direction may go; see `endpoints.scaling.settings.Pace`."""

    percent: Rate
    replicas: CountOrZero
    period: Seconds
    window: SecondsOrZero = 0.0
    reversal: SecondsOrZero = 0.0


class WaitingSettings(Section, frozen=True):
    """How many requests wait for a pool without endpoints, with what bodies, and for how long."""

    max_requests: Count = 1_000
    max_bytes: Bytes = 268_435_456
    patience: Seconds = 300.0


class ScaledPoolSettings(Section, frozen=True):
    """One pool whose size follows its traffic; see `endpoints.scaling.settings`."""

    roles: dict[Literal["both", "prefill", "decode"], ScaledRoleSettings]
    policy: Text = DEFAULT_SCALING_POLICY
    models: tuple[Text, ...] = ()
    objective: Objective | None = None
    percentile: Fraction = 0.9
    budget: Count | None = None
    interval: Seconds = 15.0
    startup: Seconds = 120.0
    utilisation: Fraction = 0.8
    up: PaceSettings = PaceSettings(percent=100.0, replicas=4, period=15.0)
    down: PaceSettings = PaceSettings(
        percent=25.0, replicas=1, period=60.0, window=300.0, reversal=120.0
    )
    idle: Seconds | None = None
    edit_hold: SecondsOrZero = 600.0
    grace: Seconds = 60.0
    dry_run: bool = False
    waiting: WaitingSettings = WaitingSettings()


class ExternalMetricsSettings(Section, frozen=True):
    """Where Kubernetes asks for our numbers (``external.metrics.k8s.io``), always over TLS.

    Without ``tls`` with a certificate that nobody vouches for. ``anonymous``: anybody may ask.
    """

    host: Text = "127.0.0.1"
    port: Port = 6443
    tls: TlsSettings | None = None
    anonymous: bool = False


class KedaSettings(Section, frozen=True):
    """Where KEDA asks for our numbers (an external scaler over gRPC)."""

    host: Text = "127.0.0.1"
    port: Port = 9004
    tls: TlsSettings | None = None


class ScalingSection(Section, frozen=True):
    """Pools whose size follows their traffic, and to whom the wanted sizes are told.

    ``kubeconfig``: how to reach the cluster; None: the one that we run in. ``lease`` and
    ``namespace`` name what decides which of several gateways acts. ``most_starting``: endpoints
    that start at once, of all pools together; None: no bound.
    """

    pools: dict[Text, ScaledPoolSettings] = {}
    most_starting: Count | None = None
    kubeconfig: Text | None = None
    namespace: Text | None = None
    lease: Text = "inferway-scaler"
    external_metrics: ExternalMetricsSettings | None = None
    keda: KedaSettings | None = None


class Settings(Section, frozen=True):
    """Everything that can be set; `Settings()` is what an empty mapping means."""

    listen: ListenSettings = ListenSettings()
    extproc: ExtProcSettings | None = None
    admin: AdminSettings = AdminSettings()
    endpoints: tuple[EndpointSettings, ...] = ()
    kubernetes: KubernetesSettings | None = None
    gateway_api: GatewayApiSettings | None = None
    routing: RoutingSettings = RoutingSettings()
    kv_events: KvEventSettings | None = None
    tokenizers: dict[Text, Text] = {}
    tokenizing_deadline: Seconds = 0.1
    probes: ProbeSettings = ProbeSettings()
    proxy: ProxySettings = ProxySettings()
    cors: CorsSettings = CorsSettings()
    scaling: ScalingSection | None = None
    log: LogSettings = LogSettings()

    def fleet_endpoints(self) -> tuple[Endpoint, ...]:
        """The endpoints as discovery knows them; ValueError for one that can't be."""
        return tuple(settings.endpoint() for settings in self.endpoints)

    def with_endpoints(self, urls: Iterable[str]) -> "Settings":
        """The same with these endpoints instead, about which nothing is known but the URL."""
        return msgspec.structs.replace(
            self, endpoints=tuple(EndpointSettings(url=url) for url in urls)
        )
