"""What a play comes to: attainment, cost, failures, oscillations; and curves to draw."""

from collections.abc import Sequence
from itertools import pairwise

from msgspec import Struct

from bench.replay.flight import Flight
from bench.scaling.simulation import Played
from endpoints.scaling.settings import Objective
from endpoints.scaling.windows import quantile


class Figures(Struct, frozen=True):
    """One policy on one pattern. Shares 0..1, times in seconds.

    - ``attainment``: share of all requests that finished with a first token within the objective
      and a mean time per further token within it; failed ones miss it;
    - ``endpoint_hours``: paid, from an endpoint's start (ready or not) to its end, up to the last
      arrival; ``goodput_per_hour``: requests that attained, for each of them;
    - ``failed``: requests that got no complete answer: refused, held too long, or unfinished;
    - ``turns``: changes of direction of the target; ``changes``: changes of it;
    - ``computed_tokens``: prompt tokens that engines computed.
    """

    requests: int
    attainment: float
    endpoint_hours: float
    goodput_per_hour: float
    failed: int
    turns: int
    changes: int
    removals: int
    ttft_p50: float | None
    ttft_p90: float | None
    ttft_p99: float | None
    tpot_p90: float | None
    computed_tokens: int
    wall_seconds: float


class Curve(Struct, frozen=True):
    """One step of the picture: demand in requests/s, endpoints, TTFT at p90."""

    at: float
    demand: float
    wanted: float
    ready: float
    paid: float
    ttft: float | None


def figures(played: Played, objective: Objective) -> Figures:
    """The figures of a play."""
    flights = played.flights
    good = sum(attained(one, objective) for one in flights)
    waits = [one.first_token_at - one.at for one in flights if one.first_token_at is not None]
    gaps = [gap for one in flights if (gap := tpot(one)) is not None]
    hours = played.endpoint_seconds / 3_600.0
    targets = [count for _, count in played.targets]
    return Figures(
        requests=len(flights),
        attainment=good / len(flights) if flights else 0.0,
        endpoint_hours=hours,
        goodput_per_hour=good / hours if hours else 0.0,
        failed=sum(one.finished_at is None for one in flights),
        turns=turns(targets),
        changes=len(targets),
        removals=played.removals,
        ttft_p50=quantile(waits, 0.5),
        ttft_p90=quantile(waits, 0.9),
        ttft_p99=quantile(waits, 0.99),
        tpot_p90=quantile(gaps, 0.9),
        computed_tokens=sum(
            one.arrival.prompt_tokens - one.cached
            for one in flights
            if one.first_token_at is not None
        ),
        wall_seconds=played.wall_seconds,
    )


def attained(one: Flight, objective: Objective) -> bool:
    """Whether a request met the objective."""
    if one.finished_at is None or one.first_token_at is None:
        return False
    if one.first_token_at - one.at > objective.ttft:
        return False
    gap = tpot(one)
    return gap is None or gap <= objective.itl


def tpot(one: Flight) -> float | None:
    """Mean seconds between output tokens; None below two of them, or unfinished."""
    if one.finished_at is None or one.first_token_at is None or one.arrival.output_tokens < 2:
        return None
    return (one.finished_at - one.first_token_at) / (one.arrival.output_tokens - 1)


def turns(targets: Sequence[int]) -> int:
    """How often a series of different values changes its direction."""
    ways = [after > before for before, after in pairwise(targets)]
    return sum(one is not other for one, other in pairwise(ways))


def curves(played: Played, step: float) -> list[Curve]:
    """The picture's points, one a ``step`` seconds."""
    if not played.moments:
        return []
    count = int(played.moments[-1].at // step) + 1
    waits: list[list[float]] = [[] for _ in range(count)]
    came = [0] * count
    for one in played.flights:
        place = min(int(one.at // step), count - 1)
        came[place] += 1
        if one.first_token_at is not None:
            waits[place].append(one.first_token_at - one.at)
    made = []
    for place in range(count):
        within = [one for one in played.moments if place * step <= one.at < (place + 1) * step]
        last = within or [played.moments[-1]]
        ordered = sorted(waits[place])
        made.append(
            Curve(
                at=place * step,
                demand=came[place] / step,
                wanted=_mean([one.wanted for one in last]),
                ready=_mean([one.ready for one in last]),
                paid=_mean([one.paid for one in last]),
                ttft=ordered[int(len(ordered) * 0.9)] if ordered else None,
            )
        )
    return made


def _mean(values: Sequence[float]) -> float:
    return sum(values) / len(values)
