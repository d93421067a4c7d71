"""A cluster in virtual time for the pure scaler: pods that start, wait, crash and leave.

Requests are a fluid: a rate, a backlog in seconds of prefill, a batch by Little's law. What the
scaler sees of it is an `Observation`; what it decides, the cluster carries out.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from itertools import pairwise

from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.decision import Wanted, decide
from endpoints.scaling.memory import Memory
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import (
    MISSING,
    Observation,
    Replicas,
    RoleObservation,
    Signal,
    Standing,
    measured,
)


@dataclass
class Pod:
    role: Role
    born: float
    running_since: float | None = None
    crashing: bool = False


@dataclass
class Truth:
    """What the traffic and the hardware really are."""

    rate: float = 2.0
    prompt: float = 2_000.0
    output: float = 200.0
    hit: float = 0.5
    prefill_rate: float = 4_000.0
    itl_base: float = 0.015
    itl_slope: float = 0.0002
    kv_tokens: float = 300_000.0

    @property
    def seconds(self) -> float:
        return self.prompt * (1.0 - self.hit) / self.prefill_rate


@dataclass
class Cluster:
    settings: ScalingSettings
    truth: Truth = field(default_factory=Truth)
    startup: float = 120.0
    room: int = 1_000
    """Pods that find a machine; further ones are pending."""
    reporting: float = 1.0
    """Share of the pods whose metrics come through."""
    away: bool = False
    """The API server: targets can be neither read nor written."""
    leading: bool = True
    crash: Callable[[Pod], bool] = lambda pod: False
    ceiling: Mapping[Role, Ceiling] | None = None
    distort: Callable[[RoleObservation], RoleObservation] = lambda seen: seen
    now: float = 0.0
    clock: float = 0.0
    """What is added to the scaler's clock."""
    held: int = 0
    targets: dict[Role, int] = field(default_factory=dict)
    pods: list[Pod] = field(default_factory=list)
    backlog: float = 0.0
    idle_since: float = 0.0
    memory: Memory = field(default_factory=Memory)
    decisions: list[Wanted] = field(default_factory=list)
    sizes: dict[Role, list[int]] = field(default_factory=dict)
    written: int = 0

    def begin(self, **counts: int) -> "Cluster":
        """Start with so many ready pods of each role."""
        for name, count in counts.items():
            role = Role(name)
            self.targets[role] = count
            self.pods += [Pod(role, -1e6, -1e6) for _ in range(count)]
        return self

    # -- what there is ---------------------------------------------------------------------

    def of(self, role: Role) -> list[Pod]:
        return [pod for pod in self.pods if pod.role is role]

    def ready(self, role: Role) -> int:
        return sum(self._is_ready(pod) for pod in self.of(role))

    def _is_ready(self, pod: Pod) -> bool:
        if pod.running_since is None or pod.crashing:
            return False
        return self.now - pod.running_since >= self.startup

    @property
    def last(self) -> Wanted:
        return self.decisions[-1]

    def target(self, role: Role = Role.BOTH) -> int:
        return self.targets[role]

    # -- time ------------------------------------------------------------------------------

    def run(self, seconds: float) -> "Cluster":
        end = self.now + seconds
        while self.now < end:
            self.step()
        return self

    def step(self) -> None:
        interval = self.settings.interval
        self.now += interval
        self._reconcile()
        workers = min(
            (self.ready(role) for role in self.settings.roles if role is not Role.DECODE), default=0
        )
        self.backlog = max(
            self.backlog + (self.truth.rate * self.truth.seconds - workers) * interval, 0.0
        )
        if not workers and self.truth.rate:
            self.held = min(self.held + round(self.truth.rate * interval), 1_000)
        elif workers:
            self.held = 0
        if self.truth.rate:
            self.idle_since = self.now
        if self.leading:
            self.tick()
        for role in self.settings.roles:
            self.sizes.setdefault(role, []).append(self.targets[role])

    def tick(self) -> None:
        """One decision of the leader, and its writing."""
        now = self.now + self.clock
        wanted, self.memory = decide(
            self.observe(now), self.settings, self.memory, self.ceiling, now
        )
        self.decisions.append(wanted)
        if self.away or wanted.held is not None:
            return
        for role, count in wanted.replicas.items():
            if self.targets[role] != count:
                self.written += 1
                self.targets[role] = count

    def _reconcile(self) -> None:
        for role in self.settings.roles:
            pods = self.of(role)
            for _ in range(self.targets[role] - len(pods)):
                self.pods.append(Pod(role, self.now))
            for pod in sorted(pods, key=self._is_ready)[: max(len(pods) - self.targets[role], 0)]:
                self.pods.remove(pod)
        running = sum(pod.running_since is not None for pod in self.pods)
        for pod in self.pods:
            if pod.running_since is None and running < self.room:
                pod.running_since = self.now
                running += 1
            pod.crashing = pod.running_since is not None and self.crash(pod)

    # -- what is seen ----------------------------------------------------------------------

    def observe(self, now: float) -> Observation:
        roles = {role: self.distort(self._role(role, now)) for role in self.settings.roles}
        return Observation("pool", now, roles, self.held, self.now - self.idle_since)

    def _role(self, role: Role, now: float) -> RoleObservation:
        truth, pods = self.truth, self.of(role)
        ready = self.ready(role)
        patience = self.settings.startup * self.settings.stuck_after
        pending = [pod for pod in pods if pod.running_since is None]
        failing = [pod for pod in pods if pod.crashing and self.now - pod.born > patience]
        starting = len(pods) - ready - len(pending) - len(failing)
        replicas = Replicas(
            ready,
            starting,
            len(pending),
            len(failing),
            0,
            None if self.away else self.targets[role],
            max((self.now - pod.born for pod in pending), default=0.0),
        )

        def of(number: float | None) -> Signal:
            return measured(number, now, now, self.settings.fresh)

        prefills = role is not Role.DECODE
        busy = truth.rate * truth.seconds / ready if ready and prefills else 0.0
        batch = 0.0
        if ready:
            fed = truth.rate * truth.output / ready
            left = max(1.0 - min(busy, 0.95) - fed * truth.itl_slope, 0.05)
            batch = min(fed * truth.itl_base / left, 256.0)
        itl = (truth.itl_base + truth.itl_slope * batch) / max(1.0 - min(busy, 0.95), 0.05)
        context = truth.prompt + truth.output / 2.0
        usage = min(batch * context / truth.kv_tokens, 1.0)
        queued = self.backlog * truth.prefill_rate
        wait = self.backlog / ready if ready else 0.0
        heard = ready * self.reporting >= 0.5 or self.reporting == 1.0
        asked = truth.rate > 0.0
        return RoleObservation(
            replicas=replicas,
            arrival_rate=of(truth.rate),
            forecast_rate=of(truth.rate),
            forecast_high=of(truth.rate),
            usual_rate=of(truth.rate),
            prompt_tokens=of(truth.prompt if asked else None),
            output_tokens=of(truth.output if asked else None),
            hit_ratio=of(truth.hit if asked else None),
            own_tokens=of(truth.prompt * (1.0 - truth.hit) if asked else None),
            own_spread=of(0.5 if asked else None),
            in_flight=of(batch * ready),
            queued_tokens=of(queued),
            waiting=of(min((wait if prefills else 0.0) / max(truth.seconds, 1e-9), 200.0) * ready)
            if ready
            else MISSING,
            ttft=of(wait + 2.0 * truth.seconds) if ready and asked else MISSING,
            itl=of(itl * 1.5) if ready and asked else MISSING,
            kv_usage=of(usage) if ready and heard else self._stale(usage, now),
            kv_peak=of(usage) if ready and heard else MISSING,
            kv_known=of(self.reporting) if ready else MISSING,
            preemptions=of(0.0),
            prefill_rate=of(truth.prefill_rate),
            ttft_fixed=of(0.02),
            itl_base=of(truth.itl_base),
            itl_slope=of(truth.itl_slope),
            itl_context=of(0.0),
            itl_tail=of(1.5),
            kv_tokens=of(truth.kv_tokens),
        )

    def _stale(self, usage: float, now: float) -> Signal:
        return Signal(Standing.STALE, usage, now - 2.0 * self.settings.fresh)


def blind(seen: RoleObservation) -> RoleObservation:
    """Nothing but the number of pods is known."""
    return RoleObservation(replicas=seen.replicas)


def without_scrapes(seen: RoleObservation) -> RoleObservation:
    """What engines tell is missing; the gateway's own books are there."""
    return replace(
        seen,
        kv_usage=MISSING,
        kv_peak=MISSING,
        kv_known=MISSING,
        waiting=MISSING,
        preemptions=MISSING,
    )


def turns(sizes: list[int]) -> int:
    """How often a size's changes change their direction."""
    steps = [after - before for before, after in pairwise(sizes)]
    ways = [step > 0 for step in steps if step]
    return sum(one is not other for one, other in pairwise(ways))
