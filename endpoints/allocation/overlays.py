"""What plans and reservations take, as an overlay over the inventory."""

from collections.abc import Iterable

from endpoints.allocation.holdings import Holding
from endpoints.allocation.plan import DeviceId, PodPlan
from endpoints.allocation.stock import Overlay


def overlay_of(pods: Iterable[PodPlan], without: Iterable[Holding] = ()) -> Overlay:
    """Everything that these pods use is taken, and these holdings are thought away."""
    taken: set[DeviceId] = set()
    shares: dict[DeviceId, tuple[tuple[str, int], ...]] = {}
    for pod in pods:
        for grant in pod.grants:
            for device, consumed in grant.uses():
                if consumed is None:
                    taken.add(device)
                else:
                    shares[device] = (*shares.get(device, ()), *consumed)
    claims = frozenset(claim for holding in without for claim in holding.claims)
    return Overlay(frozenset(taken), shares, claims)
