"""How fast the size may change: stabilisation windows, rate limits, no turning back too soon.

The windows are those of the HPA (autoscaling/v2): going down uses the largest opinion of the
window, going up the smallest, so a moment's opinion changes nothing. The rate limits are, too:
within a period the size may change by the larger of a percentage and a number.
"""

from collections.abc import Sequence
from math import ceil, floor
from typing import Final

from endpoints.scaling.memory import Change, RoleMemory
from endpoints.scaling.role import Role
from endpoints.scaling.settings import Pace, ScalingSettings
from endpoints.scaling.trail import Trail

FOREVER: Final = 1e9


def stabilised(
    current: int, opinions: Sequence[tuple[float, int]], up: float, down: float, now: float
) -> int:
    """``current``, or what has been right throughout the window of that direction."""
    latest = opinions[-1][1] if opinions else current
    least = min((count for at, count in opinions if at > now - up), default=latest)
    least = min(least, latest)
    most = max((count for at, count in opinions if at >= now - down), default=current)
    if current < least:
        return least
    return most if current > most else current


def furthest(current: int, changes: Sequence[Change], pace: Pace, now: float, up: bool) -> int:
    """The size that the pace allows now, counting what was changed within its period."""
    recent = [change for change in changes if change.at > now - pace.period]
    same = [change for change in recent if (change.after > change.before) is up]
    start = same[0].before if same else current
    step = max(start * pace.percent / 100.0, float(pace.replicas))
    if up:
        return max(current, ceil(start + step))
    return min(current, floor(start - step))


def paced(
    trail: Trail,
    role: Role,
    current: int,
    memory: RoleMemory,
    settings: ScalingSettings,
    now: float,
) -> None:
    """Bring the role's number to what windows, rates and turns allow."""
    called = trail[role]
    steady = stabilised(current, memory.opinions, settings.up.window, settings.down.window, now)
    if steady != called:
        window = settings.up.window if called > current else settings.down.window
        trail.move(role, "window", steady, f"not right throughout the last {window:g} s")
    wanted = trail[role]
    if wanted == current:
        return
    rising = wanted > current
    pace = settings.up if rising else settings.down
    against = [change for change in memory.changes if (change.after > change.before) is not rising]
    turned = against[-1].at if against else -FOREVER
    if now - turned < pace.reversal:
        way = "down" if rising else "up"
        trail.move(
            role, "reversal", current, f"it went {way} {now - turned:.0f} s ago, and stays a while"
        )
        return
    most = furthest(current, memory.changes, pace, now, rising)
    if rising and wanted > most:
        trail.move(role, "up.rate", most, _limit(pace))
    elif not rising and wanted < most:
        trail.move(role, "down.rate", most, _limit(pace))


def _limit(pace: Pace) -> str:
    return f"at most {pace.percent:g} % or {pace.replicas} in {pace.period:g} s"
