"""Devices, as small as they can be kept: 80,000 of them are one cluster.

What equal devices share (product, memory, ...) is one `Shape`; what tells them apart (a UUID) is
the device's own. Which attributes are which is learned: one that takes many values becomes own.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple
from weakref import WeakValueDictionary

from endpoints.allocation.capacities import Capacity, read_capacity
from endpoints.allocation.nodes import Node, NodeSelector, read_node_selector
from endpoints.allocation.plan import DeviceId
from endpoints.allocation.raw import (
    InventoryError,
    Raw,
    flag,
    items,
    mapping,
    optional_text,
    qualified,
    quantity,
    text,
    texts,
)
from endpoints.allocation.selectors import DeviceView, Outcome
from endpoints.allocation.selectors.functions import CelValue, quantity_value, semver_value
from endpoints.allocation.semver import Semver, parse_semver
from endpoints.allocation.taints import Taint, read_taints

Value = bool | int | str | Semver | tuple[bool | int | str | Semver, ...]
Counters = tuple[tuple[str, str, int], ...]
"""What a device consumes: (counter set, counter, billionths)."""
_MANY_VALUES = 128


class Scope(NamedTuple):
    """Which nodes see a device: one by name, those of a selector, or all."""

    node: str | None = None
    selector: NodeSelector | None = None
    everywhere: bool = False

    def covers(self, node: Node) -> bool:
        """Whether the node sees it."""
        if self.node is not None:
            return node.name == self.node
        return self.everywhere or (self.selector is not None and self.selector.matches(node))


class Shape:
    """What many devices have in common. ``outcomes`` caches what selectors say of them all."""

    __slots__ = ("__weakref__", "attributes", "capacity", "driver", "multiple", "outcomes", "view")

    def __init__(
        self,
        driver: str,
        attributes: Mapping[str, Value],
        capacity: Mapping[str, Capacity],
        multiple: bool,
    ) -> None:
        self.driver = driver
        self.attributes = attributes
        self.capacity = capacity
        self.multiple = multiple
        self.outcomes: dict[str, Outcome] = {}
        nested = nested_by_domain({key: plain(value) for key, value in attributes.items()})
        sizes = {key: quantity_value(one.value) for key, one in capacity.items()}
        self.view = DeviceView(driver, nested, nested_by_domain(sizes), multiple)


class Device:
    """One device. ``own`` are the attributes that its shape does not hold, by qualified name."""

    __slots__ = (
        *("binding", "binds_to_node", "consumes", "id", "own", "scope", "shape", "taints"),
    )

    def __init__(
        self,
        id_: DeviceId,
        shape: Shape,
        own: tuple[tuple[str, Value], ...],
        scope: Scope,
        consumes: Counters = (),
        taints: tuple[Taint, ...] = (),
        binding: tuple[str, ...] = (),
        binds_to_node: bool = False,
    ) -> None:
        self.id = id_
        self.shape = shape
        self.own = own
        self.scope = scope
        self.consumes = consumes
        self.taints = taints
        self.binding = binding
        self.binds_to_node = binds_to_node

    def attribute(self, name: str) -> Value | None:
        """An attribute's value by qualified name; None when it is not published."""
        for key, value in self.own:
            if key == name:
                return value
        return self.shape.attributes.get(name)

    def view(self) -> DeviceView:
        """As selectors see it."""
        view = self.shape.view
        if not self.own:
            return view
        attributes = {domain: dict(values) for domain, values in view.attributes.items()}
        for key, value in self.own:
            domain, _, name = key.partition("/")
            attributes.setdefault(domain, {})[name] = plain(value)
        return view._replace(attributes=attributes)


def plain(value: Value) -> CelValue:
    """A value as selectors see it."""
    if isinstance(value, Semver):
        return semver_value(value)
    return [plain(one) for one in value] if isinstance(value, tuple) else value


def nested_by_domain(values: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """``domain/name`` keys as two levels."""
    found: dict[str, dict[str, Any]] = {}
    for key, value in values.items():
        domain, _, name = key.partition("/")
        found.setdefault(domain, {})[name] = value
    return found


class Interner:
    """Makes shapes, each once for as long as a device has it."""

    def __init__(self) -> None:
        self._shapes: WeakValueDictionary[tuple[object, ...], Shape] = WeakValueDictionary()
        self._seen: dict[str, set[Value]] = {}
        self._own: set[str] = set()
        self._texts: dict[str, str] = {}

    def own_names(self) -> frozenset[str]:
        """The attributes that take many values."""
        return frozenset(self._own)

    def shared(self, name: str) -> str:
        """A name that many objects have, once in memory."""
        return self._texts.setdefault(name, name)

    def shape(
        self,
        driver: str,
        attributes: dict[str, Value],
        capacity: dict[str, Capacity],
        multiple: bool,
    ) -> tuple[Shape, tuple[tuple[str, Value], ...]]:
        """The shape for what a device publishes, and what stays its own."""
        own = []
        for name, value in attributes.items():
            if name in self._own:
                own.append((name, value))
            elif isinstance(value, str | int) and not isinstance(value, bool):
                seen = self._seen.setdefault(name, set())
                seen.add(value)
                if len(seen) > _MANY_VALUES:
                    self._own.add(name)
                    del self._seen[name]
                    own.append((name, value))
        for name, _ in own:
            del attributes[name]
        # True equals 1 in Python, and is no integer in Kubernetes.
        typed = frozenset((name, type(value), value) for name, value in attributes.items())
        key = (driver, typed, frozenset(capacity.items()), multiple)
        shape = self._shapes.get(key)
        if shape is None:
            shape = Shape(driver, attributes, capacity, multiple)
            self._shapes[key] = shape
        return shape, tuple(own)


def read_device(
    item: Raw, at: str, driver: str, pool: str, scope: Scope | None, interner: Interner
) -> Device:
    """A device of a slice, v1 and v1beta2 or v1beta1 (below ``basic``).

    ``scope`` None: the device says itself which nodes see it. Raises InventoryError.
    """
    name = text(item, "name", at)
    at = f"{at} ({name})"
    content = mapping(item, "basic", at) if "basic" in item else item
    attributes: dict[str, Value] = {}
    for key, raw in mapping(content, "attributes", at).items():
        value = _value(raw, f"{at}.attributes[{key}]")
        if value is not None:
            attributes[interner.shared(qualified(key, driver))] = value
    capacity = {
        interner.shared(qualified(key, driver)): read_capacity(raw, f"{at}.capacity[{key}]")
        for key, raw in mapping(content, "capacity", at).items()
    }
    shape, own = interner.shape(
        driver, attributes, capacity, flag(content, "allowMultipleAllocations", at)
    )
    return Device(
        DeviceId(driver, pool, name),
        shape,
        own,
        scope if scope is not None else read_scope(content, at),
        _counters(items(content, "consumesCounters", at), interner),
        read_taints(items(content, "taints", at)),
        texts(content, "bindingConditions", at),
        flag(content, "bindsToNode", at),
    )


def read_scope(item: Raw, at: str) -> Scope:
    """Of a slice or a device: nodeName, nodeSelector or allNodes. Raises InventoryError."""
    node = optional_text(item, "nodeName", at)
    if node is not None:
        return Scope(node=node)
    if item.get("nodeSelector") is not None:
        selector = mapping(item, "nodeSelector", at)
        return Scope(selector=read_node_selector(selector, f"{at}.nodeSelector"))
    if flag(item, "allNodes", at):
        return Scope(everywhere=True)
    raise InventoryError(f"{at}: says of no node that it sees it; nodeName, nodeSelector, allNodes")


def _value(raw: object, at: str) -> Value | None:
    """None for a kind of value that is not known here: as if it was not published."""
    if not isinstance(raw, Mapping):
        raise InventoryError(f"{at}: is no attribute but {raw!r}")
    for kind, type_ in (("int", int), ("bool", bool), ("string", str), ("version", str)):
        one, many = raw.get(kind), raw.get(f"{kind}s")
        if one is not None:
            return _single(one, kind, type_, at)
        if many is not None:
            if not isinstance(many, list):
                raise InventoryError(f"{at}.{kind}s: is no list but {many!r}")
            return tuple(_single(each, kind, type_, at) for each in many)
    return None


def _single(value: object, kind: str, type_: type, at: str) -> bool | int | str | Semver:
    if type(value) is not type_:
        raise InventoryError(f"{at}.{kind}: is {value!r}")
    if kind != "version":
        return value  # type: ignore[return-value]  # one of the four types
    try:
        return parse_semver(str(value))
    except ValueError as error:
        raise InventoryError(f"{at}.version: {error}") from None


def _counters(sets: Iterable[tuple[str, Raw]], interner: Interner) -> Counters:
    return tuple(
        (
            interner.shared(text(one, "counterSet", at)),
            interner.shared(name),
            quantity(raw.get("value"), f"{at}.counters[{name}]"),
        )
        for at, one in sets
        for name, raw in mapping(one, "counters", at).items()
    )
