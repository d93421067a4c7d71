"""From the brain to an observation: the router's traffic, its fleet, its learned times.

    collector = Collector("chat", settings)
    collector.attach(router)                       # once: the router begins to add up
    observation = collector.collect(router, targets, now)     # every interval

Nothing is polled for it: what the gateway knows anyway is read. `Collector` keeps the windows
and is fed times, so the same calls give the same observations.
"""

from collections import deque
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from math import sqrt
from typing import Final

from endpoints.scaling.forecast import Forecast, forecast, jumps, level
from endpoints.scaling.role import Role, role_of
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import (
    MISSING,
    EndpointSample,
    Observation,
    Replicas,
    RoleObservation,
    Signal,
    Standing,
    measured,
)
from endpoints.scaling.windows import Bins, Peak, Totals, quantile
from routing.endpoint import EndpointState, Health
from routing.router import Router
from routing.traffic import Traffic

RATE_SECONDS: Final = 60.0
"""The stretch over which the present arrival rate is taken."""
JUMP_SECONDS: Final = 15.0
"""The stretch over which a jump of the arrival rate is noticed."""
JUMP_SIGMAS: Final = 3.0
JUMP_SHARE: Final = 0.95
"""Share of the moments for which the margin against jumps was enough."""
SHAPE_SECONDS: Final = 600.0
"""The stretch over which the mean request is taken."""
GAP_SECONDS: Final = 180.0
"""The stretch over which times between tokens are compared with each other."""
PEAK_SECONDS: Final = 60.0
"""The stretch over which an endpoint's peaks are taken."""
BIN_SECONDS: Final = 30.0
"""A forecast's step."""
MOST_BINS: Final = 6_000
CALM_LOAD: Final = 0.4
"""Share of its time that an endpoint may spend on prefill for its times between tokens to count."""
CALM_SECONDS: Final = 3_600.0
"""How long these are good for."""
LEARNED: Final = 20
"""Observations after which learned times are believed."""
_SUMS: Final = (
    *("arrivals", "routed", "prompt_tokens", "own_tokens", "own_squares", "own_context"),
    *("completed", "output_tokens", "reported_prompt_tokens", "cached_tokens"),
)


@dataclass(slots=True)
class _Seen:
    """One endpoint's history: since when it is known, whether it was ever ready, its peaks."""

    since: float
    ready: bool = False
    waiting: Peak = field(default_factory=lambda: Peak(PEAK_SECONDS))
    kv: Peak = field(default_factory=lambda: Peak(PEAK_SECONDS))


class Collector:
    """Observations of one pool, whose endpoints are those of the router it is given."""

    def __init__(self, pool: str, settings: ScalingSettings) -> None:
        self._pool = pool
        self._settings = settings
        longest = max(SHAPE_SECONDS, settings.down.window)
        self._sums = {name: Totals(longest) for name in _SUMS}
        self._bins = Bins(BIN_SECONDS, MOST_BINS)
        self._preempted: dict[Role, Totals] = {role: Totals(RATE_SECONDS) for role in Role}
        self._preemptions: dict[str, float] = {}
        self._preempted_sum: dict[Role, float] = dict.fromkeys(Role, 0.0)
        self._seen: dict[str, _Seen] = {}
        self._short: dict[Role, float] = {}  # since when there are fewer than the target
        self._calmly: dict[Role, tuple[float, _Times]] = {}
        self._began: float | None = None
        self._last_at = -1.0
        self._forecast: Forecast | None = None
        self._forecast_bins = -1
        self._jumps: float | None = None
        self._jumps_here: float | None = None

    def attach(self, router: Router) -> None:
        """Have the router add up its traffic, unless it does already."""
        if router.traffic is None:
            router.traffic = Traffic()

    def collect(
        self,
        router: Router,
        targets: Mapping[Role, int | None],
        now: float,
        held: int = 0,
    ) -> Observation:
        """The pool as the brain knows it now.

        ``targets``: what each role's scale target says, None where it could not be read;
        ``held``: requests that the gateway keeps until there is an endpoint.
        """
        if self._began is None or now < self._began:
            self._began = now
        traffic = router.traffic
        shared = _Shared() if traffic is None else self._traffic(traffic, now)
        states: dict[Role, list[EndpointState]] = {role: [] for role in self._settings.roles}
        for state in router.fleet:
            role = role_of(state.endpoint)
            if role in states:
                states[role].append(state)
        self._forget(state.name for state in router.fleet)
        roles = {
            role: self._role(role, members, targets.get(role), shared, router, now)
            for role, members in states.items()
        }
        last = -1.0 if traffic is None else traffic.last_at
        idle = now - last if last >= 0.0 else now - self._began
        if any(state.ledger.requests for state in router.fleet) or held:
            idle = 0.0
        return Observation(self._pool, now, roles, held, max(idle, 0.0))

    # -- what requests are like ------------------------------------------------------------

    def _traffic(self, traffic: Traffic, now: float) -> "_Shared":
        for name, totals in self._sums.items():
            totals.add(now, float(getattr(traffic, name)))
        self._bins.add(now, float(traffic.arrivals))
        rate = self._rate(now)
        self._look_ahead()
        ahead = self._forecast
        own = self._mean("own_tokens", "routed", now)
        spread = None
        squares = self._mean("own_squares", "routed", now)
        if own and squares is not None:
            spread = max(squares / (own * own) - 1.0, 0.0)
        percentile = self._settings.objective.percentile
        return _Shared(
            arrival_rate=rate,
            forecast_rate=None if ahead is None else ahead.value,
            forecast_high=None if ahead is None else ahead.high,
            usual_rate=quantile(self._usual_bins(), 0.5),
            jumps=self._jumps,
            jumps_here=self._jumps_here,
            prompt_tokens=self._mean("prompt_tokens", "routed", now),
            output_tokens=self._mean("output_tokens", "completed", now),
            hit_ratio=self._mean("cached_tokens", "reported_prompt_tokens", now),
            own_tokens=own,
            own_spread=spread,
            own_context=self._mean("own_context", "routed", now),
            shape_rate=self._sums["routed"].rate(now, SHAPE_SECONDS),
            ttft=_recent(traffic.waits, percentile, now),
            itl=_recent(traffic.gaps, percentile, now),
            gaps=_Gaps.of(traffic.gaps, percentile, now),
        )

    def _rate(self, now: float) -> float | None:
        """Arrivals a second over the last minute; on a jump, where it is going to.

        A Poisson process exceeds its mean by `JUMP_SIGMAS` deviations about once in 500 times. So
        that is a jump, and most likely seen on its way up: it is taken to go on as far again. What
        is asked for a step too late costs a start-up time of missed objectives; what was asked for
        too much makes the first of them come sooner, and goes once enough are ready.
        """
        arrivals = self._sums["arrivals"]
        rate = arrivals.rate(now, RATE_SECONDS)
        latest = arrivals.change(now, JUMP_SECONDS)
        if rate is None or latest is None:
            return rate
        came, seconds = latest
        expected = rate * seconds
        if came > expected + JUMP_SIGMAS * sqrt(max(expected, 1.0)):
            return max(2.0 * came / seconds - rate, rate)
        return rate

    def _mean(self, part: str, whole: str, now: float) -> float | None:
        """One sum over another, over the stretch in which means are taken."""
        parts = self._sums[part].change(now, SHAPE_SECONDS)
        wholes = self._sums[whole].change(now, SHAPE_SECONDS)
        if parts is None or wholes is None or wholes[0] <= 0.0:
            return None
        return parts[0] / wholes[0]

    def _usual_bins(self) -> list[float]:
        """The steps within the settings' memory, oldest first."""
        count = max(round(self._settings.usual_memory / BIN_SECONDS), 1)
        return list(islice(reversed(self._bins.rates), count))[::-1]

    def _look_ahead(self) -> None:
        """Forecast anew whenever a step is complete."""
        bins = self._bins
        if not bins.rates:
            return
        stamp = hash((len(bins.rates), bins.rates[-1]))
        if stamp == self._forecast_bins:
            return
        self._forecast_bins = stamp
        season = self._settings.season
        ahead = max(round((self._settings.startup + self._settings.interval) / bins.step), 1)
        self._forecast = forecast(
            list(bins.rates), ahead, 0 if season is None else round(season / bins.step)
        )
        usual = self._usual_bins()
        here = level(usual, ahead, 0)
        self._jumps = jumps(usual, ahead, JUMP_SHARE)
        self._jumps_here = jumps(usual, ahead, JUMP_SHARE, here) if here else None

    # -- endpoints -------------------------------------------------------------------------

    def _forget(self, names: Iterable[str]) -> None:
        known = set(names)
        for name in [name for name in self._seen if name not in known]:
            del self._seen[name]
            self._preemptions.pop(name, None)

    def _replicas(
        self, role: Role, members: Sequence[EndpointState], target: int | None, now: float
    ) -> Replicas:
        patience = self._settings.startup * self._settings.stuck_after
        ready = starting = failing = draining = 0
        oldest = 0.0
        for state in members:
            seen = self._seen.setdefault(state.name, _Seen(now))
            seen.since = min(seen.since, now)
            if state.health is Health.DRAINING:
                draining += 1
            elif state.available:
                ready += 1
                seen.ready = True
            elif seen.ready or now - seen.since > patience:
                failing += 1
            else:
                starting += 1
                oldest = max(oldest, now - seen.since)
        pending = 0
        waiting = 0.0
        if target is not None:
            pending = max(target - ready - starting - failing, 0)
        if pending:
            since = self._short.setdefault(role, now)
            waiting = max(now - since, 0.0)
        else:
            self._short.pop(role, None)
        return Replicas(ready, starting, pending, failing, draining, target, waiting, oldest)

    def _role(
        self,
        role: Role,
        members: Sequence[EndpointState],
        target: int | None,
        shared: "_Shared",
        router: Router,
        now: float,
    ) -> RoleObservation:
        fresh = self._settings.fresh
        replicas = self._replicas(role, members, target, now)
        ready = [state for state in members if state.available]

        def of(number: float | None, at: float = now) -> Signal:
            return measured(number, at, now, fresh)

        samples = tuple(self._sample(state, now) for state in ready)
        loads = [state.load for state in ready if state.load is not None]
        usages = [(load.kv_usage, load.at) for load in loads if load.kv_usage is not None]
        current = [usage for usage, at in usages if now - at <= fresh]
        newest = max((at for _, at in usages), default=0.0)
        kv_usage = kv_peak = MISSING
        if current:
            kv_usage, kv_peak = of(sum(current) / len(current)), of(max(current))
        elif usages:
            kv_usage = kv_peak = Signal(
                Standing.STALE, sum(usage for usage, _ in usages) / len(usages), newest
            )
        known = [one for one in samples if one.waiting is not None and one.running is not None]
        decoding = sum(one.decoding for one in samples) / len(samples) if samples else 0.0
        timing = _times(members, router).believed(shared.gaps, decoding)
        timing = self._calm(role, timing, shared, len(ready), now)
        traffic = router.traffic
        held = 0 if traffic is None or role is Role.DECODE else traffic.held
        in_line = held * (shared.own_tokens or 0.0)  # prompts that the gateway keeps back
        queued = sum(one.queued_tokens for one in samples) + in_line
        rate = timing.prefill_rate(shared)
        predicted = None
        if ready and rate and shared.own_tokens is not None:
            least = min(one.queued_tokens for one in samples) + in_line / len(ready)
            predicted = timing.fixed + (least + shared.own_tokens) / rate
        return RoleObservation(
            replicas=replicas,
            arrival_rate=of(shared.arrival_rate),
            forecast_rate=of(shared.forecast_rate),
            forecast_high=of(shared.forecast_high),
            usual_rate=of(shared.usual_rate),
            jumps=of(shared.jumps),
            jumps_here=of(shared.jumps_here),
            prompt_tokens=of(shared.prompt_tokens),
            output_tokens=of(shared.output_tokens),
            hit_ratio=of(shared.hit_ratio),
            own_tokens=of(shared.own_tokens),
            own_spread=of(shared.own_spread),
            shape_rate=of(shared.shape_rate),
            in_flight=of(sum(float(state.ledger.requests) for state in ready) + held),
            queued_tokens=of(queued),
            waiting=of(sum(one.waiting or 0.0 for one in known) + held if known else None),
            running=of(sum(one.running or 0.0 for one in known) if known else None),
            predicted_ttft=of(predicted),
            ttft=of(shared.ttft),
            itl=of(shared.itl),
            kv_usage=kv_usage,
            kv_peak=kv_peak,
            kv_known=of(len(current) / len(ready) if ready else None),
            preemptions=of(self._preemption_rate(role, ready, now)),
            prefill_rate=of(rate),
            ttft_fixed=of(timing.fixed if rate else None),
            itl_base=of(timing.itl_base),
            itl_slope=of(timing.itl_slope),
            itl_context=of(timing.itl_context),
            itl_tail=of(None if shared.gaps is None else shared.gaps.tail),
            kv_tokens=of(_cache_tokens(ready)),
            endpoints=samples,
        )

    def _calm(
        self, role: Role, timing: "_Times", shared: "_Shared", ready: int, now: float
    ) -> "_Times":
        """With the times between tokens as they were learned when it was last calm.

        Prefill that runs in between is hard to tell from slow decoding, and the more there is of
        it the harder, so what is learned in a crowd is not believed while better is at hand.
        """
        rate, speed = shared.arrival_rate, timing.prefill_rate(shared)
        crowded = True
        if ready and rate is not None and speed and shared.own_tokens is not None:
            crowded = rate * shared.own_tokens / speed / ready > CALM_LOAD
        kept = self._calmly.get(role)
        if timing.itl_base is not None and not crowded:
            self._calmly[role] = (now, timing)
        elif kept is not None and 0.0 <= now - kept[0] <= CALM_SECONDS:
            calm = kept[1]
            return replace(
                timing,
                itl_base=calm.itl_base,
                itl_slope=calm.itl_slope,
                itl_context=calm.itl_context,
            )
        return timing

    def _sample(self, state: EndpointState, now: float) -> EndpointSample:
        load, timing = state.load, state.timing
        queued, _ = state.ledger.queued_prefill(now, timing.prefill.slope, timing.prefill.tilt)
        if load is None or load.age(now) > self._settings.fresh:
            load = None
        seen = self._seen[state.name]
        if load is not None and load.waiting is not None:
            seen.waiting.add(now, load.waiting)
        if load is not None and load.kv_usage is not None:
            seen.kv.add(now, load.kv_usage)
        return EndpointSample(
            name=state.name,
            queued_tokens=queued,
            context_tokens=float(state.ledger.context_tokens),
            decoding=float(state.ledger.decoding),
            waiting=None if load is None else load.waiting,
            running=None if load is None else load.running,
            kv_usage=None if load is None else load.kv_usage,
            waiting_peak=seen.waiting.most(now),
            kv_peak=seen.kv.most(now),
        )

    def _preemption_rate(
        self, role: Role, ready: Iterable[EndpointState], now: float
    ) -> float | None:
        told = False
        for state in ready:
            count = None if state.load is None else state.load.preemptions
            if count is None:
                continue
            told = True
            before = self._preemptions.get(state.name, count)
            self._preempted_sum[role] += max(count - before, 0.0)
            self._preemptions[state.name] = count
        if not told:
            return None
        totals = self._preempted[role]
        totals.add(now, self._preempted_sum[role])
        return totals.rate(now, RATE_SECONDS)


@dataclass(frozen=True, slots=True)
class _Gaps:
    """Times between tokens, as they were lately: the fastest twentieth, the median, the tail."""

    fastest: float
    median: float
    tail: float

    @classmethod
    def of(cls, times: deque[tuple[float, float]], share: float, now: float) -> "_Gaps | None":
        """From what was observed over `GAP_SECONDS`; None when that is too little."""
        recent = _since(times, now - GAP_SECONDS)
        if len(recent) < LEARNED:
            return None
        fastest, median, most = (quantile(recent, one) for one in (0.05, 0.5, share))
        mean = sum(recent) / len(recent)
        if fastest is None or median is None or most is None or not mean > 0.0:
            return None
        return cls(fastest, median, most / mean)


@dataclass(frozen=True, slots=True)
class _Shared:
    """What is the same for all roles of a pool; None: not known."""

    arrival_rate: float | None = None
    forecast_rate: float | None = None
    forecast_high: float | None = None
    usual_rate: float | None = None
    jumps: float | None = None
    jumps_here: float | None = None
    prompt_tokens: float | None = None
    output_tokens: float | None = None
    hit_ratio: float | None = None
    own_tokens: float | None = None
    own_spread: float | None = None
    own_context: float | None = None
    shape_rate: float | None = None
    ttft: float | None = None
    itl: float | None = None
    gaps: "_Gaps | None" = None


@dataclass(frozen=True, slots=True)
class _Times:
    """Learned times of a role's endpoints; None: not learned yet."""

    fixed: float = 0.0
    slope: float | None = None
    tilt: float = 0.0
    itl_base: float | None = None
    itl_slope: float | None = None
    itl_context: float | None = None

    def believed(self, gaps: _Gaps | None, batch: float) -> "_Times":
        """Learned times between tokens as far as observed ones allow them.

        In an overload the learning takes waits for computing. But a token alone can't take longer
        than the fastest do, nor one in today's batch longer than half of them do.
        """
        base, slope = self.itl_base, self.itl_slope
        if gaps is None or base is None or slope is None:
            return self
        base = min(base, gaps.fastest)
        slope = min(slope, max(gaps.median - base, 0.0) / max(batch, 1.0))
        context = self.itl_context or 0.0
        return replace(self, itl_base=base, itl_slope=slope, itl_context=context)

    def prefill_rate(self, shared: _Shared) -> float | None:
        """Tokens/s for prompts as they are, attention over what stands before them included."""
        if self.slope is None:
            return None
        own = shared.own_tokens
        if not own:
            return 1.0 / self.slope
        return own / (self.slope * own + self.tilt * (shared.own_context or 0.0))


def _times(members: Sequence[EndpointState], router: Router) -> _Times:
    """Of the kind of hardware that most members have; of the only one when there are none."""
    pools = router.fleet.pools
    kinds = [state.endpoint.hardware for state in members]
    if kinds:
        kind = max(set(kinds), key=kinds.count)
    elif len(pools) == 1:
        kind = next(iter(pools))
    else:
        return _Times()
    pool = pools.get(kind)
    if pool is None:
        return _Times()
    prefill, decode = pool.prefill, pool.decode
    found = _Times()
    if prefill.seen >= LEARNED:
        found = _Times(prefill.fixed, prefill.slope, prefill.tilt)
    if decode.seen >= LEARNED:
        found = _Times(
            found.fixed, found.slope, found.tilt, decode.fixed, decode.slope, decode.tilt
        )
    return found


def _cache_tokens(ready: Sequence[EndpointState]) -> float | None:
    sizes = [state.cache_tokens for state in ready if state.cache_tokens is not None]
    return sum(sizes) / len(sizes) if sizes else None


def _recent(times: deque[tuple[float, float]], share: float, now: float) -> float | None:
    """The quantile of what was observed lately; None when that was too little."""
    return quantile(_since(times, now - RATE_SECONDS), share)


def _since(times: deque[tuple[float, float]], begin: float) -> list[float]:
    """What was observed from then on, latest first."""
    recent = []
    for at, seconds in reversed(times):
        if at < begin:
            break
        recent.append(seconds)
    return recent
