"""ResourceClaims: which devices they hold, and for which of our replicas."""

from typing import NamedTuple

from endpoints.allocation.holdings import POOL_LABEL, REPLICA_LABEL, ROLE_LABEL
from endpoints.allocation.plan import DeviceId
from endpoints.allocation.raw import Raw, flag, items, key_of, mapping, qualified, quantity, text


class Use(NamedTuple):
    """One device of a claim. ``consumed`` is not empty for a device that is shared."""

    device: DeviceId
    admin: bool
    consumed: tuple[tuple[str, int], ...] = ()


class Claim(NamedTuple):
    """What a claim holds; nothing while it is not allocated. Labels are empty where missing."""

    key: str
    uses: tuple[Use, ...]
    pool: str = ""
    role: str = ""
    replica: str = ""


def read_claim(item: Raw) -> Claim:
    """A ResourceClaim of any version: its status is the same in all. Raises InventoryError."""
    key = key_of(item)
    at = f"ResourceClaim {key}"
    allocation = mapping(mapping(item, "status", at), "allocation", f"{at}.status")
    devices = mapping(allocation, "devices", f"{at}.status.allocation")
    labels = mapping(mapping(item, "metadata", at), "labels", f"{at}.metadata")
    uses = []
    for place, one in items(devices, "results", f"{at}.status.allocation.devices"):
        driver = text(one, "driver", place)
        consumed = mapping(one, "consumedCapacity", place)
        uses.append(
            Use(
                DeviceId(driver, text(one, "pool", place), text(one, "device", place)),
                flag(one, "adminAccess", place),
                tuple(
                    (qualified(name, driver), quantity(value, f"{place}.consumedCapacity[{name}]"))
                    for name, value in consumed.items()
                ),
            )
        )
    return Claim(
        key,
        tuple(uses),
        str(labels.get(POOL_LABEL, "")),
        str(labels.get(ROLE_LABEL, "")),
        str(labels.get(REPLICA_LABEL, "")),
    )
