"""A decision put into words: its inputs, its summary, and what would change it."""

from collections.abc import Mapping, Sequence
from dataclasses import fields

from endpoints.scaling.receipt import Bound, Candidate, Input
from endpoints.scaling.role import Role
from endpoints.scaling.settings import ScalingSettings
from endpoints.scaling.signals import Observation, RoleObservation, Signal, Standing

_SIGNALS = tuple(
    one.name for one in fields(RoleObservation) if one.name not in {"replicas", "endpoints"}
)
_COUNTS = ("ready", "starting", "pending", "failing", "draining")


def inputs(observation: Observation, now: float) -> tuple[Input, ...]:
    """Every signal and count of every role, missing ones included."""
    made = []
    for role, seen in observation.roles.items():
        for name in _COUNTS:
            count = float(getattr(seen.replicas, name))
            made.append(Input(role, name, Standing.VALUE.value, count, 0.0))
        for name in _SIGNALS:
            signal: Signal = getattr(seen, name)
            known = signal.standing is not Standing.MISSING
            made.append(
                Input(
                    role,
                    name,
                    signal.standing.value,
                    signal.number if known else None,
                    now - signal.at if known else None,
                )
            )
    return tuple(made)


def summary(
    current: Mapping[Role, int],
    wanted: Mapping[Role, int],
    candidates: Sequence[Candidate],
    bounds: Sequence[Bound],
    held: str | None,
) -> str:
    """One sentence for a log line."""
    if held is not None:
        return f"held: {held}"
    parts = []
    for role, count in wanted.items():
        last = [bound for bound in bounds if bound.role is role]
        if count == current[role]:
            why = f" ({last[-1].name}: {last[-1].reason})" if last else ""
            parts.append(f"{role.value} stays at {count}{why}")
        else:
            why = last[-1].reason if last else "needed"
            parts.append(f"{role.value} {current[role]} -> {count}: {why}")
    return "; ".join(parts)


def outlook(
    observation: Observation,
    settings: ScalingSettings,
    candidates: Sequence[Candidate],
    bounds: Sequence[Bound],
    held: str | None,
) -> tuple[str, ...]:
    """What would have to be different for another outcome, most binding first."""
    found = []
    if held is not None:
        found.append(f"once this is over: {held}")
    for bound in reversed(bounds):
        if bound.name == "need":
            continue
        found.append(f"{bound.role.value}: without {bound.name} it would be {bound.before}")
    found += [
        f"{one.role.value}: the {one.name} candidate can't tell: {one.reason}"
        for one in candidates
        if one.replicas is None
    ]
    for role, seen in observation.roles.items():
        rate = seen.arrival_rate.value
        if rate is not None and not bounds:
            percent = settings.tolerance
            found.append(f"{role.value}: traffic that moves by more than about {percent:.0%}")
    return tuple(found)
