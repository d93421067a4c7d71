"""Plans that were made and that the cluster does not show yet: reserved, for a time.

Between a plan and its claims' status lie seconds or minutes in which the devices look free. A
reservation keeps others off them until the claims show the allocation, or until it expires.
"""

from collections.abc import Iterable, Iterator

from msgspec import Struct

from endpoints.allocation.plan import DeviceId, Plan

DEFAULT_TTL = 300.0


def reservation_key(namespace: str, replica: str) -> str:
    """What the ledger knows a replica's plan by."""
    return f"{namespace}/{replica}"


class Reservation(Struct, frozen=True):
    """One plan's hold on its devices until ``expires`` (seconds, on the caller's clock)."""

    key: str
    plan: Plan
    expires: float


class Ledger:
    """Reservations by key (``namespace/replica``), each idempotent; expired ones count as gone.

    ``version`` grows with each change, so that who caches what is free knows when to look again.
    """

    def __init__(self) -> None:
        self._held: dict[str, Reservation] = {}
        self.version = 0

    def reserve(self, key: str, plan: Plan, now: float, ttl: float = DEFAULT_TTL) -> Reservation:
        """Hold the plan's devices; replaces what was held under the key.

        ValueError when a device is held by another key: the plan was made on an older view.
        """
        self.expire(now)
        others = {
            device: held.key
            for held in self._held.values()
            if held.key != key
            for device in held.plan.exclusive_devices()
        }
        for device in plan.exclusive_devices():
            if device in others:
                raise ValueError(f"{device} is reserved by {others[device]}; plan again")
        held = Reservation(key, plan, now + ttl)
        self._held[key] = held
        self.version += 1
        return held

    def release(self, key: str) -> Reservation | None:
        """The claims show it, or the plan was given up; what was held."""
        held = self._held.pop(key, None)
        if held is not None:
            self.version += 1
        return held

    def settle(self, shown: Iterable[str]) -> None:
        """Release those whose claims show all that was planned: ``shown`` are their keys."""
        for key in shown:
            self.release(key)

    def expire(self, now: float) -> list[Reservation]:
        """Drop and return those whose time is over."""
        over = [held for held in self._held.values() if held.expires <= now]
        for held in over:
            self.release(held.key)
        return over

    def active(self, now: float) -> Iterator[Reservation]:
        """Those that hold at ``now``."""
        return (held for held in self._held.values() if held.expires > now)

    def holder(self, device: DeviceId, now: float) -> str | None:
        """The key that holds a device at ``now``; None: nobody."""
        for held in self.active(now):
            if device in held.plan.devices():
                return held.key
        return None

    def __len__(self) -> int:
        return len(self._held)
