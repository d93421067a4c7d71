"""Pools whose size follows their traffic."""

from typing import Literal

from endpoints.scaling.policies import DEFAULT as DEFAULT_SCALING_POLICY
from gateway.settings.clients import TlsSettings
from gateway.settings.routing import Objective
from gateway.settings.types import (
    Bytes,
    Count,
    CountOrZero,
    Fraction,
    Port,
    Rate,
    Seconds,
    SecondsOrZero,
    Section,
    Text,
)


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
