"""One role's members on their way out, from the choice of a victim to its end.

    MEMBER ──retire──► DRAINING ──drained──► ENDING ──gone──► (no member any more)
       ▲                   │                    │
       └──────restore──────┴─────── too late ───┘

DRAINING members are still counted by their target; ENDING ones are not, and are expected to go.
A victim that is drained and can't be taken off the number for `PATIENCE`, or is off the number
and stays, serves again: a machine that runs and gets nothing is the one thing nobody wants.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from endpoints.discovery.keeper import FleetKeeper
from endpoints.scaling.actuators.actuator import Member, Phase, Target
from endpoints.scaling.role import Role
from endpoints.scaling.signals import Replicas
from routing.endpoint import EndpointState, Health
from routing.fleet import Fleet

PATIENCE: Final = 60.0
"""Seconds that a drained victim may stand idle before it serves again."""


@dataclass(slots=True)
class Going:
    """One member on its way out. ``ending_since``: when it was taken off the number."""

    member: Member
    since: float
    reason: str
    drained_at: float | None = None
    ending_since: float | None = None
    cut: int = 0


class Shrinking:
    """Those of one role that go, in the order in which they were retired."""

    def __init__(self, role: Role, keeper: FleetKeeper, grace: float) -> None:
        self.role = role
        self.ended = 0
        """Members that went, ever."""
        self.cut = 0
        """Requests that were still in flight when a grace period was over, ever."""
        self._keeper = keeper
        self._grace = grace
        self._going: dict[str, Going] = {}

    @property
    def going(self) -> Sequence[Going]:
        """All of them."""
        return tuple(self._going.values())

    @property
    def draining(self) -> Sequence[str]:
        """Members that the target's number still counts."""
        return [name for name, going in self._going.items() if going.ending_since is None]

    @property
    def drained(self) -> Sequence[str]:
        """Those of them that may be ended."""
        return [name for name in self.draining if self._going[name].drained_at is not None]

    def __contains__(self, member: str) -> bool:
        return member in self._going

    def retire(self, member: Member, reason: str, now: float) -> None:
        """Give a member nothing new from now on."""
        if member.name in self._going:
            return
        self._going[member.name] = Going(member, now, reason)
        for endpoint in member.endpoints:
            self._keeper.retire(endpoint, self._grace)

    def restore(self, names: Iterable[str]) -> None:
        """Let members serve again."""
        for name in names:
            going = self._going.pop(name, None)
            if going is not None:
                for endpoint in going.member.endpoints:
                    self._keeper.restore(endpoint)

    def ending(self, names: Iterable[str], now: float) -> None:
        """These were taken off the number."""
        for name in names:
            going = self._going[name]
            going.ending_since = now
            self.cut += going.cut

    def progress(self, now: float) -> Sequence[str]:
        """See who is drained by now; returns those that have stood idle for too long."""
        late = []
        for name, going in self._going.items():
            if going.drained_at is None:
                leaving = [self._keeper.leaving(one) for one in going.member.endpoints]
                if all(one is None or one.drained for one in leaving):
                    going.drained_at = now
                    going.cut = sum(one.cut for one in leaving if one is not None)
            since = going.drained_at if going.ending_since is None else going.ending_since
            if since is not None and now - since > PATIENCE:
                late.append(name)
        return late

    def saw(self, target: Target) -> None:
        """What exists now: who is gone is not on its way any more."""
        members = {member.name: member for member in target.members}
        for name, going in list(self._going.items()):
            member = members.get(name)
            if member is None or member.phase is Phase.LEAVING:
                del self._going[name]
                self.ended += 1
                if going.ending_since is None:
                    self.cut += going.cut
                continue
            joined = [one for one in member.endpoints if one not in going.member.endpoints]
            if joined:  # it was not in the fleet yet when it was retired
                going.member = replace(member, endpoints=(*going.member.endpoints, *joined))
                going.drained_at = None
                for endpoint in joined:
                    self._keeper.retire(endpoint, self._grace)


def members_of(target: Target, shrinking: Shrinking) -> Sequence[Member]:
    """The members that the number counts, those that drain included."""
    ending = {going.member.name for going in shrinking.going if going.ending_since is not None}
    return [
        member
        for member in target.members
        if member.phase is not Phase.LEAVING and member.name not in ending
    ]


def replicas_of(target: Target, shrinking: Shrinking, fleet: Fleet, now: float) -> Replicas:
    """The role's endpoints by what they are doing; what drains counts as given up already."""
    counts = dict.fromkeys(("ready", "starting", "pending", "failing"), 0)
    ages = {"starting": 0.0, "pending": 0.0}
    draining = len(target.members)
    for member in members_of(target, shrinking):
        if member.name in shrinking:
            continue
        draining -= 1
        doing = _doing(member, fleet)
        counts[doing] += 1
        if doing in ages:
            ages[doing] = max(ages[doing], now - member.since)
    return Replicas(
        ready=counts["ready"],
        starting=counts["starting"],
        pending=counts["pending"],
        failing=counts["failing"],
        draining=draining,
        target=max(target.replicas - len(shrinking.draining), 0),
        oldest_pending=ages["pending"],
        oldest_starting=ages["starting"],
    )


def _doing(member: Member, fleet: Fleet) -> str:
    if member.phase is Phase.PENDING:
        return "pending"
    if member.phase is Phase.FAILING:
        return "failing"
    states = [fleet.get(name) for name in member.endpoints]
    if states and all(state is not None and _serves(state) for state in states):
        return "ready"
    if any(
        state is not None and state.answered_at >= 0.0 and not _serves(state) for state in states
    ):
        return "failing"  # it served once
    return "starting"


def _serves(state: EndpointState) -> bool:
    return state.health is Health.HEALTHY
