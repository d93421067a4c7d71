"""DeviceClasses and DeviceTaintRules."""

from typing import NamedTuple

from endpoints.allocation.devices import Device
from endpoints.allocation.raw import InventoryError, Raw, items, mapping, name_of, optional_text
from endpoints.allocation.taints import Taint, read_taints


class DeviceClass(NamedTuple):
    """A class: selectors that a device has to match beside the request's."""

    name: str
    selectors: tuple[str, ...]


class TaintRule(NamedTuple):
    """Taints for all devices that match every criterion that is given; None: not given."""

    name: str
    taints: tuple[Taint, ...]
    driver: str | None
    pool: str | None
    device: str | None

    def covers(self, device: Device) -> bool:
        """Whether the device has the rule's taints."""
        return (
            self.driver in (None, device.id.driver)
            and self.pool in (None, device.id.pool)
            and self.device in (None, device.id.device)
        )


def read_class(item: Raw) -> DeviceClass:
    """A DeviceClass. Raises InventoryError."""
    name = name_of(item)
    at = f"DeviceClass {name}.spec"
    selectors = []
    for place, one in items(mapping(item, "spec", f"DeviceClass {name}"), "selectors", at):
        expression = mapping(one, "cel", place).get("expression")
        if not isinstance(expression, str):
            raise InventoryError(f"{place}: is no CEL selector; nothing else is known")
        selectors.append(expression)
    return DeviceClass(name, tuple(selectors))


def read_taint_rule(item: Raw) -> TaintRule | None:
    """A DeviceTaintRule; None for one without selector, which covers nothing.

    Criteria that are not known here (a class, CEL) are left out, so the rule covers more devices
    rather than fewer: a device too few is planned on, not one too many.
    """
    name = name_of(item)
    at = f"DeviceTaintRule {name}.spec"
    spec = mapping(item, "spec", f"DeviceTaintRule {name}")
    if spec.get("deviceSelector") is None:
        return None
    selector = mapping(spec, "deviceSelector", at)
    taints = read_taints([(f"{at}.taint", mapping(spec, "taint", at))])
    driver, pool, device = (
        optional_text(selector, key, f"{at}.deviceSelector") for key in ("driver", "pool", "device")
    )
    return TaintRule(name, taints, driver, pool, device)
