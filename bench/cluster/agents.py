"""What a control plane and its machines do with pods and claims, against an API server.

`ClaimMaker` makes claims from templates, `Scheduler` allocates them and binds pods, `Kubelets`
let pods run and end. A real control plane has the first two itself; nodes that are only objects
need the third there as well.
"""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Container, Sequence
from random import Random
from typing import Any

from bench.cluster.allocating import Result
from bench.cluster.placing import Placement, place
from endpoints.allocation.controller.feed import Feed
from endpoints.allocation.controller.resources import Kinds
from endpoints.allocation.inventory import Inventory
from endpoints.allocation.raw import key_of
from endpoints.kubernetes.cache import Cache, CacheSettings
from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.errors import AlreadyExistsError, ConflictError, NotFoundError
from endpoints.kubernetes.objects import Objects
from endpoints.kubernetes.resources import PODS, Object, Resource

_log = logging.getLogger(__name__)


class _Agent:
    """Does its round whenever something it follows has changed, and every ``interval`` seconds."""

    interval = 0.25

    def __init__(self) -> None:
        self.wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin."""
        self._task = asyncio.get_running_loop().create_task(self._run())

    async def stop(self) -> None:
        """End."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
            self._task = None

    async def round(self) -> None:
        """Do what is to be done now."""
        raise NotImplementedError

    async def _run(self) -> None:
        while True:
            self.wake.clear()
            try:
                await self.round()
            except (NotFoundError, ConflictError, AlreadyExistsError):
                self.wake.set()  # somebody else was faster: look again
            except Exception:
                _log.exception("%s failed", type(self).__name__)
            try:
                async with asyncio.timeout(self.interval):
                    await self.wake.wait()
            except TimeoutError:
                continue


class ControlPlane(_Agent):
    """Claims from templates, allocation, binding, and the removal of claims of pods that went.

    ``disturbed`` is asked with a pod's name before it is scheduled: False keeps it Pending.
    """

    def __init__(
        self,
        connection: Connection,
        kinds: Kinds,
        settings: CacheSettings | None = None,
        *,
        seed: int = 0,
        allowed: Callable[[str], bool] = lambda _: True,
    ) -> None:
        super().__init__()
        self.inventory = Inventory()
        self._random = Random(seed)
        self._allowed = allowed
        self._kinds = kinds
        self._objects = Objects(connection, "simulated-control-plane")
        self._allocated: dict[str, Object] = {}  # claims as we wrote them, until they are removed

        def make_cache(connection: Connection, resource: Resource, **options: Any) -> Cache:  # noqa: ANN401
            return Cache(connection, resource, settings=settings, **options)

        self._feed = Feed(connection, kinds, self.inventory, {}, self.wake.set, make_cache)
        self._pods = make_cache(connection, PODS)
        self._claims = make_cache(connection, kinds.claims)
        self._templates = make_cache(connection, kinds.templates)

    async def start(self) -> None:
        """Begin, once everything is known."""
        await self._feed.start()
        for cache in (self._pods, self._claims, self._templates):
            cache.subscribe(lambda _: self.wake.set())
            await cache.start()
        for cache in (self._pods, self._claims, self._templates, *self._feed.caches):
            await cache.wait_synced(10.0)
        await super().start()

    async def stop(self) -> None:
        """End."""
        await super().stop()
        await self._feed.stop()
        for cache in (self._pods, self._claims, self._templates):
            await cache.stop()

    async def round(self) -> None:
        """Remove claims of pods that went, schedule pods that wait."""
        await self._collect()
        for pod in list(self._pods.objects.values()):
            metadata = pod["metadata"]
            if "deletionTimestamp" in metadata or (pod.get("spec") or {}).get("nodeName"):
                continue
            if not self._allowed(metadata["name"]):
                continue
            claims = await self._claims_of(pod)
            if claims is not None:
                await self._schedule(pod, claims)

    async def _collect(self) -> None:
        """Claims whose pod is gone; on a real cluster garbage collection and a finalizer do it."""
        uids = {pod["metadata"]["uid"] for pod in self._pods.objects.values()}
        for key, claim in list(self._allocated.items()):
            if _abandoned(claim, uids):
                del self._allocated[key]
                self.inventory.remove_claim(key)
        for claim in list(self._claims.objects.values()):
            metadata = claim["metadata"]
            if _abandoned(claim, uids):
                self.inventory.remove_claim(key_of(claim))
                await _quietly(
                    self._objects.delete(
                        self._kinds.claims, metadata["name"], metadata["namespace"]
                    )
                )

    async def _claims_of(self, pod: Object) -> list[Object] | None:
        """The pod's claims, made if they are not there; None when a template is missing."""
        metadata = pod["metadata"]
        namespace, found, names = metadata["namespace"], [], []
        for entry in (pod.get("spec") or {}).get("resourceClaims") or ():
            name = f"{metadata['name']}-{entry['name']}-{metadata['uid'][:5]}"
            claim = self._claims.get(name, namespace)
            if claim is None:
                template = self._templates.get(entry["resourceClaimTemplateName"], namespace)
                if template is None:
                    return None
                claim = await self._make(pod, name, entry["name"], template)
            found.append(claim)
            names.append({"name": entry["name"], "resourceClaimName": name})
        if names != (pod.get("status") or {}).get("resourceClaimStatuses", []):
            await self._objects.patch_status(
                PODS, metadata["name"], {"resourceClaimStatuses": names}, namespace
            )
        return found

    async def _make(self, pod: Object, name: str, entry: str, template: Object) -> Object:
        metadata = pod["metadata"]
        spec = template["spec"]
        owner = {"apiVersion": "v1", "kind": "Pod", "controller": True}
        owner |= {"name": metadata["name"], "uid": metadata["uid"]}
        claim = {
            "metadata": {
                "name": name,
                "labels": (spec.get("metadata") or {}).get("labels", {}),
                "annotations": {"resource.kubernetes.io/pod-claim-name": entry},
                "ownerReferences": [owner],
            },
            "spec": spec["spec"],
        }
        return await self._objects.create(self._kinds.claims, claim, metadata["namespace"])

    async def _schedule(self, pod: Object, claims: list[Object]) -> None:
        metadata = pod["metadata"]
        waiting = [claim for claim in claims if not (claim.get("status") or {}).get("allocation")]
        asked = [claim["spec"]["devices"] for claim in waiting]
        for claim in self._allocated.values():  # an older event may have come since
            self.inventory.upsert_claim(claim)
        found = place(self.inventory, pod["spec"], asked, self._random)
        if isinstance(found, str):
            condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable"}
            if _message(pod) != found:
                status = {"conditions": [{**condition, "message": found}]}
                await self._objects.patch_status(
                    PODS, metadata["name"], status, metadata["namespace"]
                )
            return
        for claim, results in zip(waiting, found.results, strict=True):
            await self._allocate(pod, claim, results, found)
        await self._bind(pod, found)

    async def _allocate(
        self, pod: Object, claim: Object, results: tuple[Result, ...], found: Placement
    ) -> None:
        field = {"key": "metadata.name", "operator": "In", "values": [found.node]}
        status = {
            "allocation": {
                "devices": {"results": [one.written() for one in results]},
                "nodeSelector": {"nodeSelectorTerms": [{"matchFields": [field]}]},
            },
            "reservedFor": [
                {
                    "resource": "pods",
                    "name": pod["metadata"]["name"],
                    "uid": pod["metadata"]["uid"],
                }
            ],
        }
        metadata = claim["metadata"]
        written = await self._objects.patch_status(
            self._kinds.claims, metadata["name"], status, metadata["namespace"]
        )
        # As the scheduler assumes what it has written.
        self._allocated[key_of(written)] = written

    async def _bind(self, pod: Object, found: Placement) -> None:
        metadata = pod["metadata"]
        patch: Object = {"spec": {"nodeName": found.node}}
        await self._objects.merge_patch(PODS, metadata["name"], patch, metadata["namespace"])
        condition = {"type": "PodScheduled", "status": "True"}
        status = {"phase": "Pending", "conditions": [condition]}
        await self._objects.patch_status(PODS, metadata["name"], status, metadata["namespace"])


class Kubelets(_Agent):
    """Pods with a node become ready, those that are deleted end.

    ``starts`` is asked with a pod: False keeps it from becoming ready.
    """

    def __init__(
        self,
        connection: Connection,
        namespace: str,
        settings: CacheSettings | None = None,
        starts: Callable[[Object], bool] = lambda _: True,
    ) -> None:
        super().__init__()
        self._objects = Objects(connection, "simulated-kubelets")
        self._pods = Cache(connection, PODS, namespace=namespace, settings=settings)
        self._starts = starts
        self._addresses: dict[str, str] = {}

    async def start(self) -> None:
        """Begin."""
        self._pods.subscribe(lambda _: self.wake.set())
        await self._pods.start()
        await super().start()

    async def stop(self) -> None:
        """End."""
        await super().stop()
        await self._pods.stop()

    async def round(self) -> None:
        """Let pods start and end."""
        for pod in list(self._pods.objects.values()):
            metadata = pod["metadata"]
            name, namespace = metadata["name"], metadata["namespace"]
            if "deletionTimestamp" in metadata:
                await _quietly(
                    self._objects.delete(
                        PODS, name, namespace, uid=metadata["uid"], grace_seconds=0
                    )
                )
            elif (pod.get("spec") or {}).get("nodeName") and not _ready(pod) and self._starts(pod):
                number = len(self._addresses) + 2
                address = self._addresses.setdefault(
                    metadata["uid"], f"127.1.{number // 250}.{number % 250 + 1}"
                )
                status = {
                    "phase": "Running",
                    "podIP": address,
                    "podIPs": [{"ip": address}],
                    "conditions": [
                        {"type": "PodScheduled", "status": "True"},
                        {"type": "Ready", "status": "True"},
                    ],
                }
                await _quietly(self._objects.patch_status(PODS, name, status, namespace))


async def _quietly(doing: Awaitable[object]) -> None:
    try:
        await doing
    except (NotFoundError, ConflictError):
        return


def _abandoned(claim: Object, uids: Container[str]) -> bool:
    """Whether it was made for a pod, and that is gone."""
    owners: Sequence[Object] = claim["metadata"].get("ownerReferences") or ()
    return bool(owners) and owners[0]["kind"] == "Pod" and owners[0]["uid"] not in uids


def _ready(pod: Object) -> bool:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return any(one["type"] == "Ready" and one["status"] == "True" for one in conditions)


def _message(pod: Object) -> str:
    conditions = (pod.get("status") or {}).get("conditions") or ()
    return next((one.get("message", "") for one in conditions if one["status"] == "False"), "")
