"""From an observation to the replicas a pool should have. Pure: the caller owns time.

    wanted, memory = decide(observation, settings, memory, ceiling, now)

The same arguments give the same answer. `Memory` is what has to be known of earlier decisions;
an empty one (`Memory()`) is right after a start or a change of leader: the pool then starts from
what it is, not from zero.

The way of a number, each step of which is on the receipt:

    model (floor) ─┐
                   ├─► need ─► windows, rates ─► minimum, maximum, calendar ─► budget ─► ceiling
    reactive (up) ─┘     ▲
                   fewer only if the load would fit
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isfinite

from endpoints.scaling.bounds import bounds_at, within_bounds, within_budget, within_ceiling
from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.edits import noticed, standing
from endpoints.scaling.memory import Change, Memory, RoleMemory
from endpoints.scaling.pacing import furthest, paced
from endpoints.scaling.predictive import Plan, plan
from endpoints.scaling.reactive import Saturation, saturation
from endpoints.scaling.receipt import Candidate, Receipt
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import Observation, RoleObservation
from endpoints.scaling.trail import Trail
from endpoints.scaling.wording import inputs, outlook, summary

__all__ = ["Memory", "Wanted", "decide", "finished"]

_ASKED = 4
_SETTLE = 90.0


@dataclass(frozen=True, slots=True)
class Wanted:
    """How many replicas each role should have from now on, and why.

    ``held`` says why nothing may be changed now whatever the numbers are (somebody else's edit
    stands, nothing is known); ``replicas`` then are the present targets. None: carry it out.
    """

    pool: str
    at: float
    replicas: Mapping[Role, int]
    receipt: Receipt
    held: str | None = None

    @property
    def needs(self) -> Mapping[Role, int]:
        """What would be wanted if nothing were short: before the ceiling."""
        needs = dict(self.replicas)
        for one in self.receipt.bounds if self.held is None else ():
            if one.name == "ceiling":
                needs[one.role] = one.before
        return needs


def decide(
    observation: Observation,
    settings: ScalingSettings,
    memory: Memory,
    ceiling: Mapping[Role, Ceiling] | None,
    now: float,
) -> tuple[Wanted, Memory]:
    """The replicas that each role of the pool should have, and what to remember of it."""
    memory = watched(observation, settings, memory, now)
    current = present(observation, settings)
    trail = Trail(current)
    candidates: list[Candidate] = []
    held = _edited(settings, memory, now)
    idle = _idle(observation, settings)
    told = 0
    surges: dict[Role, Candidate] = {}
    for role in settings.roles:
        seen = observation.role(role)
        count, made = _need(seen, role, settings, memory.of(role), current[role], now)
        candidates += made
        surges.update((role, one) for one in made if one.name == "surge")
        if count is not None:
            told += 1
            trail.move(role, "need", count, _largest(made, current[role], count))
    if not told and not idle and held is None and _awake(current):
        held = "nothing is known of its traffic: it stays as it is"
    if held is None:
        memory = _remember_opinions(memory, trail, current, now)
    if idle:
        for role in settings.roles:
            trail.move(role, "idle", 0, f"no request for {observation.idle_for:.0f} s")
    elif not _awake(current):
        _wake(trail, observation, settings)
    else:
        for role in settings.roles:
            paced(trail, role, current[role], memory.of(role), settings, now)
            _not_before_help(trail, role, observation.role(role), settings, current[role])
            if role in surges:
                _surge(trail, surges[role], current[role], memory.of(role), settings, now)
            _not_into_the_void(trail, role, observation.role(role), settings, current[role])
    return finished(
        observation, settings, memory, ceiling, trail, candidates, now, idle=idle, held=held
    )


def watched(
    observation: Observation, settings: ScalingSettings, memory: Memory, now: float
) -> Memory:
    """The memory without what is too old, and with what the targets say now."""
    keep = max(
        *(settings.down.window, settings.up.window, settings.down.period, settings.up.period),
        *(settings.down.reversal, settings.up.reversal, _SETTLE + settings.startup),
    )
    memory = memory.since(now, keep)
    roles = {
        role: noticed(
            memory.of(role), observation.role(role).replicas.target, now, settings.edit_hold
        )
        for role in settings.roles
    }
    return Memory(now, roles)


def present(observation: Observation, settings: ScalingSettings) -> dict[Role, int]:
    """What each role is asked to be now; what there is of it where its target is not known."""
    found = {}
    for role in settings.roles:
        seen = observation.role(role).replicas
        found[role] = max(seen.present if seen.target is None else seen.target, 0)
    return found


def finished(
    observation: Observation,
    settings: ScalingSettings,
    memory: Memory,
    ceiling: Mapping[Role, Ceiling] | None,
    trail: Trail,
    candidates: list[Candidate],
    now: float,
    *,
    idle: bool = False,
    held: str | None = None,
) -> tuple[Wanted, Memory]:
    """Bounds, budget and ceiling, in this order; then the receipt, and what to remember."""
    current = present(observation, settings)
    within_bounds(trail, settings, observation.wall, idle)
    poor = within_budget(trail, settings, observation.wall)
    within_ceiling(trail, ceiling, observation, current)
    held = held or poor
    replicas = current if held else trail.counts
    receipt = Receipt(
        pool=observation.pool,
        at=now,
        inputs=inputs(observation, now),
        candidates=tuple(candidates),
        bounds=tuple(trail.bounds),
        would_change=outlook(observation, settings, candidates, trail.bounds, held),
        summary=summary(current, replicas, candidates, trail.bounds, held),
    )
    if held is None:
        memory = _remember_changes(memory, current, replicas, now)
    return Wanted(observation.pool, now, replicas, receipt, held), memory


# -- the need of one role ------------------------------------------------------------------


def _need(
    seen: RoleObservation,
    role: Role,
    settings: ScalingSettings,
    memory: RoleMemory,
    current: int,
    now: float,
) -> tuple[int | None, list[Candidate]]:
    """What both candidates make of it, and they themselves; None when neither can tell."""
    model = plan(seen, role, settings)
    changed = memory.changes[-1].at if memory.changes else None
    settled = changed is None or now - changed >= settings.startup + _SETTLE
    unmet = model is not None and bool(model.sizing.unmet)
    pressure = saturation(
        seen, role, settings, settled=settled, unmet=unmet, modelled=model is not None
    )
    candidates = [_model_words(role, model), _reactive_words(role, pressure)]
    if model is None and pressure is None:
        return None, candidates
    lost = min(seen.replicas.failing, max(current // 4, 1))
    need = current
    if model is not None:
        floor, roof = model.floor + lost, model.roof + lost
        if current < floor:
            need = model.count + lost
        elif current > roof:
            need = roof
    if pressure is not None:
        need = max(need, pressure.up + lost if pressure.up else 0)
        if model is None and not pressure.up:
            need = pressure.keep + lost
        elif need < current:
            need = max(need, min(pressure.keep + lost, current))
    elif need < current:
        need = current  # what can't be seen is not given away
    if model is not None and model.surge:
        candidates.append(Candidate(role, "surge", model.surge + lost, model.surge_reason))
    if lost:
        reason = f"{seen.replicas.failing} are failing: {lost} more take their place"
        candidates.append(Candidate(role, "failing", lost, reason))
    return need, candidates


def _model_words(role: Role, model: Plan | None) -> Candidate:
    if model is None:
        return Candidate(role, "model", None, "times or traffic are not known well enough")
    return Candidate(role, "model", model.count, model.reason)


def _reactive_words(role: Role, pressure: Saturation | None) -> Candidate:
    if pressure is None:
        return Candidate(role, "reactive", None, "no signal of a ready endpoint")
    if pressure.up:
        return Candidate(role, "reactive", pressure.up, pressure.up_reason)
    return Candidate(
        role, "reactive", pressure.keep, f"could shrink so far: {pressure.keep_reason}"
    )


def _largest(candidates: list[Candidate], current: int, count: int) -> str:
    """The reason of whoever called for the number."""
    for one in candidates:
        if one.replicas == count:
            return f"{one.name}: {one.reason}"
    return "more is needed" if count > current else "less is needed"


# -- around the need -----------------------------------------------------------------------


def _edited(settings: ScalingSettings, memory: Memory, now: float) -> str | None:
    for role in settings.roles:
        stands = standing(memory.of(role), role, now, settings.edit_hold)
        if stands is not None:
            return stands
    return None


def _idle(observation: Observation, settings: ScalingSettings) -> bool:
    """Whether the pool may be empty: long enough without a request, and none waiting."""
    if settings.idle is None or observation.held > 0:
        return False
    return isfinite(observation.idle_for) and observation.idle_for >= settings.idle


def _awake(current: Mapping[Role, int]) -> bool:
    return any(current.values())


def _wake(trail: Trail, observation: Observation, settings: ScalingSettings) -> None:
    """From nothing: all roles at once, as many as the model calls for, at least one of each."""
    waiting = f"{observation.held} requests wait" if observation.held else "there is traffic"
    if settings.idle is None:
        waiting = "it should not be empty"
    for role in settings.roles:
        least = max(bounds_at(settings, role, observation.wall)[0].least, 1)
        trail.move(role, "activation", max(trail[role], least), f"{waiting}: start")


def _not_before_help(
    trail: Trail, role: Role, seen: RoleObservation, settings: ScalingSettings, current: int
) -> None:
    """Cancel nobody who is coming before enough are ready, unless nobody comes any more."""
    there, patience = seen.replicas, settings.stuck_after * settings.startup
    hopeless = max(there.oldest_pending, there.oldest_starting) > patience
    if there.ready < trail[role] < current and there.coming and not hopeless:
        reason = f"only {there.ready} are ready yet, {there.coming} are coming"
        trail.move(role, "coming", current, reason)


def _surge(
    trail: Trail,
    surge: Candidate,
    current: int,
    memory: RoleMemory,
    settings: ScalingSettings,
    now: float,
) -> None:
    """For as long as a backlog lasts: as fast as the pace allows, and no opinion to remember."""
    count = surge.replicas or 0
    most = furthest(current, memory.changes, settings.up, now, True)
    if count > trail[surge.role]:
        trail.move(surge.role, "surge", max(min(count, most), trail[surge.role]), surge.reason)


def _not_into_the_void(
    trail: Trail, role: Role, seen: RoleObservation, settings: ScalingSettings, current: int
) -> None:
    """Don't ask for more while what was asked for gets no machine: it would only queue there."""
    patience = settings.stuck_after * settings.startup
    if trail[role] > current and seen.replicas.pending and seen.replicas.oldest_pending > patience:
        waited = f"{seen.replicas.pending} pending for {seen.replicas.oldest_pending:.0f} s"
        trail.move(role, "pending", current, f"{waited}: more would find no room either")


def _remember_opinions(
    memory: Memory, trail: Trail, current: Mapping[Role, int], now: float
) -> Memory:
    roles = {}
    for role, one in memory.roles.items():
        # Whoever has just come takes the pool's present size for an opinion, as an HPA does.
        before = one.opinions or ((now, current[role]),)
        roles[role] = replace(one, opinions=(*before, (now, trail[role])))
    return replace(memory, roles=roles)


def _remember_changes(
    memory: Memory, current: Mapping[Role, int], wanted: Mapping[Role, int], now: float
) -> Memory:
    roles = {}
    for role, one in memory.roles.items():
        before, after = current[role], wanted[role]
        if before != after and (not one.asked or one.asked[-1] != after):
            one = replace(one, changes=(*one.changes, Change(now, before, after)))  # noqa: PLW2901
        asked = one.asked
        if not asked or asked[-1] != after:
            asked = (*asked, after)[-_ASKED:]
        roles[role] = replace(one, asked=asked)
    return replace(memory, roles=roles)
