"""Capacities of devices: how much there is, and what a request takes of a device that is shared."""

from collections.abc import Mapping
from typing import NamedTuple

from endpoints.allocation.raw import InventoryError, Raw, mapping, quantity


class RequestPolicy(NamedTuple):
    """How requests are rounded: to one of ``values``, or into a range by steps. In billionths."""

    default: int | None = None
    values: tuple[int, ...] = ()
    least: int | None = None
    most: int | None = None
    step: int | None = None

    def rounded(self, asked: int) -> int | None:
        """What a request takes; None when it is not eligible."""
        if self.values:
            return next((value for value in self.values if value >= asked), None)
        if self.least is None:
            return asked
        taken = max(asked, self.least)
        if self.step:
            taken = self.least - (self.least - taken) // self.step * self.step
        return None if self.most is not None and taken > self.most else taken


class Capacity(NamedTuple):
    """A fixed total, in billionths."""

    value: int
    policy: RequestPolicy | None = None

    def taken(self, asked: int | None) -> int | None:
        """What a request takes of it; without a wish the default, or all. None: not eligible."""
        if asked is None:
            whole = self.policy is None or self.policy.default is None
            return self.value if whole else self.policy.default  # type: ignore[union-attr]
        return asked if self.policy is None else self.policy.rounded(asked)


def read_capacity(item: Raw, at: str) -> Capacity:
    """A device's capacity."""
    policy = item.get("requestPolicy")
    if policy is None:
        return Capacity(quantity(item.get("value"), f"{at}.value"))
    if not isinstance(policy, Mapping):
        raise InventoryError(f"{at}.requestPolicy: is no mapping but {policy!r}")
    at_policy = f"{at}.requestPolicy"
    bounds = mapping(policy, "validRange", at_policy)

    def bound(holder: Raw, key: str) -> int | None:
        return None if holder.get(key) is None else quantity(holder[key], f"{at_policy}.{key}")

    return Capacity(
        quantity(item.get("value"), f"{at}.value"),
        RequestPolicy(
            default=bound(policy, "default"),
            values=tuple(
                sorted(
                    quantity(one, f"{at_policy}.validValues")
                    for one in policy.get("validValues") or ()
                )
            ),
            least=bound(bounds, "min"),
            most=bound(bounds, "max"),
            step=bound(bounds, "step"),
        ),
    )


def taken_of(
    capacity: Mapping[str, Capacity], asked: Mapping[str, int]
) -> tuple[tuple[str, int], ...] | None:
    """What a request takes of each capacity of a device that is shared; None: not eligible.

    ``asked`` is by qualified name; one that the device lacks makes it not eligible.
    """
    if asked.keys() - capacity.keys():
        return None
    found = []
    for name, one in capacity.items():
        taken = one.taken(asked.get(name))
        if taken is None or taken > one.value:
            return None
        found.append((name, taken))
    return tuple(found)
