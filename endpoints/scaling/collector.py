"""From the brain to an observation: the router's traffic, its fleet, its learned times.

    collector = Collector("chat", settings)
    collector.attach(router)                       # once: the router begins to add up
    observation = collector.collect(router, targets, now)     # every interval

Nothing is polled for it: what the gateway knows anyway is read. `Collector` keeps the windows
and is fed times, so the same calls give the same observations.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Final

from endpoints.scaling.learnedtimes import LearnedTimes, times_of
from endpoints.scaling.requests import RATE_SECONDS, PoolRequests, RequestWindows
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
from endpoints.scaling.windows import Peak, Totals
from routing.endpoint import EndpointState, Health
from routing.router import Router
from routing.traffic import Traffic

PEAK_SECONDS: Final = 60.0
"""The stretch over which an endpoint's peaks are taken."""
CALM_LOAD: Final = 0.4
"""Share of its time that an endpoint may spend on prefill for its times between tokens to count."""
CALM_SECONDS: Final = 3_600.0
"""How long these are good for."""


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
        self._requests = RequestWindows(settings)
        self._preempted: dict[Role, Totals] = {role: Totals(RATE_SECONDS) for role in Role}
        self._preemptions: dict[str, float] = {}
        self._preempted_sum: dict[Role, float] = dict.fromkeys(Role, 0.0)
        self._seen: dict[str, _Seen] = {}
        self._short: dict[Role, float] = {}  # since when there are fewer than the target
        self._calmly: dict[Role, tuple[float, LearnedTimes]] = {}
        self._began: float | None = None

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
        shared = PoolRequests() if traffic is None else self._requests.look(traffic, now)
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
        shared: PoolRequests,
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
        timing = times_of(members, router).believed(shared.gaps, decoding)
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
        self, role: Role, timing: "LearnedTimes", shared: PoolRequests, ready: int, now: float
    ) -> "LearnedTimes":
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


def _cache_tokens(ready: Sequence[EndpointState]) -> float | None:
    sizes = [state.cache_tokens for state in ready if state.cache_tokens is not None]
    return sum(sizes) / len(sizes) if sizes else None
