"""What a decision may not exceed: minimum and maximum, calendar, budget, and what can run."""

from collections.abc import Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from math import floor
from zoneinfo import ZoneInfo

from endpoints.scaling.ceiling import Ceiling
from endpoints.scaling.role import Role
from endpoints.scaling.settings import WEEKDAYS, Bounds, Hours, ScalingSettings
from endpoints.scaling.signals import Observation
from endpoints.scaling.trail import Trail


def applies(hours: Hours, wall: float) -> bool:
    """Whether the calendar's entry holds at ``wall``, seconds since 1970."""
    local = datetime.fromtimestamp(wall, ZoneInfo(hours.zone))
    at, day = local.time(), WEEKDAYS[local.weekday()]
    if hours.start < hours.end:
        return day in hours.days and hours.start <= at < hours.end
    yesterday = WEEKDAYS[(local - timedelta(days=1)).weekday()]
    evening = day in hours.days and at >= hours.start
    return evening or (yesterday in hours.days and at < hours.end)


def bounds_at(settings: ScalingSettings, role: Role, wall: float | None) -> tuple[Bounds, str]:
    """The role's bounds now, and the name of the calendar's entry that set them, or nothing.

    Of several entries that hold the last one counts. One that crosses the role's own bounds
    moves the other end with it.
    """
    found, named = settings.roles[role], ""
    if wall is None:
        return found, named
    for hours in settings.calendar:
        if hours.role not in {None, role} or not applies(hours, wall):
            continue
        least = found.least if hours.least is None else hours.least
        most = found.most if hours.most is None else hours.most
        if hours.least is not None and hours.most is None:
            most = max(most, least)
        least = min(least, most)
        found, named = replace(found, least=least, most=max(most, 1)), hours.name
    return found, named


def within_bounds(trail: Trail, settings: ScalingSettings, wall: float | None, idle: bool) -> None:
    """Keep each role between its least and its most; an idle pool may be empty."""
    for role in settings.roles:
        found, named = bounds_at(settings, role, wall)
        of = f" ({named})" if named else ""
        if trail[role] > found.most:
            trail.move(role, "most", found.most, f"at most {found.most} replicas{of}")
        if trail[role] < found.least and not idle:
            trail.move(role, "least", found.least, f"at least {found.least} replicas{of}")


def within_budget(trail: Trail, settings: ScalingSettings, wall: float | None) -> str | None:
    """Scale all roles down by one factor, so that no side gets it all; why nothing can be done.

    Each role keeps its least while that can be paid, and one replica otherwise; what is left
    goes to the role that got the smallest share of its need.
    """
    budget, costs = settings.budget, {role: one.costs for role, one in settings.roles.items()}
    needs = trail.counts
    total = sum(needs[role] * costs[role] for role in needs)
    if budget is None or total <= budget:
        return None
    floors = {role: min(bounds_at(settings, role, wall)[0].least, needs[role]) for role in needs}
    if sum(floors[role] * costs[role] for role in needs) > budget:
        floors = {role: min(1, needs[role]) for role in needs}
    if sum(floors[role] * costs[role] for role in needs) > budget:
        wanted = " and ".join(f"one {role.value} ({costs[role]})" for role in needs)
        return f"the budget of {budget} does not pay for {wanted}"
    factor = budget / total
    counts = {role: max(floor(needs[role] * factor), floors[role]) for role in needs}
    while sum(counts[role] * costs[role] for role in counts) > budget:
        richest = max(
            (role for role in counts if counts[role] > floors[role]),
            key=lambda role: counts[role] / needs[role],
        )
        counts[richest] -= 1
    while True:
        left = budget - sum(counts[role] * costs[role] for role in counts)
        open_ = [role for role in counts if counts[role] < needs[role] and costs[role] <= left]
        if not open_:
            break
        counts[min(open_, key=lambda role: counts[role] / needs[role])] += 1
    for role, count in counts.items():
        trail.move(role, "budget", count, f"{total} are needed, the budget is {budget}")
    return None


def within_ceiling(
    trail: Trail,
    ceiling: Mapping[Role, Ceiling] | None,
    observation: Observation,
    current: Mapping[Role, int],
) -> None:
    """Ask for no more than can run; what is ready runs, whatever an inventory says of it.

    What others would make room for counts: they do so only once it is asked for.

    A role that gets a share of its need holds its partner to that share: what one side can't
    take up, the other would do in vain.
    """
    if not ceiling:
        return
    share = 1.0
    needs = trail.counts
    for role, limit in ceiling.items():
        if role not in needs:
            continue
        most = max(limit.now, limit.after_preemption, observation.role(role).replicas.ready)
        if needs[role] > most:
            now = f", {limit.now} of them now" if limit.now < limit.after_preemption else ""
            reason = f"no more than {most} can run{now}: {limit.reason}"
            trail.move(role, "ceiling", most, reason)
            share = min(share, most / needs[role])
    if share < 1.0 and len(needs) > 1:
        for role, need in needs.items():
            fair = max(-floor(-need * share), 1)
            if trail[role] > max(fair, current[role]):
                trail.move(
                    role,
                    "partner",
                    max(fair, current[role]),
                    f"its partner gets {share:.0%} of what it needs",
                )
