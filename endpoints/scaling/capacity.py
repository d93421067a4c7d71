"""The queueing model: what a number of endpoints can do, from what is learned of one.

Prefill is a queue for all endpoints together, since the router sends a request to whoever gets to
it first: M/G/n. With service time ``S`` (the prompt's uncached tokens over the learned rate),
squared coefficient of variation ``v`` and load ``rho = rate x S / n``, the wait before prefill is

    P(wait > t) = C exp(-t / T),  C = rho^(sqrt(2(n+1)) - 1),  T = S (1 + v) / 2 / (n (1 - rho))

(Allen and Cunneen with Sakasegawa's probability of waiting; an exponential tail). But who has the
prompt's beginning cached is only one, and busy with probability rho: the wait is at least
``rho S (1 + v) / 2`` on average, what is left of the prefill that runs there. A first token
comes after the wait, the own prefill and a fixed time. Prompts are taken to be log-normal.

Decoding is Little's law: with ``ITL = (a + b B + c B L) / (1 - rho)`` (every step carries what
prefill there is, so on endpoints that do both, prefill stretches decoding) and output ``O``, the
batch is ``B = rate O ITL / n``, which is linear in B, so it has one solution or none (times a
learned factor for how far above the mean the objective's percentile lies):

    B = u a / (1 - rho - u (b + c L)),   u = rate O / n,   L = prompt + output / 2

KV cache bounds B: ``B L <= kv``. Sources: reference formulas of disaggregated planning
(P = rate I (1-h) / Tp, D = rate O ITL / Cd); Sakasegawa, An approximation formula for the mean
waiting time of M/G/c, 1977; llm-d's workload-variant autoscaler for the search of the largest rate.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from math import ceil, exp, inf, log, log1p, sqrt
from statistics import NormalDist
from typing import Final

from endpoints.scaling.role import Role
from endpoints.scaling.settings import Objective
from endpoints.scaling.signals import RoleObservation

MOST_ENDPOINTS: Final = 100_000
"""Endpoints beyond which no answer is looked for."""
KV_SHARE: Final = 0.9
"""Share of the KV cache that is planned with: sequences come and go."""
ITL_TAIL: Final = 1.5
"""Of the mean time between tokens, its percentile before that was seen; at most `MOST_TAIL`."""
MOST_TAIL: Final = 2.0
LEAST_OWN: Final = 0.5
"""Of the uncached tokens, what more caches leave at least."""
_SEARCH_STEPS: Final = 40


@dataclass(frozen=True, slots=True)
class Profile:
    """One endpoint's learned times, and the mean request. Seconds and tokens.

    ``prefill``: seconds of computing the mean prompt's uncached tokens, ``spread`` their squared
    coefficient of variation; ``fixed``: of a first token, whatever its prompt. ``kv_tokens``:
    None when the engine doesn't tell.
    """

    prefill: float
    own_tokens: float
    spread: float
    fixed: float
    itl_base: float
    itl_slope: float
    itl_context: float
    prompt_tokens: float
    output_tokens: float
    kv_tokens: float | None
    itl_tail: float = 1.5
    endpoints: int = 0
    rate: float = 0.0

    @property
    def context(self) -> float:
        """Mean tokens that a decoding sequence reads."""
        return self.prompt_tokens + self.output_tokens / 2.0

    def among(self, count: int, rate: float) -> "Profile":
        """The same with ``count`` endpoints at ``rate``: less cache for each request holds less.

        What is found in caches is taken to go with the square root of the endpoints that there
        are for each request/s, and with the fourth root when that grows. (Measured on
        conversations: 0.45 of the prompts at 1.0, 0.52 at 1.2, 0.57 at 1.5, 0.60 at 2.0.)
        """
        if not (self.endpoints and self.own_tokens and self.rate > 0.0 and rate > 0.0):
            return self
        ratio = count / rate / (self.endpoints / self.rate)
        found = max(self.prompt_tokens - self.own_tokens, 0.0)
        found *= sqrt(ratio) if ratio < 1.0 else ratio**0.25
        own = max(self.prompt_tokens - found, LEAST_OWN * self.own_tokens)
        return replace(
            self,
            prefill=self.prefill * own / self.own_tokens,
            own_tokens=own,
            endpoints=count,
            rate=rate,
        )

    def prefill_at(self, share: float) -> float:
        """The prefill time that ``share`` of the prompts stay within (log-normal)."""
        variance = log1p(self.spread)
        deviate = NormalDist().inv_cdf(share)
        return self.prefill * exp(deviate * sqrt(variance) - variance / 2.0)


def profile(seen: RoleObservation) -> Profile | None:
    """From an observation; None while times or requests aren't known well enough."""
    rate, own = seen.prefill_rate.last, seen.own_tokens.last
    prompt, output = seen.prompt_tokens.last, seen.output_tokens.last
    base, slope = seen.itl_base.last, seen.itl_slope.last
    if rate is None or own is None or prompt is None or output is None:
        return None
    if base is None or slope is None or not rate > 0.0:
        return None
    return Profile(
        prefill=own / rate,
        own_tokens=own,
        spread=min(seen.own_spread.last or 0.0, 25.0),
        fixed=seen.ttft_fixed.last or 0.0,
        itl_base=base,
        itl_slope=slope,
        itl_context=seen.itl_context.last or 0.0,
        prompt_tokens=prompt,
        output_tokens=output,
        kv_tokens=seen.kv_tokens.last or None,
        itl_tail=min(max(seen.itl_tail.last or ITL_TAIL, 1.0), MOST_TAIL),
        endpoints=seen.replicas.ready,
        rate=seen.shape_rate.last or 0.0,
    )


@dataclass(frozen=True, slots=True)
class Prediction:
    """How ``n`` endpoints would do at a rate: times at the objective's percentile, in seconds.

    ``load``: the share of time that prefill takes; ``batch``: sequences decoding on each;
    ``kv``: share of KV cache they hold. What can't be kept up with is inf.
    """

    load: float
    ttft: float
    itl: float
    batch: float
    kv: float


def predict(one: Profile, role: Role, rate: float, count: int, share: float) -> Prediction:
    """``count`` endpoints of ``role`` at ``rate`` requests/s; ``share``: the percentile."""
    one = one.among(count, rate)
    load = rate * one.prefill / count if role is not Role.DECODE else 0.0
    ttft, itl, batch, kv = 0.0, 0.0, 0.0, 0.0
    if role is not Role.DECODE:
        ttft = _ttft(one, load, count, share)
    if role is not Role.PREFILL:
        fed = rate * one.output_tokens / count
        left = 1.0 - load - fed * (one.itl_slope + one.itl_context * one.context)
        if load >= 1.0 or left <= 0.0:
            batch = itl = kv = inf
        else:
            batch = fed * one.itl_base / left
            step = one.itl_base + (one.itl_slope + one.itl_context * one.context) * batch
            itl = step / (1.0 - load) * one.itl_tail
            kv = batch * one.context / one.kv_tokens if one.kv_tokens else 0.0
    return Prediction(load, ttft, itl, batch, kv)


def _ttft(one: Profile, load: float, count: int, share: float) -> float:
    if load >= 1.0:
        return inf
    waits = float(load ** (sqrt(2.0 * (count + 1)) - 1.0))
    left = one.prefill * (1.0 + one.spread) / 2.0
    scale = left / (count * (1.0 - load))
    tail = scale * log(waits / (1.0 - share)) if waits > 1.0 - share else 0.0
    # Long waits and long prompts don't fall together: the mean of one goes with the other's tail.
    long_wait = max(tail, load * left) + one.prefill
    long_prompt = max(waits * scale, load * left) + one.prefill_at(share)
    return one.fixed + max(long_wait, long_prompt)


@dataclass(frozen=True, slots=True)
class Sizing:
    """How many endpoints a rate needs, what limits them, and how they would do.

    ``unmet`` names objectives that no number of endpoints can meet; they were left out.
    """

    count: int
    limit: str
    prediction: Prediction
    unmet: tuple[str, ...] = ()


def fewest(
    one: Profile, role: Role, rate: float, objective: Objective, utilisation: float
) -> Sizing:
    """The fewest endpoints that take ``rate`` and meet the objective.

    ``utilisation``: share of the time that prefill may take, and of KV cache and objective that
    may be used. The largest rate that n endpoints can take grows with n, so it is a search.
    """
    unmet = _unmet(one, role, objective)
    goal = replace(
        objective,
        ttft=1e9 if "ttft" in unmet else objective.ttft,
        itl=1e9 if "itl" in unmet else objective.itl,
    )

    def broken(count: int) -> str | None:
        return _broken(predict(one, role, rate, count, objective.percentile), goal, utilisation)

    count = _least(lambda number: broken(number) is None)
    limit = "nothing" if count == 1 else broken(count - 1) or "nothing"
    return Sizing(count, limit, predict(one, role, rate, count, objective.percentile), tuple(unmet))


def largest_rate(
    one: Profile, role: Role, count: int, objective: Objective, utilisation: float
) -> float:
    """The highest rate (requests/s) that ``count`` endpoints take within the objective.

    By bisection; 0 when not even the slightest rate meets it.
    """

    def fits(rate: float) -> bool:
        found = predict(one, role, rate, count, objective.percentile)
        return _broken(found, objective, utilisation) is None

    low, high = 0.0, count / max(one.prefill, one.itl_slope * one.output_tokens, 1e-6)
    for _ in range(_SEARCH_STEPS):
        middle = (low + high) / 2.0
        if fits(middle):
            low = middle
        else:
            high = middle
    return low


def _unmet(one: Profile, role: Role, objective: Objective) -> list[str]:
    """Objectives that are missed even by a request that is alone."""
    alone = predict(one, role, 1e-9, 1, objective.percentile)
    unmet = []
    if alone.ttft > objective.ttft:
        unmet.append("ttft")
    if alone.itl > objective.itl:
        unmet.append("itl")
    return unmet


def _broken(found: Prediction, objective: Objective, utilisation: float) -> str | None:
    """The first limit that is exceeded; None when all hold."""
    if found.load > utilisation:
        return "prefill"
    if found.ttft > objective.ttft:
        return "ttft"
    if found.itl > objective.itl:
        return "itl"
    if found.kv > KV_SHARE:
        return "kv"
    return None


def _least(holds: Callable[[int], bool]) -> int:
    """The least number from 1 on for which something holds that, once it does, always will."""
    high = 1
    while not holds(high) and high < MOST_ENDPOINTS:
        high = min(ceil(high * 2), MOST_ENDPOINTS)
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        if holds(middle):
            high = middle
        else:
            low = middle
    return high
