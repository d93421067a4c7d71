"""What the cluster shows of a pool's replicas: their devices, and what is wrong with them."""

from collections.abc import Sequence

from endpoints.allocation.controller.feed import Feed
from endpoints.allocation.controller.findings import Cluster, Held, findings, planned
from endpoints.allocation.controller.members import Member, standing_of
from endpoints.allocation.controller.pool import ManagedPool
from endpoints.allocation.controller.record import Record
from endpoints.allocation.controller.watchdog import Verdict
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.plan import DeviceId
from endpoints.allocation.pools import PoolKey
from endpoints.allocation.taints import Taint


class Lookout:
    """Looks at replicas through an inventory and the feed that keeps it up to date."""

    def __init__(self, inventory: Inventory, feed: Feed) -> None:
        self._inventory = inventory
        self._cluster = Cluster(
            taints=self._taints,
            alive=feed.alive,
            driver_dead=lambda driver, node: (driver, node) in feed.dead,
        )

    def look(self, pool: ManagedPool, now: float) -> tuple[list[str], list[Verdict]]:
        """What shows of all replicas, in words, and what it condemns."""
        words, verdicts = [], []
        for record in pool.records:
            members = pool.members.get(record.name, ())
            standing = standing_of(members, record.plan.gang.pods)
            found = findings(members, self._held(pool, record, members), self._cluster)
            words += [f"{record.name}: {one.detail}" for one in found]
            verdict = pool.watchdog.look(record.name, standing, found, now)
            if verdict is not None:
                verdicts.append(verdict)
        return words, verdicts

    def allocated(self, pool: ManagedPool, record: Record) -> bool:
        """Whether the claims of all its pods hold devices. A node is known sooner than that."""
        members = [one for one in pool.members.get(record.name, ()) if one.counts]
        if len(members) < record.plan.gang.pods:
            return False
        claiming = {role.name for role in record.plan.gang.roles if role.requests}
        return all(
            (one.claims or one.role not in claiming)
            and all(
                (held := self._inventory.claims.get(f"{pool.namespace}/{claim}")) is not None
                and held.uses
                for claim in one.claims
            )
            for one in members
        )

    def _held(self, pool: ManagedPool, record: Record, members: Sequence[Member]) -> list[Held]:
        """By its claims what runs has, by its plan what waits will have."""
        tolerations = {
            role.name: tuple(
                some
                for request in role.requests
                for option in request.options
                for some in option.tolerations
            )
            for role in record.plan.gang.roles
        }
        found = planned(record.plan, members)
        for one in members:
            if not one.counts or one.node is None:
                continue
            devices = tuple(
                use.device
                for claim in one.claims
                if (held := self._inventory.claims.get(f"{pool.namespace}/{claim}")) is not None
                for use in held.uses
                if not use.admin
            )
            found.append(Held(one.node, devices, tolerations.get(one.role, ())))
        return found

    def _taints(self, device: DeviceId) -> tuple[Taint, ...] | None:
        pool = self._inventory.pools.get(PoolKey(device.driver, device.pool))
        found = self._inventory.device(device)
        if pool is None or pool.problem or found is None:
            return None
        return self._inventory.taints_of(found)
