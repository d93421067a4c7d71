"""A cluster of fake nodes, the controller of InferenceCapacity, and whoever lets pods run."""

from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from bench.cluster import parts
from bench.cluster.agents import ControlPlane, Kubelets
from endpoints.allocation.controller.resources import CAPACITIES, Kinds, discover, kinds_of
from endpoints.allocation.controller.service import CapacityController, ControllerSettings
from endpoints.allocation.controller.watchdog import Patience
from endpoints.allocation.emission.identity import Object, selector
from endpoints.allocation.planner import Planner
from endpoints.kubernetes.errors import NotFoundError
from endpoints.kubernetes.resources import NODES, PODS, Resource
from tests.support.capacities import document
from tests.support.clusters import QUICK, Cluster, eventually

_DEFINITION = Path(__file__).parents[2] / "deploy/kubernetes/crds/inferencecapacity.yaml"
_DEFINITIONS = Resource(
    "apiextensions.k8s.io",
    "v1",
    "customresourcedefinitions",
    "CustomResourceDefinition",
    namespaced=False,
)


@dataclass
class Work:
    """Requests in flight by replica; a replica that is not named has none."""

    requests: dict[str, float | None] = field(default_factory=dict)

    async def in_flight(self, pods: Sequence[Object]) -> float | None:
        names = {pod["metadata"]["labels"]["inferway.dev/replica"] for pod in pods}
        found = [self.requests.get(name, 0.0) for name in names]
        known = [one for one in found if one is not None]
        return sum(known) if len(known) == len(found) else None


@dataclass
class Stage:
    """What a test plays on. Names of nodes, the class and the driver are the test's alone."""

    cluster: Cluster
    kinds: Kinds
    driver: str
    controller: CapacityController
    work: Work
    make_controller: Callable[..., CapacityController]
    """``leads`` and ``identity`` may be given."""
    held_back: set[str] = field(default_factory=set)
    """Pods that the simulated scheduler leaves Pending."""
    broken: set[str] = field(default_factory=set)
    """Pods that never become ready."""
    undo: list[tuple[Resource, str]] = field(default_factory=list)

    async def add_node(
        self, name: str, gpus: int = 4, product: str = "H100", **labels: str
    ) -> None:
        """A node with a slice of GPUs; ``leaf`` is its leaf switch."""
        name = self.node(name)
        given = {parts.LEAF_LABEL: labels.pop("leaf", "leaf-1"), **labels}
        node = parts.node(name, given)
        created = await self.put(NODES, {**node, "spec": {}})
        await self.cluster.objects.patch_status(NODES, name, node["status"])
        devices = [parts.gpu(index, product, "80Gi") for index in range(gpus)]
        slice_ = parts.device_slice(name, devices, driver=self.driver)
        slice_["metadata"]["ownerReferences"] = [
            {"apiVersion": "v1", "kind": "Node", "name": name, "uid": created["metadata"]["uid"]}
        ]
        await self.put(self.kinds.slices, slice_)

    async def put(self, resource: Resource, item: Object) -> Object:
        """Create something of cluster scope, to be removed at the end."""
        created = await self.cluster.objects.create(resource, item)
        self.undo.append((resource, item["metadata"]["name"]))
        return created

    async def another_controller(self) -> None:
        """A fresh one in place of the one that ran; nothing but the cluster is remembered."""
        await self.stop_controller()
        self.controller = self.make_controller()
        await self.controller.start()

    async def stop_controller(self) -> None:
        await self.controller.stop()

    async def publish(self, node: str, devices: list[Object], generation: int) -> None:
        """Another generation of a node's slice."""
        item = parts.device_slice(
            self.node(node), devices, driver=self.driver, generation=generation
        )
        await self.cluster.objects.apply(self.kinds.slices, item, force=True)

    async def apply(self, name: str, wanted: int, **given: Any) -> Object:
        """An InferenceCapacity of the test's class of devices."""
        item = document(
            name,
            namespace=self.cluster.namespace,
            replicas={"max": 9, "wanted": wanted},
            **given,
        )
        for role in item["spec"]["roles"]:
            for request in role["devices"]:
                request["deviceClassName"] = self.device_class
        return await self.cluster.objects.apply(CAPACITIES, item, force=True)

    async def want(self, name: str, wanted: int) -> None:
        """What a scaler would write."""
        patch = {"spec": {"replicas": {"wanted": wanted}}}
        await self.cluster.objects.merge_patch(CAPACITIES, name, patch, self.cluster.namespace)

    async def status(self, name: str) -> Object:
        item = await self.cluster.objects.get(CAPACITIES, name, self.cluster.namespace)
        found: Object = item.get("status") or {}
        return found

    async def pods(self, name: str) -> list[Object]:
        """The pods of a capacity that are not on their way out."""
        found = await self.cluster.objects.list(
            PODS, self.cluster.namespace, label_selector=selector(name)
        )
        return [pod for pod in found if "deletionTimestamp" not in pod["metadata"]]

    async def left(self, name: str) -> list[str]:
        """Everything that belongs to a capacity, claims included."""
        found = []
        for resource in (PODS, self.kinds.templates, self.kinds.claims, *self.kinds.gangs):
            items = await self.cluster.objects.list(
                resource,
                self.cluster.namespace,
                label_selector=f"inferway.dev/capacity={name}",
            )
            found += [f"{resource.kind} {item['metadata']['name']}" for item in items]
        return found

    async def ready(self, name: str, count: int) -> None:
        """Wait until so many replicas are ready, and no more are placed."""

        async def holds() -> bool:
            status = await self.status(name)
            return status.get("ready") == count == status.get("placed")

        try:
            await eventually(holds)
        except TimeoutError:
            raise AssertionError(await self.status(name)) from None

    async def devices(self, pod: Object) -> list[tuple[str, str]]:
        """(pool, device) that a pod's claims got."""
        found = []
        for one in pod["status"].get("resourceClaimStatuses", ()):
            claim = await self.cluster.objects.get(
                self.kinds.claims, one["resourceClaimName"], self.cluster.namespace
            )
            results = claim["status"]["allocation"]["devices"]["results"]
            found += [(result["pool"], result["device"]) for result in results]
        return found

    async def events(self) -> list[Object]:
        resource = Resource("events.k8s.io", "v1", "events", "Event")
        return list(await self.cluster.objects.list(resource, self.cluster.namespace))

    def node(self, name: str) -> str:
        """The cluster-wide name of the test's node."""
        return f"{self.cluster.namespace}-{name}"

    @property
    def device_class(self) -> str:
        return f"{self.cluster.namespace}-gpu"


@asynccontextmanager
async def capacity_stage(
    cluster: Cluster, *, without: Sequence[tuple[str, str]] = (), **settings: Any
) -> AsyncIterator[Stage]:
    """The stage, with the controller running; ``without`` are (group, plural) not served."""
    if cluster.stand_in is not None:
        for group, plural in without:
            cluster.stand_in.catalogue.remove(group, plural)
    else:
        await _install(cluster)
    kinds = kinds_of(await discover(cluster.connection))
    work = Work()
    asked = ControllerSettings(
        namespace=cluster.namespace,
        interval=0.01,
        drain_interval=0.05,
        settle_seconds=0.0,
        patience=settings.pop("patience", Patience()),
        caches=QUICK,
        **settings,
    )

    def make_controller(
        leads: Callable[[], bool] = lambda: True, identity: str = ""
    ) -> CapacityController:
        return CapacityController(
            cluster.connection, Planner, asked, work, leads=leads, identity=identity
        )

    driver = f"{cluster.namespace.rpartition('-')[2]}.example.com"
    stage = Stage(cluster, kinds, driver, make_controller(), work, make_controller)
    async with AsyncExitStack() as stack:
        stack.push_async_callback(_tidy, stage)
        await stage.put(kinds.classes, parts.device_class(stage.device_class, driver))
        if cluster.stand_in is not None:
            plane = ControlPlane(
                cluster.connection,
                kinds,
                QUICK,
                allowed=lambda name: name not in stage.held_back,
            )
            await plane.start()
            stack.push_async_callback(plane.stop)
        kubelets = Kubelets(
            cluster.connection,
            cluster.namespace,
            QUICK,
            starts=lambda pod: pod["metadata"]["name"] not in stage.broken,
        )
        await kubelets.start()
        stack.push_async_callback(kubelets.stop)
        await stage.controller.start()
        stack.push_async_callback(stage.stop_controller)
        yield stage


async def _install(cluster: Cluster) -> None:
    """The definition of InferenceCapacity; it stays."""
    definition = yaml.safe_load(_DEFINITION.read_text())
    await cluster.objects.apply(_DEFINITIONS, definition, force=True)

    async def served() -> bool:
        try:
            await cluster.objects.list(CAPACITIES, cluster.namespace)
        except NotFoundError:
            return False
        return True

    await eventually(served)


async def _tidy(stage: Stage) -> None:
    for resource, name in reversed(stage.undo):
        try:
            await stage.cluster.objects.delete(resource, name, grace_seconds=0)
        except NotFoundError:
            continue
