"""A gang's requests, with one alternative chosen for each, ready to be held against devices."""

from collections.abc import Iterable, Iterator, Mapping
from itertools import islice, product
from typing import NamedTuple

from endpoints.allocation.capacities import taken_of
from endpoints.allocation.classes import DeviceClass
from endpoints.allocation.devices import Device, Shape
from endpoints.allocation.needs import DeviceOption, Gang
from endpoints.allocation.nodes import Node
from endpoints.allocation.raw import qualified
from endpoints.allocation.selectors import MATCH, MISS, Outcome, Selector, compile_selector
from endpoints.allocation.selectors.rewriting import DRIVER, EVERYTHING
from endpoints.allocation.taints import untolerated

MOST_CHOICES = 256
_MOST_SHAPES = 50_000
Choice = tuple[tuple[int, ...], ...]
"""For each role, for each of its requests, the place of the option that is taken."""


class CannotAskError(ValueError):
    """The gang can't be planned at all; ``code`` is stable, the message a sentence."""

    def __init__(self, code: str, reason: str) -> None:
        super().__init__(reason)
        self.code = code


class Wish(NamedTuple):
    """One request of one role, with its option. ``role`` is a place in the gang's roles."""

    role: int
    request: str
    option: DeviceOption
    admin: bool
    selectors: tuple[Selector, ...]

    @property
    def devices(self) -> int:
        """Devices a pod; 0 for all of them."""
        return self.option.count or 0

    @property
    def every(self) -> bool:
        """Whether it asks for all devices that match."""
        return self.option.count is None


class Bond(NamedTuple):
    """A constraint: the devices of these wishes have (or must not share) an attribute's value.

    ``attribute`` is a place in the ask's attributes; ``wishes`` are places in its wishes.
    """

    role: int
    attribute: int
    wishes: frozenset[int]
    distinct: bool


class Fit(NamedTuple):
    """How a shape's devices answer a wish, whoever uses them.

    ``enough``: its capacity is. ``takes``: what is consumed of a device that is shared.
    """

    outcome: Outcome
    enough: bool
    takes: tuple[tuple[str, int], ...]


class Ask:
    """Wishes and bonds of one choice of options; answers are cached by device shape."""

    def __init__(self, gang: Gang, choice: Choice, classes: Mapping[str, DeviceClass]) -> None:
        self.gang = gang
        self.choice = choice
        self.attributes: tuple[str, ...] = ()
        self.wishes = tuple(_wishes(gang, choice, classes))
        self.of_role = tuple(
            tuple(place for place, wish in enumerate(self.wishes) if wish.role == role)
            for role in range(len(gang.roles))
        )
        self.bonds = tuple(self._bonds())
        self.need = tuple(role.pods for role in gang.roles)
        self.sizes = tuple(
            sum(self.wishes[place].devices or 1 for place in places if not self.wishes[place].admin)
            for places in self.of_role
        )
        self._own_names = frozenset(
            (one.domain, one.id)
            for wish in self.wishes
            for selector in wish.selectors
            for one in selector.references
            if one.kind == "attributes"
        )
        self._fits: dict[Shape, tuple[Fit, ...]] = {}

    def fits(self, device: Device) -> tuple[Fit, ...]:
        """For each wish, how the device answers it."""
        shape = device.shape
        if device.own and self._looks_at(device):
            return self._judged(device)
        found = self._fits.get(shape)
        if found is None:
            if len(self._fits) >= _MOST_SHAPES:  # of drivers and devices that are long gone
                self._fits.clear()
            found = self._fits[shape] = self._judged(device)
        return found

    def roles_on(self, node: Node) -> int:
        """A bit for each role whose pods the node takes, as labels and taints go."""
        return sum(
            1 << place for place in range(len(self.gang.roles)) if self.objection(node, place) == ""
        )

    def objection(self, node: Node, role: int) -> str:
        """Why the node takes no pod of a role, apart from devices; empty when it does."""
        need = self.gang.roles[role]
        if not node.ready:
            return "not ready"
        if not node.taints and not need.node_selector:
            return ""
        for key, value in need.node_selector:
            if node.label(key) != value:
                return f"label {key} is not {value}"
        taint = untolerated(node.taints, need.tolerations)
        if taint is None:
            return ""
        return "cordoned" if taint.key.endswith("/unschedulable") else f"taint {taint}"

    def options(self) -> tuple[tuple[tuple[str, str], str], ...]:
        """The alternatives that are taken, for requests that have some."""
        return tuple(
            ((self.gang.roles[wish.role].name, wish.request), wish.option.name)
            for wish in self.wishes
            if wish.option.name
        )

    def looks_at(self, names: Iterable[str]) -> bool:
        """Whether a selector or a bond looks at one of these attributes, by qualified name."""
        for name in names:
            domain, _, id_ = name.partition("/")
            if name in self.attributes:
                return True
            for wanted, what in self._own_names:
                if wanted in (domain, EVERYTHING, DRIVER) and what in (id_, EVERYTHING):
                    return True
        return False

    def _looks_at(self, device: Device) -> bool:
        """Whether a selector looks at what is the device's own; bonds are looked up each time."""
        driver = device.shape.driver
        for name, _ in device.own:
            domain, _, id_ = name.partition("/")
            for wanted, what in self._own_names:
                here = wanted in (domain, EVERYTHING) or (wanted == DRIVER and domain == driver)
                if here and what in (id_, EVERYTHING):
                    return True
        return False

    def _judged(self, device: Device) -> tuple[Fit, ...]:
        made = []
        for wish in self.wishes:
            outcome = MATCH
            for selector in wish.selectors:
                outcome = self._outcome(selector, device)
                if outcome is not MATCH:
                    break
            enough = True
            takes: tuple[tuple[str, int], ...] = ()
            if outcome is MATCH:
                enough, takes = _capacity(wish.option, device.shape)
            made.append(Fit(outcome, enough, takes))
        return tuple(made)

    @staticmethod
    def _outcome(selector: Selector, device: Device) -> Outcome:
        return selector.outcome(device.view())

    def _bonds(self) -> Iterator[Bond]:
        names: dict[str, int] = {}
        for place, role in enumerate(self.gang.roles):
            for one in role.constraints:
                wishes = frozenset(
                    at
                    for at in self.of_role[place]
                    if not one.requests or _named(self.wishes[at], one.requests)
                )
                attribute = names.setdefault(one.attribute, len(names))
                yield Bond(place, attribute, wishes, one.distinct)
        self.attributes = tuple(names)


def choices(gang: Gang) -> list[Choice]:
    """All ways to take alternatives, the wanted ones first. CannotAskError when there are too many.

    All pods of a role take the same. The order is by the sum of places, then role by role.
    """
    each = [
        list(product(*(range(len(request.options)) for request in role.requests)))
        for role in gang.roles
    ]
    found = list(islice(product(*each), MOST_CHOICES + 1))
    if len(found) > MOST_CHOICES:
        raise CannotAskError(
            "too-many-alternatives",
            f"the alternatives can be combined in more than {MOST_CHOICES} ways; name fewer",
        )
    return sorted(found, key=lambda one: (sum(map(sum, one)), one))


def _wishes(gang: Gang, choice: Choice, classes: Mapping[str, DeviceClass]) -> Iterator[Wish]:
    for place, (role, taken) in enumerate(zip(gang.roles, choice, strict=True)):
        for request, index in zip(role.requests, taken, strict=True):
            option = request.options[index]
            class_ = classes.get(option.device_class)
            if class_ is None:
                raise CannotAskError(
                    "no-class",
                    f"role {role.name}, request {request.name}: there is no DeviceClass "
                    f"{option.device_class!r}",
                )
            selectors = tuple(
                compile_selector(one) for one in (*class_.selectors, *option.selectors)
            )
            for selector in selectors:
                if selector.problem:
                    raise CannotAskError(
                        "undecidable",
                        f"role {role.name}, request {request.name}: a selector can't be decided "
                        f"here: {selector.problem}",
                    )
            yield Wish(place, request.name, option, request.admin_access, selectors)


def _named(wish: Wish, requests: tuple[str, ...]) -> bool:
    full = f"{wish.request}/{wish.option.name}" if wish.option.name else wish.request
    return wish.request in requests or full in requests


def _capacity(option: DeviceOption, shape: Shape) -> tuple[bool, tuple[tuple[str, int], ...]]:
    asked = {qualified(name, shape.driver): amount for name, amount in option.capacity}
    if shape.multiple:
        takes = taken_of(shape.capacity, asked)
        return takes is not None, takes or ()
    enough = all(
        name in shape.capacity and shape.capacity[name].value >= amount
        for name, amount in asked.items()
    )
    return enough, ()


__all__ = ["MATCH", "MISS", "Ask", "Bond", "CannotAskError", "Choice", "Fit", "Wish", "choices"]
