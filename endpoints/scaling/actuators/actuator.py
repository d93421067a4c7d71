"""The contract of an actuator: what a scale target is now, and how it is changed.

A *target* is whatever has a number of replicas that can be set: a Deployment, a StatefulSet, a
process template. Its *members* are the replicas that exist. Whoever changes a number says which
state of the target that was decided on; if the target has moved on, nothing is done.

Members leave by one contract. The controller announces those that shall go (`Actuator.announce`),
has them drained, and asks for a smaller number only when they are; `Actuator.removable` says
which of the announced ones a smaller number would really end, since not every target can choose.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Protocol


class Phase(Enum):
    """How far a member is, as its target's side sees it."""

    PENDING = "pending"  # asked for, no machine yet
    RUNNING = "running"  # it runs; whether it serves, probes tell
    FAILING = "failing"  # it ends again and again, or does not start
    LEAVING = "leaving"  # it is being ended


@dataclass(frozen=True, slots=True)
class Member:
    """One replica. ``endpoints``: the names it has, or will have, in the fleet.

    ``since``: when it came (the controller's clock). ``announced``: it was said that it shall go.
    """

    name: str
    endpoints: tuple[str, ...]
    phase: Phase = Phase.RUNNING
    since: float = 0.0
    announced: bool = False


@dataclass(frozen=True, slots=True)
class Target:
    """A scale target at one moment.

    ``version`` says which moment; ``owner`` names in words who else scales it (an HPA, ...):
    then it must be left alone. None: nobody does.
    """

    replicas: int
    version: str
    members: tuple[Member, ...] = ()
    owner: str | None = None


class ActuatorError(Exception):
    """The target can't be read or changed now; the message says why. Try again later."""


class MovedError(ActuatorError):
    """The target is not what the change was decided on: look again."""


class Actuator(Protocol):
    """One scale target. All methods but `removable` may raise `ActuatorError`."""

    @property
    def name(self) -> str:
        """The target in words, such as ``Deployment inference/decode``."""

    async def look(self) -> Target:
        """The target as it is now."""

    def choosable(self, target: Target, count: int) -> Sequence[Member] | None:
        """Who goes when the number falls by ``count``; None: whoever is announced."""

    def removable(self, target: Target, drained: Collection[str]) -> Sequence[str]:
        """Those of the drained members that a smaller number would end now."""

    async def announce(self, target: Target, leaving: Sequence[str]) -> None:
        """Say which members shall go, the first first, and that no other one shall.

        Called whenever that changes, and again after a change of leader: it must be idempotent.
        """

    async def scale(self, target: Target, replicas: int, removed: Sequence[str]) -> None:
        """Want so many. ``removed``: the members that are to be ended by it.

        `MovedError`, and nothing done, when the target is not ``target`` any more.
        """

    async def tell_need(self, needed: int) -> None:
        """So many would be wanted if nothing were short: of use where need decides who gets it."""

    async def close(self) -> None:
        """Let go of whatever is held; harmless when nothing is."""
