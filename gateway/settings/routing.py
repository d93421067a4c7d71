"""How endpoints are chosen."""

from typing import Annotated, Literal

import msgspec

from gateway.settings.types import (
    Bandwidth,
    Bytes,
    Count,
    CountOrZero,
    Fraction,
    Priority,
    Rate,
    Seconds,
    SecondsOrZero,
    Section,
    Share,
    Text,
    Weight,
)
from routing.disaggregation import DisaggregationSettings as Splitting
from routing.policies import DEFAULT_POLICY
from routing.transfer import Link


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
    """How soon a first token and how soon each further one should come, and who goes first."""

    ttft: Seconds = 2.0
    itl: Seconds = 0.050
    priority: Priority = 0


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
    pace_share: Weight = 2.0
    stall_share: Weight = 2.0
    miss_share: Weight = 1.0
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
            miss_share=self.miss_share,
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
    receipt_reach: SecondsOrZero = 10.0
    objective: Objective = Objective()
    objectives: dict[Text, Objective] = {}
    retry_budget: RetryBudgetSettings = RetryBudgetSettings()
    breaker: BreakerSettings = BreakerSettings()
    disaggregation: DisaggregationSettings = DisaggregationSettings()
