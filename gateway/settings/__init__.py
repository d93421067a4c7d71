"""What can be set: typed, frozen sections with their defaults, in seconds and bytes.

A field's constraints and how messages call a right value (`msgspec.Meta`) stand in its type.
docs/configuration.md explains each key; `gateway.config` reads them from a file.
"""

from collections.abc import Iterable

import msgspec

from gateway.settings.admission import AdmissionSettings, BandSettings
from gateway.settings.bodies import ExtProcSettings, ProxySettings
from gateway.settings.clients import (
    AdminSettings,
    CorsSettings,
    ListenSettings,
    LogSettings,
    TlsSettings,
)
from gateway.settings.cluster import (
    GatewayApiSettings,
    GatewayPort,
    KubernetesService,
    KubernetesSettings,
    PickerSettings,
)
from gateway.settings.endpoints import EndpointSettings, KvEventSettings, ProbeSettings
from gateway.settings.routing import (
    BreakerSettings,
    DisaggregationSettings,
    Objective,
    RetryBudgetSettings,
    RoutingSettings,
)
from gateway.settings.scaling import (
    ExternalMetricsSettings,
    KedaSettings,
    PaceSettings,
    ScaledPoolSettings,
    ScaledRoleSettings,
    ScaleTargetSettings,
    ScalingSection,
    WaitingSettings,
)
from gateway.settings.types import (
    Bandwidth,
    Bytes,
    Count,
    CountOrZero,
    ErrorStatus,
    FieldName,
    FieldPattern,
    Fraction,
    Method,
    NamespacedName,
    Origin,
    Port,
    Priority,
    Rate,
    Seconds,
    SecondsOrZero,
    Section,
    Share,
    Text,
    Weight,
)
from routing.fleet import Endpoint

__all__ = [
    "AdminSettings",
    "AdmissionSettings",
    "BandSettings",
    "Bandwidth",
    "BreakerSettings",
    "Bytes",
    "CorsSettings",
    "Count",
    "CountOrZero",
    "DisaggregationSettings",
    "EndpointSettings",
    "ErrorStatus",
    "ExtProcSettings",
    "ExternalMetricsSettings",
    "FieldName",
    "FieldPattern",
    "Fraction",
    "GatewayApiSettings",
    "GatewayPort",
    "KedaSettings",
    "KubernetesService",
    "KubernetesSettings",
    "KvEventSettings",
    "ListenSettings",
    "LogSettings",
    "Method",
    "NamespacedName",
    "Objective",
    "Origin",
    "PaceSettings",
    "PickerSettings",
    "Port",
    "Priority",
    "ProbeSettings",
    "ProxySettings",
    "Rate",
    "RetryBudgetSettings",
    "RoutingSettings",
    "ScaleTargetSettings",
    "ScaledPoolSettings",
    "ScaledRoleSettings",
    "ScalingSection",
    "Seconds",
    "SecondsOrZero",
    "Section",
    "Settings",
    "Share",
    "Text",
    "TlsSettings",
    "WaitingSettings",
    "Weight",
]


class Settings(Section, frozen=True):
    """Everything that can be set; `Settings()` is what an empty mapping means."""

    listen: ListenSettings = ListenSettings()
    extproc: ExtProcSettings | None = None
    admin: AdminSettings = AdminSettings()
    endpoints: tuple[EndpointSettings, ...] = ()
    kubernetes: KubernetesSettings | None = None
    gateway_api: GatewayApiSettings | None = None
    routing: RoutingSettings = RoutingSettings()
    admission: AdmissionSettings | None = None
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
