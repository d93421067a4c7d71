"""What reservations hold once somebody else has got their devices: as many others like them.

A plan names devices. On a node of equal devices its claims don't: there the scheduler may give one
replica what was planned for another, and both still fit. The plan of the other then needs as many
devices as before, only not the same ones.
"""

from collections import Counter
from collections.abc import Iterable, Iterator
from itertools import chain

from msgspec.structs import replace

from endpoints.allocation.ask import MATCH, Ask, CannotAskError
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.ledger import Reservation, reservation_key
from endpoints.allocation.plan import DeviceId, Grant, Plan, PodPlan
from endpoints.allocation.taints import untolerated


def with_stand_ins(
    inventory: Inventory, reservations: Iterable[Reservation]
) -> tuple[PodPlan, ...]:
    """The pods of all reservations, with stand-ins for devices that others' claims hold.

    A device without a stand-in is left as it was planned: it is in use anyway. So is one whose
    user makes room for the plan.
    """
    active = list(reservations)
    reserved = {device for one in active for device in one.plan.devices()}
    found: list[PodPlan] = []
    for one in active:
        lost = (_lost(inventory, one, device) for device in one.plan.exclusive_devices())
        if not one.plan.evictions and any(lost):
            stand_ins = _StandIns(inventory, one, reserved)
            found += [stand_ins.pod(pod) for pod in one.plan.pods]
        else:
            found += one.plan.pods
    return tuple(found)


def _lost(inventory: Inventory, reservation: Reservation, device: DeviceId) -> bool:
    """Whether the claim of another replica holds a planned device."""
    return any(
        not use.admin and not _is_own(inventory, reservation, claim)
        for claim, use in inventory.uses_of(device)
    )


def _is_own(inventory: Inventory, reservation: Reservation, claim: str) -> bool:
    namespace, _, _ = claim.partition("/")
    return reservation_key(namespace, inventory.claims[claim].replica) == reservation.key


class _StandIns:
    """One reservation's pods. ``reserved`` are all reservations' devices; stand-ins are added."""

    def __init__(
        self, inventory: Inventory, reservation: Reservation, reserved: set[DeviceId]
    ) -> None:
        self._inventory = inventory
        self._reservation = reservation
        self._reserved = reserved
        self._ask = _ask_of(inventory, reservation.plan)
        self._elsewhere = self._got_elsewhere()

    def pod(self, pod: PodPlan) -> PodPlan:
        return replace(pod, grants=tuple(self._grant(pod, grant) for grant in pod.grants))

    def _grant(self, pod: PodPlan, grant: Grant) -> Grant:
        devices = list(grant.devices)
        for place, (device, consumed) in enumerate(grant.uses()):
            if consumed is None and _lost(self._inventory, self._reservation, device):
                devices[place] = self._stand_in(pod, grant, device)
        return replace(grant, devices=tuple(devices))

    def _stand_in(self, pod: PodPlan, grant: Grant, lost: DeviceId) -> DeviceId:
        if self._elsewhere[pod.node] > 0:
            self._elsewhere[pod.node] -= 1
            return lost
        found = next(self._like(pod, grant, lost), lost)
        self._reserved.add(found)
        return found

    def _like(self, pod: PodPlan, grant: Grant, lost: DeviceId) -> Iterator[DeviceId]:
        """Devices of the node that are free and meet the request."""
        if self._ask is None:
            return
        roles = [role.name for role in self._ask.gang.roles]
        place, wish = next(
            (place, wish)
            for place, wish in enumerate(self._ask.wishes)
            if roles[wish.role] == pod.role and wish.request == grant.request
        )
        for device in self._inventory.devices_of(pod.node):
            if device.id.driver != lost.driver or device.id in self._reserved or device.consumes:
                continue
            if any(not use.admin for _, use in self._inventory.uses_of(device.id)):
                continue
            fit = self._ask.fits(device)[place]
            taints = self._inventory.taints_of(device)
            tolerated = untolerated(taints, wish.option.tolerations) is None
            if fit.outcome == MATCH and fit.enough and tolerated:
                yield device.id

    def _got_elsewhere(self) -> Counter[str]:
        """How many devices its own claims already hold that were not planned, by node."""
        planned = set(self._reservation.plan.devices())
        own = (
            claim.uses
            for key, claim in self._inventory.claims.items()
            if _is_own(self._inventory, self._reservation, key)
        )
        return Counter(
            node
            for use in chain.from_iterable(own)
            if not use.admin and use.device not in planned
            if (node := self._inventory.node_of(use.device)) is not None
        )


def _ask_of(inventory: Inventory, plan: Plan) -> Ask | None:
    """The gang's requests with the plan's options; None when they can't be asked any more."""
    taken = dict(plan.options)
    choice = tuple(
        tuple(
            next(
                place
                for place, option in enumerate(request.options)
                if option.name == taken.get((role.name, request.name), option.name)
            )
            for request in role.requests
        )
        for role in plan.gang.roles
    )
    try:
        return Ask(plan.gang, choice, inventory.classes)
    except CannotAskError:
        return None
