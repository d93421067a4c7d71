"""What a run of the demo comes to."""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, quantiles

from rich.console import JustifyMethod
from rich.table import Table

from bench.demo.driver import Outcome


@dataclass(frozen=True, slots=True)
class Summary:
    """One policy's figures: times in seconds, ratios 0..1; None when nothing was measured."""

    policy: str
    requests: int
    failures: int
    ttft_mean: float | None
    ttft_p50: float | None
    ttft_p90: float | None
    ttft_p99: float | None
    hit_ratio: float | None
    busiest_share: float | None
    """Share of all requests that the busiest endpoint answered."""


def summarise(policy: str, outcomes: Sequence[Outcome], time_scale: float) -> Summary:
    """Figures of one run, its times brought back to the recorded speed by ``time_scale``."""
    good = [outcome for outcome in outcomes if not outcome.failure]
    times = [outcome.ttft / time_scale for outcome in good if outcome.ttft is not None]
    cuts = quantiles(times, n=100, method="inclusive") if len(times) > 1 else None
    prompt_tokens = sum(outcome.prompt_tokens for outcome in good)
    cached_tokens = sum(outcome.cached_tokens for outcome in good)
    by_endpoint = Counter(outcome.endpoint for outcome in good)
    return Summary(
        policy=policy,
        requests=len(outcomes),
        failures=len(outcomes) - len(good),
        ttft_mean=fmean(times) if times else None,
        ttft_p50=cuts[49] if cuts else None,
        ttft_p90=cuts[89] if cuts else None,
        ttft_p99=cuts[98] if cuts else None,
        hit_ratio=cached_tokens / prompt_tokens if prompt_tokens else None,
        busiest_share=max(by_endpoint.values()) / len(good) if good else None,
    )


def table(summaries: Sequence[Summary]) -> Table:
    """The summaries side by side."""
    result = Table(title="time to first token (s, at the recorded speed)")
    for heading in ("policy", "mean", "p50", "p90", "p99", "hits", "busiest", "failures"):
        justify: JustifyMethod = "left" if heading == "policy" else "right"
        result.add_column(heading, justify=justify, no_wrap=True)
    for summary in summaries:
        result.add_row(
            summary.policy,
            _seconds(summary.ttft_mean),
            _seconds(summary.ttft_p50),
            _seconds(summary.ttft_p90),
            _seconds(summary.ttft_p99),
            _share(summary.hit_ratio),
            _share(summary.busiest_share),
            f"{summary.failures} of {summary.requests}",
        )
    return result


def _seconds(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
