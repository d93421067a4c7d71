"""What a ResourceClaim asks, as a role of one pod; v1, v1beta2, and v1beta1 without wrapper."""

from endpoints.allocation.needs import (
    DeviceConstraint,
    DeviceOption,
    DeviceRequest,
    RoleNeed,
    Toleration,
)
from endpoints.allocation.raw import (
    InventoryError,
    Raw,
    flag,
    integer,
    items,
    key_of,
    mapping,
    optional_text,
    quantity,
    text,
    texts,
)


def role_of_claim(item: Raw, name: str) -> RoleNeed:
    """A role with one pod that has this claim. Raises InventoryError, also for unknown modes."""
    at = f"ResourceClaim {key_of(item)}.spec.devices"
    devices = mapping(mapping(item, "spec", at), "devices", at)
    return RoleNeed(
        name,
        1,
        tuple(_request(one, place) for place, one in items(devices, "requests", at)),
        tuple(_constraint(one, place) for place, one in items(devices, "constraints", at)),
    )


def _request(item: Raw, at: str) -> DeviceRequest:
    name = text(item, "name", at)
    options = [
        _option(one, place, text(one, "name", place))
        for place, one in items(item, "firstAvailable", at)
    ]
    if options:
        return DeviceRequest(name, tuple(options))
    exact = mapping(item, "exactly", at) if "exactly" in item else item
    return DeviceRequest(name, (_option(exact, at, ""),), flag(exact, "adminAccess", at))


def _option(item: Raw, at: str, name: str) -> DeviceOption:
    mode = optional_text(item, "allocationMode", at) or "ExactCount"
    if mode not in {"ExactCount", "All"}:
        raise InventoryError(f"{at}.allocationMode: {mode!r} is unknown")
    requests = mapping(mapping(item, "capacity", at), "requests", f"{at}.capacity")
    return DeviceOption(
        text(item, "deviceClassName", at),
        name,
        None if mode == "All" else integer(item, "count", at, 1),
        tuple(
            text(mapping(one, "cel", place), "expression", f"{place}.cel")
            for place, one in items(item, "selectors", at)
        ),
        tuple(
            (key, quantity(value, f"{at}.capacity.requests[{key}]"))
            for key, value in requests.items()
        ),
        tuple(
            Toleration(
                str(one.get("key") or ""),
                str(one.get("operator") or "Equal"),
                str(one.get("value") or ""),
                str(one.get("effect") or ""),
            )
            for _, one in items(item, "tolerations", at)
        ),
    )


def _constraint(item: Raw, at: str) -> DeviceConstraint:
    match = optional_text(item, "matchAttribute", at)
    attribute = match or text(item, "distinctAttribute", at)
    return DeviceConstraint(attribute, texts(item, "requests", at), distinct=match is None)
