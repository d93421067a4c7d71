"""What plans and reservations take, as an overlay over the inventory."""

from collections.abc import Iterable

from endpoints.allocation.holdings import Holding
from endpoints.allocation.plan import DeviceId, PodPlan
from endpoints.allocation.stock import Overlay


def overlay_of(pods: Iterable[PodPlan], without: Iterable[Holding] = ()) -> Overlay:
    """Everything that these pods use is taken, and these holdings are thought away."""
    claims = frozenset(claim for holding in without for claim in holding.claims)
    return with_pods(Overlay(without=claims), pods)._replace(parent=None)


def with_pods(before: Overlay, pods: Iterable[PodPlan]) -> Overlay:
    """An overlay in which these pods use devices too."""
    taken: set[DeviceId] = set()
    shares = dict(before.shares)
    for pod in pods:
        for grant in pod.grants:
            for device, consumed in grant.uses():
                if consumed is None:
                    taken.add(device)
                else:
                    shares[device] = (*shares.get(device, ()), *consumed)
    return Overlay(before.taken | taken, shares, before.without, before)
