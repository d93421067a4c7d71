"""What a replay comes to: figures of one run, their medians over seeds, and curves to draw.

Two rules keep policies from looking better by losing requests. A request that got no first token
before the end counts in every time as having waited until then, a lower bound. Goodput is a share
of all requests, so one that did not finish misses it.
"""

from collections.abc import Callable, Iterable, Sequence
from statistics import fmean, median, pstdev

from msgspec import Struct
from msgspec.structs import asdict

from bench.replay.outcome import Replay, RequestOutcome, Sample
from bench.replay.suite import Run

TTFT_OBJECTIVE = 2.0
"""Seconds to the first token that goodput allows."""
TPOT_OBJECTIVE = 0.05
"""Seconds between output tokens that goodput allows, as a request's mean."""

CURVE_POINTS = (*(n / 100 for n in range(100)), 0.992, 0.994, 0.996, 0.998, 1.0)
"""Quantiles of the curve of times to the first token."""
BALANCE_MOMENTS = 80
"""Moments at which the balance over time is told."""


class Figures(Struct, frozen=True):
    """One run. Times in seconds, ratios 0..1; None where nothing was measured.

    - ``goodput``: share of all requests with a TTFT of at most `TTFT_OBJECTIVE` and a TPOT of at
      most `TPOT_OBJECTIVE`, finished;
    - ``hit_ratio``: prompt tokens found in the cache over prompt tokens, of requests that started;
    - ``longest_wait``: the longest time to a first token;
    - ``request_spread``, ``prefill_spread``: coefficient of variation, over the endpoints, of the
      requests and of the computed prompt tokens that each got;
    - ``ttft_error``: mean of abs(predicted - actual) / actual TTFT, where there was a prediction;
    - ``predicted_hit_ratio``: what the router believed to be cached over prompt tokens, and
      ``cached_error``: mean of abs(predicted - actual) cached tokens over the mean prompt;
    - ``decision_us``: microseconds of a decision, prefix matching included.
    """

    requests: int
    completion: float
    ttft_mean: float | None
    ttft_p50: float | None
    ttft_p90: float | None
    ttft_p99: float | None
    tpot_p50: float | None
    tpot_p90: float | None
    tpot_p99: float | None
    goodput: float
    hit_ratio: float | None
    longest_wait: float | None
    request_spread: float | None
    prefill_spread: float | None
    ttft_error: float | None
    predicted_hit_ratio: float | None
    cached_error: float | None
    decision_us: float | None
    wall_seconds: float


class Moment(Struct, frozen=True):
    """Requests on the endpoints (running and waiting) at one moment: fewest, mean and most."""

    at: float
    least: float
    mean: float
    most: float


class Played(Struct, frozen=True):
    """One run with its figures and curves; no figures when it failed, and why."""

    run: Run
    figures: Figures | None
    ttft_curve: tuple[float, ...] = ()
    """TTFT at each of `CURVE_POINTS`."""
    balance: tuple[Moment, ...] = ()
    failure: str | None = None


class Median(Struct, frozen=True):
    """One policy under one setting: each figure's median over the seeds that were played."""

    load: str
    policy: str
    events: bool
    fault: str | None
    seeds: int
    values: dict[str, float | None]
    failures: tuple[str, ...] = ()


def summarise(run: Run, replay: Replay) -> Played:
    """Figures and curves of one replay."""
    waits = sorted(waited(replay))
    return Played(
        run,
        figures(replay, waits),
        tuple(quantile(waits, share) for share in CURVE_POINTS) if waits else (),
        tuple(balance(replay.samples)),
    )


def waited(replay: Replay) -> list[float]:
    """Each request's TTFT; without a first token, how long it had waited when the replay ended."""
    end = ended_at(replay)
    return [
        max(end - one.arrived_at, 0.0) if one.ttft is None else one.ttft for one in replay.requests
    ]


def ended_at(replay: Replay) -> float:
    """The last moment of which the replay tells anything, in seconds of virtual time."""
    last = max((sample.at for sample in replay.samples), default=0.0)
    for one in replay.requests:
        for at in (one.arrived_at, one.first_token_at, one.finished_at):
            if at is not None and at > last:
                last = at
    return last


def figures(replay: Replay, waits: Sequence[float]) -> Figures:
    """The figures of one replay; ``waits`` are its times to the first token, ascending."""
    requests = replay.requests
    count = len(requests)
    tpots = sorted(one.tpot for one in requests if one.tpot is not None)
    started = [one for one in requests if one.first_token_at is not None]
    prompt_tokens = sum(one.prompt_tokens for one in started)
    cached = sum(one.cached for one in started)
    predicted = sum(one.predicted_cached for one in started)
    off = sum(abs(one.predicted_cached - one.cached) for one in started)
    errors = [
        abs(one.predicted_ttft - one.ttft) / one.ttft
        for one in started
        if one.predicted_ttft is not None and one.ttft
    ]
    return Figures(
        requests=count,
        completion=sum(one.finished_at is not None for one in requests) / count if count else 0.0,
        ttft_mean=fmean(waits) if waits else None,
        ttft_p50=_quantile(waits, 0.5),
        ttft_p90=_quantile(waits, 0.9),
        ttft_p99=_quantile(waits, 0.99),
        tpot_p50=_quantile(tpots, 0.5),
        tpot_p90=_quantile(tpots, 0.9),
        tpot_p99=_quantile(tpots, 0.99),
        goodput=sum(map(is_good, requests)) / count if count else 0.0,
        hit_ratio=cached / prompt_tokens if prompt_tokens else None,
        longest_wait=waits[-1] if waits else None,
        request_spread=spread(replay.endpoints, requests, lambda _one: 1.0),
        prefill_spread=spread(
            replay.endpoints, started, lambda one: float(one.prompt_tokens - one.cached)
        ),
        ttft_error=fmean(errors) if errors else None,
        predicted_hit_ratio=predicted / prompt_tokens if prompt_tokens else None,
        cached_error=off / prompt_tokens if prompt_tokens else None,
        decision_us=replay.decision_seconds / count * 1e6 if count else None,
        wall_seconds=replay.wall_seconds,
    )


def is_good(one: RequestOutcome) -> bool:
    """Whether a request finished and met both objectives; a single token has no TPOT to miss."""
    ttft, tpot = one.ttft, one.tpot
    return (
        one.finished_at is not None
        and ttft is not None
        and ttft <= TTFT_OBJECTIVE
        and (tpot is None or tpot <= TPOT_OBJECTIVE)
    )


def spread(
    endpoints: int,
    requests: Iterable[RequestOutcome],
    weight: Callable[[RequestOutcome], float],
) -> float | None:
    """Standard deviation over mean of the endpoints' sums; None when all are 0."""
    sums = [0.0] * endpoints
    for one in requests:
        if 0 <= one.endpoint < endpoints:
            sums[one.endpoint] += weight(one)
    mean = fmean(sums) if sums else 0.0
    return pstdev(sums) / mean if mean else None


def balance(samples: Sequence[Sample]) -> list[Moment]:
    """The spread of requests over endpoints through time, in `BALANCE_MOMENTS` equal spans."""
    if not samples:
        return []
    start = min(sample.at for sample in samples)
    length = max(sample.at for sample in samples) - start
    spans: dict[int, dict[int, list[int]]] = {}
    for sample in samples:
        share = (sample.at - start) / length if length else 0.0
        span = spans.setdefault(min(int(share * BALANCE_MOMENTS), BALANCE_MOMENTS - 1), {})
        span.setdefault(sample.endpoint, []).append(sample.running + sample.waiting)
    moments = []
    for number, span in sorted(spans.items()):
        loads = [fmean(counts) for counts in span.values()]
        at = start + length * (number + 0.5) / BALANCE_MOMENTS
        moments.append(Moment(at, min(loads), fmean(loads), max(loads)))
    return moments


def quantile(ascending: Sequence[float], share: float) -> float:
    """The value at ``share`` (0..1) of ascending values, interpolated (Hyndman and Fan, type 7)."""
    place = share * (len(ascending) - 1)
    below = int(place)
    above = min(below + 1, len(ascending) - 1)
    return ascending[below] + (ascending[above] - ascending[below]) * (place - below)


def _quantile(ascending: Sequence[float], share: float) -> float | None:
    return quantile(ascending, share) if ascending else None


def medians(played: Iterable[Played]) -> list[Median]:
    """Over the seeds, in the order in which settings first appear."""
    groups: dict[tuple[str, str, bool, str | None], list[Played]] = {}
    for one in played:
        run = one.run
        groups.setdefault((run.load.name, run.policy, run.events, run.fault), []).append(one)
    return [
        Median(
            *setting,
            seeds=sum(one.figures is not None for one in group),
            values=_medians([one.figures for one in group if one.figures is not None]),
            failures=tuple(one.failure for one in group if one.failure is not None),
        )
        for setting, group in groups.items()
    ]


def _medians(rows: Sequence[Figures]) -> dict[str, float | None]:
    dicts = [asdict(row) for row in rows]
    values: dict[str, float | None] = {}
    for name in Figures.__struct_fields__:
        measured = [row[name] for row in dicts if row[name] is not None]
        values[name] = median(measured) if measured else None
    return values
