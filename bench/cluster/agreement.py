"""Does a scheduler do what was planned? Without an API server: plan, write, schedule, compare.

For each scenario the planner fills its own view of the cluster, pool by pool; the objects that
are written for it are then scheduled, in random order, by `placing`, which knows nothing of plans.
"""

from collections.abc import Iterable
from random import Random

from msgspec import Struct

from bench.cluster.parts import Object
from bench.cluster.placing import place
from bench.cluster.scenarios import Scenario
from endpoints.allocation.controller.course import Situation, course
from endpoints.allocation.controller.record import Record, revision_of
from endpoints.allocation.emission.changes import written
from endpoints.allocation.emission.gangs.setting import Setting
from endpoints.allocation.emission.identity import Owner
from endpoints.allocation.emission.narrowing import narrowing, texts_in_play
from endpoints.allocation.emission.served import GangApi
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.ledger import Ledger
from endpoints.allocation.manifest import API_VERSION, KIND, capacity_from
from endpoints.allocation.planner import Planner

NAMESPACE = "default"


class Agreement(Struct, frozen=True):
    """One scenario: pods that were planned, that got no node, and that got another domain or node.

    ``other_devices``: pods on their planned node with other devices than planned, which is fine.
    """

    seed: int
    pods: int
    pending: int
    elsewhere: int
    other_devices: int
    replicas: int
    refused: int
    said: str = ""

    @property
    def exact(self) -> bool:
        """Whether every pod got a place, in the planned domain."""
        return self.pending == 0 and self.elsewhere == 0


def agreement(case: Scenario) -> Agreement:
    """What becomes of a scenario's plans."""
    planned, objects, refused = plan_all(case)
    nodes = {
        f"{record.name}-{pod.role}-{pod.index}": pod
        for record in planned
        for pod in record.plan.pods
    }
    inventory = inventory_of(case)
    templates = {item["metadata"]["name"]: item for item in objects if item["kind"] != "Pod"}
    pods = [item for item in objects if item["kind"] == "Pod"]
    random = Random(case.seed)
    random.shuffle(pods)
    pending = elsewhere = other = 0
    said = ""
    for pod in pods:
        name = pod["metadata"]["name"]
        asked = [
            templates[one["resourceClaimTemplateName"]]["spec"]["spec"]["devices"]
            for one in pod["spec"].get("resourceClaims", ())
        ]
        found = place(inventory, pod["spec"], asked, random)
        if isinstance(found, str):
            pending += 1
            said = f"{name}: {found}"
            continue
        for number, results in enumerate(found.results):
            inventory.upsert_claim(
                {
                    "metadata": {"name": f"{name}-{number}", "namespace": NAMESPACE},
                    "status": {
                        "allocation": {"devices": {"results": [one.written() for one in results]}}
                    },
                }
            )
        expected = nodes[name]
        elsewhere += found.node != expected.node
        got = {one.device.id for results in found.results for one in results}
        other += got != {device for grant in expected.grants for device in grant.devices}
    return Agreement(case.seed, len(pods), pending, elsewhere, other, len(planned), refused, said)


def plan_all(case: Scenario) -> tuple[list[Record], list[Object], int]:
    """Plans, written objects, and how many wanted replicas had no place; by priority, then name."""
    inventory, ledger = inventory_of(case), Ledger()
    planner = Planner(inventory, ledger)
    records: list[Record] = []
    objects: list[Object] = []
    refused = 0
    pools = [
        (name, capacity_from(capacity_item(name, spec)))
        for name, spec in sorted(case.pools.items(), key=_urgency)
    ]
    in_play = texts_in_play([capacity.gang for _, capacity in pools], inventory)
    for name, capacity in pools:
        situation = Situation(
            capacity,
            revision_of(capacity),
            narrow=lambda plan: narrowing(plan, inventory, in_play),
        )
        outcome = course(situation, planner, 0.0)
        refused += outcome.wanted - len(outcome.records)
        records += outcome.records
        setting = Setting(
            owner=Owner(name, NAMESPACE, f"uid-{name}", capacity.gang.pool),
            scheduler=capacity.spec.scheduler,
            templates={role.name: role.template for role in capacity.spec.roles},
        )
        replicas = [one.replica for one in outcome.records]
        objects += written(replicas, setting, GangApi.PLAIN)
    return records, objects, refused


def capacity_item(name: str, spec: Object, namespace: str = NAMESPACE) -> Object:
    """The InferenceCapacity as a user writes it."""
    return {
        "apiVersion": API_VERSION,
        "kind": KIND,
        "metadata": {"name": name, "namespace": namespace},
        "spec": spec,
    }


def inventory_of(case: Scenario) -> Inventory:
    """The cluster as it is at first."""
    inventory = Inventory()
    for node in case.nodes:
        inventory.upsert_node(node)
    for slice_ in case.slices:
        inventory.upsert_slice(slice_)
    for class_ in case.classes:
        inventory.upsert_class(class_)
    return inventory


def agreements(cases: Iterable[Scenario]) -> list[Agreement]:
    """Of several."""
    return [agreement(case) for case in cases]


def _urgency(entry: tuple[str, Object]) -> tuple[int, str]:
    name, spec = entry
    return -spec.get("priority", 0), name
