"""What a pool's owner decides: objectives, bounds, pace and calendar. Times in seconds."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import time
from types import MappingProxyType
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from endpoints.scaling.role import Role

WEEKDAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")


def _positive(owner: str, name: str, value: float) -> None:
    if not value > 0:
        raise ValueError(f"{owner}: {name} is {value}; it must be greater than 0")


@dataclass(frozen=True, slots=True)
class Objective:
    """What users should feel.

    ``percentile`` of requests have their first token within ``ttft``
    and each further token within ``itl`` seconds.
    """

    ttft: float = 2.0
    itl: float = 0.050
    percentile: float = 0.9

    def __post_init__(self) -> None:
        _positive("objective", "ttft", self.ttft)
        _positive("objective", "itl", self.itl)
        if not 0.0 < self.percentile < 1.0:
            raise ValueError(
                f"objective: percentile is {self.percentile}; give a share such as 0.9"
            )


@dataclass(frozen=True, slots=True)
class Bounds:
    """Replicas of one role: ``least`` to ``most``, and what one ``costs`` of the budget."""

    least: int = 1
    most: int = 10
    costs: int = 1

    def __post_init__(self) -> None:
        if self.least < 0:
            raise ValueError(f"replicas: least is {self.least}; it must not be negative")
        if self.most < max(self.least, 1):
            raise ValueError(
                f"replicas: most is {self.most}; it must be at least 1 and at least the least "
                f"({self.least})"
            )
        if self.costs < 1:
            raise ValueError(f"replicas: costs is {self.costs}; it must be at least 1")


@dataclass(frozen=True, slots=True)
class Pace:
    """How fast one direction may go.

    Within ``period`` a pool changes by at most the larger of ``percent`` of its size and
    ``replicas``. A change must have been right throughout ``window``. After a change in the
    other direction nothing goes this way for ``reversal``.
    """

    percent: float
    replicas: int
    period: float
    window: float
    reversal: float

    def __post_init__(self) -> None:
        if self.percent < 0 or self.replicas < 0 or not (self.percent or self.replicas):
            raise ValueError("pace: percent and replicas must not be negative, nor both 0")
        _positive("pace", "period", self.period)
        if not self.window >= 0 or not self.reversal >= 0:
            raise ValueError("pace: window and reversal must not be negative")


@dataclass(frozen=True, slots=True)
class Hours:
    """Bounds at certain hours: from ``start`` to ``end`` (past midnight when earlier) on ``days``.

    ``least`` and ``most`` replace the role's own; None leaves them. The hours are of ``zone``.
    """

    name: str
    start: time
    end: time
    days: tuple[str, ...] = WEEKDAYS
    zone: str = "UTC"
    role: Role | None = None
    least: int | None = None
    most: int | None = None

    def __post_init__(self) -> None:
        unknown = [day for day in self.days if day not in WEEKDAYS]
        if unknown or not self.days:
            raise ValueError(f"hours {self.name!r}: days are {', '.join(WEEKDAYS)}, not {unknown}")
        try:
            ZoneInfo(self.zone)
        except (ZoneInfoNotFoundError, ValueError) as error:
            raise ValueError(f"hours {self.name!r}: no time zone {self.zone!r}") from error
        if self.start == self.end:
            raise ValueError(f"hours {self.name!r}: start and end are both {self.start}")
        if self.least is not None and self.most is not None and self.least > self.most:
            raise ValueError(f"hours {self.name!r}: least {self.least} is above most {self.most}")


@dataclass(frozen=True, slots=True)
class ScalingSettings:
    """One pool.

    - ``roles``: the scale targets and their bounds; prefill and decode go together;
    - ``budget``: the most that all roles together may cost; None: no limit;
    - ``interval``: between two decisions; ``startup``: until a new endpoint is ready;
    - ``utilisation``: share of what the model says an endpoint can do that is planned with;
    - ``margin``: what is planned for beyond the traffic that is expected, as a share of what is
      usual: the median of the last ``usual_memory`` seconds, or the present if that is less. So
      there is room for a jump from the usual, and none on top of one;
    - ``tolerance``: by how much a need must exceed a replica more, or leave one unused;
    - ``idle``: without any request for so long the pool goes to zero; None: never;
    - ``fresh``: signals older than this are stale; ``season``: seconds after which traffic
      repeats itself, for the forecast; None: it does not;
    - ``edit_hold``: after somebody else changed the target, theirs stands for so long;
    - ``stuck_after``: an endpoint not ready after so many times ``startup`` counts as failed.
    """

    roles: Mapping[Role, Bounds] = field(
        default_factory=lambda: MappingProxyType({Role.BOTH: Bounds()})
    )
    objective: Objective = field(default_factory=Objective)
    budget: int | None = None
    interval: float = 15.0
    startup: float = 120.0
    utilisation: float = 0.8
    margin: float = 0.6
    usual_memory: float = 3_600.0
    tolerance: float = 0.1
    up: Pace = field(
        default_factory=lambda: Pace(percent=100, replicas=4, period=15.0, window=0.0, reversal=0.0)
    )
    down: Pace = field(
        default_factory=lambda: Pace(
            percent=50, replicas=1, period=60.0, window=120.0, reversal=60.0
        )
    )
    calendar: tuple[Hours, ...] = ()
    idle: float | None = None
    fresh: float = 60.0
    season: float | None = 86_400.0
    edit_hold: float = 600.0
    stuck_after: float = 3.0

    def __post_init__(self) -> None:
        if not self.roles:
            raise ValueError("roles: name at least one")
        if Role.BOTH in self.roles and len(self.roles) > 1:
            raise ValueError("roles: both stands alone; prefill and decode go together")
        if Role.BOTH not in self.roles and len(self.roles) != 2:
            raise ValueError("roles: prefill needs decode, and decode needs prefill")
        for name in ("interval", "startup", "fresh", "stuck_after", "usual_memory"):
            _positive("scaling", name, getattr(self, name))
        if not 0.0 < self.utilisation <= 1.0:
            raise ValueError(f"scaling: utilisation is {self.utilisation}; give a share above 0")
        if not self.margin >= 0.0:
            raise ValueError(f"scaling: margin is {self.margin}; it must not be negative")
        if not 0.0 <= self.tolerance < 1.0:
            raise ValueError(f"scaling: tolerance is {self.tolerance}; give a share such as 0.1")
        if self.idle is not None:
            _positive("scaling", "idle", self.idle)
        if self.season is not None:
            _positive("scaling", "season", self.season)
        if self.edit_hold < 0:
            raise ValueError(f"scaling: edit_hold is {self.edit_hold}; it must not be negative")
        if self.budget is not None and self.budget < 1:
            raise ValueError(f"scaling: budget is {self.budget}; it must be at least 1")
