"""What gateways tell the one that leads: their share of a pool's traffic. Pure.

Each gateway sees its own clients only. The leader decides for all of them, so the others write
what they see into annotations of the Lease that it reads anyway::

    traffic.inferway.dev/GATEWAY: {"seq": 17, "pools": {"chat": {"held": 0, "idle": 0.0,
                                   "roles": {"both": [2.5, 4.0, 1800.0]}}}}

A role has its arrival rate, requests in flight and queued tokens. Clocks never have to agree: a
share is fresh while its ``seq`` is seen to change.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from math import inf, isfinite
from typing import Any, Final

import msgspec

from endpoints.scaling.role import Role
from endpoints.scaling.signals import MISSING, Observation, RoleObservation, Signal, Standing

PREFIX: Final = "traffic.inferway.dev/"
FRESH_SECONDS: Final = 15.0
"""A share that has not changed for so long is of a gateway that is gone."""
FORGET_SECONDS: Final = 600.0


class _Pool(msgspec.Struct):
    held: int = 0
    idle: float | None = None
    roles: dict[str, tuple[float, float, float]] = {}


class _Said(msgspec.Struct):
    seq: int
    pools: dict[str, _Pool] = {}


@dataclass(frozen=True, slots=True)
class Share:
    """One gateway's part of one pool. ``roles``: arrival rate, in flight, queued tokens."""

    held: int = 0
    idle: float = inf
    roles: Mapping[Role, tuple[float, float, float]] = field(default_factory=dict)


def share_of(observation: Observation) -> Share:
    """What one gateway tells of what it sees."""
    return Share(
        observation.held,
        observation.idle_for,
        {
            role: (
                seen.arrival_rate.or_else(0.0),
                seen.in_flight.or_else(0.0),
                seen.queued_tokens.or_else(0.0),
            )
            for role, seen in observation.roles.items()
        },
    )


def written(shares: Mapping[str, Share], seq: int) -> str:
    """The annotation's text."""
    said = _Said(
        seq,
        {
            pool: _Pool(
                share.held,
                share.idle if isfinite(share.idle) else None,
                {role.value: numbers for role, numbers in share.roles.items()},
            )
            for pool, share in shares.items()
        },
    )
    return msgspec.json.encode(said).decode()


@dataclass(slots=True)
class _Heard:
    text: str
    at: float
    shares: Mapping[str, Share]


class Others:
    """What the other gateways said, and when it was news."""

    def __init__(self) -> None:
        self._heard: dict[str, _Heard] = {}

    def saw(self, annotations: Mapping[str, Any], own: str, now: float) -> bool:
        """The Lease's annotations, ``own`` ours; whether somebody began to hold requests."""
        said = {
            key: str(text)
            for key, text in annotations.items()
            if key.startswith(PREFIX) and key != own
        }
        for key in self._heard.keys() - said.keys():
            del self._heard[key]
        held = self._held(now)
        for key, text in said.items():
            known = self._heard.get(key)
            if known is None or known.text != text:
                self._heard[key] = _Heard(text, now, _read(text))
        return self._held(now) > held

    def of(self, pool: str, now: float) -> tuple[Share, ...]:
        """The fresh shares of a pool."""
        return tuple(
            heard.shares[pool]
            for heard in self._heard.values()
            if now - heard.at <= FRESH_SECONDS and pool in heard.shares
        )

    def stale(self, now: float) -> tuple[str, ...]:
        """Annotations that nobody has changed for so long that they can be taken away."""
        return tuple(key for key, one in self._heard.items() if now - one.at > FORGET_SECONDS)

    def _held(self, now: float) -> int:
        return sum(
            share.held
            for heard in self._heard.values()
            if now - heard.at <= FRESH_SECONDS
            for share in heard.shares.values()
        )


class TrafficNotes(Others):
    """The notes that gateways leave on the Lease: their ``shares``, numbered."""

    def __init__(self, shares: Callable[[], Mapping[str, Share]]) -> None:
        super().__init__()
        self._shares = shares
        self._seq = 0

    def key(self, identity: str) -> str:
        """The annotation that is that gateway's."""
        return PREFIX + identity

    def text(self) -> str:
        """What we see now."""
        self._seq += 1
        return written(self._shares(), self._seq)


def together(own: Observation, shares: tuple[Share, ...]) -> Observation:
    """The pool as all gateways see it together. What none can add up stays as we see it."""
    if not shares:
        return own
    return replace(
        own,
        held=own.held + sum(share.held for share in shares),
        idle_for=min(own.idle_for, *(share.idle for share in shares)),
        roles={role: _added(role, seen, shares, own.at) for role, seen in own.roles.items()},
    )


def _added(
    role: Role, seen: RoleObservation, shares: tuple[Share, ...], now: float
) -> RoleObservation:
    told = [share.roles[role] for share in shares if role in share.roles]
    rate, in_flight, queued = (sum(one[at] for one in told) for at in range(3))
    return replace(
        seen,
        arrival_rate=_plus(seen.arrival_rate, rate, now),
        forecast_rate=_plus(seen.forecast_rate, rate, now),
        forecast_high=_plus(seen.forecast_high, rate, now),
        in_flight=_plus(seen.in_flight, in_flight, now),
        queued_tokens=_plus(seen.queued_tokens, queued, now),
    )


def _plus(signal: Signal, more: float, now: float) -> Signal:
    """More of it; where we know nothing ourselves, at least that."""
    if more <= 0.0:
        return signal
    if signal is MISSING or signal.standing is Standing.MISSING:
        return Signal(Standing.VALUE, more, now)
    return replace(signal, number=signal.number + more)


def _read(text: str) -> Mapping[str, Share]:
    """What was said; nothing when it can't be read, which is another version's business."""
    try:
        said = msgspec.json.decode(text, type=_Said)
    except (msgspec.DecodeError, UnicodeError):
        return {}
    known = {role.value: role for role in Role}
    return {
        pool: Share(
            max(one.held, 0),
            inf if one.idle is None else max(one.idle, 0.0),
            {
                known[role]: numbers
                for role, numbers in one.roles.items()
                if role in known and all(number >= 0.0 for number in numbers)
            },
        )
        for pool, one in said.pools.items()
    }
