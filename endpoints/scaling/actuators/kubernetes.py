"""Whatever has a scale subresource: Deployments, StatefulSets, LeaderWorkerSets, ...

Three rules of the other side shape this module:

- A number is changed by ``/scale``, on the condition that nobody else has changed it since we
  looked (the target's resource version; where only its status moved on, the number decides).
- Which pod goes when a Deployment shrinks is its ReplicaSet's choice: unscheduled and unready
  pods first, then those with the lowest ``controller.kubernetes.io/pod-deletion-cost``. So victims
  get the lowest costs there are, and are told to other gateways by an annotation of ours.
  StatefulSets and LeaderWorkerSets end their highest ordinals, whatever anybody wants.
- One target, one scaler: while an HPA, a KEDA ScaledObject or an AIBrix PodAutoscaler refers to
  the target, it is theirs.
"""

import asyncio
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Final

from endpoints.kubernetes.cache import Cache, CacheSettings
from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.errors import ConflictError, KubernetesError, NotFoundError
from endpoints.kubernetes.listwatch import Phase as Listing
from endpoints.kubernetes.objects import Objects
from endpoints.kubernetes.resources import (
    DEPLOYMENTS,
    PODS,
    STATEFUL_SETS,
    Key,
    Object,
    Resource,
    key_of,
)
from endpoints.scaling.actuators.actuator import ActuatorError, Member, MovedError, Phase, Target
from endpoints.scaling.ceiling import NEEDED_ANNOTATION
from routing.endpoint import EndpointState

MANAGER: Final = "inferway-scaler"
"""Who we are where the API server notes who wrote what."""
LEAVING: Final = "inferway.dev/leaving"
"""Annotation of a pod that is to go. Its value is the deletion cost that the pod had before."""
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
CAPACITY_KIND: Final = "InferenceCapacity"
LOWEST_COST: Final = -(2**31)

LEADER_WORKER_SETS: Final = Resource(
    "leaderworkerset.x-k8s.io", "v1", "leaderworkersets", "LeaderWorkerSet"
)
HPAS: Final = Resource("autoscaling", "v2", "horizontalpodautoscalers", "HorizontalPodAutoscaler")
SCALED_OBJECTS: Final = Resource("keda.sh", "v1alpha1", "scaledobjects", "ScaledObject")
POD_AUTOSCALERS: Final = Resource(
    "autoscaling.aibrix.ai", "v1alpha1", "podautoscalers", "PodAutoscaler"
)
_KNOWN: Final = {
    (one.group, one.kind): one for one in (DEPLOYMENTS, STATEFUL_SETS, LEADER_WORKER_SETS)
}
_ORDINALS: Final = {
    "StatefulSet": "apps.kubernetes.io/pod-index",
    "LeaderWorkerSet": "leaderworkerset.sigs.k8s.io/group-index",
}
_TRIES: Final = 3
_READY_SECONDS: Final = 10.0
_FAILING: Final = frozenset(
    {"CrashLoopBackOff", "ImagePullBackOff", "ErrImagePull", "CreateContainerConfigError",
     "CreateContainerError", "RunContainerError", "InvalidImageName"}
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class TargetRef:
    """A scale target by kind and name, as an HPA would refer to it."""

    namespace: str
    name: str
    kind: str = "Deployment"
    api_version: str = "apps/v1"

    @property
    def group(self) -> str:
        """The API group; empty for the core group."""
        return self.api_version.rpartition("/")[0]

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


def by_pod(fleet: Iterable[EndpointState]) -> Mapping[Key, tuple[str, ...]]:
    """The endpoints' names by namespace and name of their pods, as discovery labels them."""
    found: dict[Key, tuple[str, ...]] = {}
    for state in fleet:
        labels = dict(state.endpoint.labels)
        key = labels.get("namespace", ""), labels.get("pod", "")
        if key[1]:
            found[key] = (*found.get(key, ()), state.name)
    return found


class KubernetesActuator:
    """One scale target, from `start` to `close`.

    ``endpoints``: the names that pods' endpoints have in the fleet. ``told`` is called when its
    pods, or who scales it, changed.
    """

    def __init__(
        self,
        connection: Connection,
        ref: TargetRef,
        *,
        clock: Callable[[], float] = time.monotonic,
        endpoints: Callable[[], Mapping[Key, tuple[str, ...]]],
        told: Callable[[], object] = lambda: None,
        caches: CacheSettings | None = None,
    ) -> None:
        self.ref = ref
        self._connection = connection
        self._objects = Objects(connection, MANAGER)
        self._clock = clock
        self._endpoints = endpoints
        self._told = told
        self._settings = caches
        self._resource: Resource | None = None
        self._pods: Cache | None = None
        self._selector = ""
        self._owners = [
            self._cache(HPAS),
            self._cache(SCALED_OBJECTS, required=False),
            self._cache(POD_AUTOSCALERS, required=False),
        ]
        self._born: dict[str, float] = {}  # pod uid -> when, on our clock
        self._told_need: int | None = None
        self._announced: set[str] = set()  # by us: the cache may not show it yet

    @property
    def name(self) -> str:
        """The target in words."""
        return str(self.ref)

    async def start(self) -> None:
        """Begin to follow who scales the target; what can't be read yet is said by `look`."""
        for cache in self._owners:
            cache.subscribe(lambda _: self._told())
            await cache.start()

    async def close(self) -> None:
        """Follow nothing any more; announcements stay for whoever leads next."""
        for cache in self._owners:
            await cache.stop()
        if self._pods is not None:
            await self._pods.stop()
            self._pods = None

    # --- looking -------------------------------------------------------------------------------

    async def look(self) -> Target:
        """The number now, the pods, and who else scales it."""
        try:
            resource = await self._found()
            scale = await self._objects.scale(resource, self.ref.name, self.ref.namespace)
        except KubernetesError as error:
            raise ActuatorError(f"{self.name}: {error}") from error
        pods = await self._following(scale.selector)
        return Target(
            scale.replicas, scale.resource_version, tuple(self._members(pods)), self._owner()
        )

    async def check(self) -> None:
        """Whether we may change the number: a dry run that asks for what there is."""
        target = await self.look()
        try:
            await self._write(target.replicas, target.version, dry_run=True)
        except KubernetesError as error:
            raise ActuatorError(f"{self.name}: {error}") from error

    async def _found(self) -> Resource:
        """The target's resource; of a kind that is not known, the API server is asked."""
        if self._resource is None:
            known = _KNOWN.get((self.ref.group, self.ref.kind))
            self._resource = known or await self._discovered()
        return self._resource

    async def _discovered(self) -> Resource:
        group, version = self.ref.group, self.ref.api_version.rpartition("/")[2]
        path = f"/apis/{group}/{version}" if group else f"/api/{version}"
        said = await self._connection.request("GET", path)
        names = {one.get("name", ""): one for one in said.get("resources") or ()}
        for plural, one in names.items():
            if one.get("kind") == self.ref.kind and "/" not in plural:
                if f"{plural}/scale" not in names:
                    raise ActuatorError(f"{self.name}: {plural} have no scale subresource")
                return Resource(group, version, plural, self.ref.kind)
        raise ActuatorError(f"{self.name}: {self.ref.api_version} has no kind {self.ref.kind}")

    async def _following(self, selector: str) -> Iterable[Object]:
        """The pods that the target's own selector selects."""
        if not selector:
            raise ActuatorError(f"{self.name}: it does not say which pods are its own yet")
        if self._pods is None or selector != self._selector:
            if self._pods is not None:
                await self._pods.stop()
            self._selector = selector
            self._pods = self._cache(PODS, selector)
            self._pods.subscribe(lambda _: self._told())
            await self._pods.start()
        if not self._pods.synced and not await self._pods.wait_synced(_READY_SECONDS):
            raise ActuatorError(f"{self.name}: its pods: {self._pods.condition.message}")
        return list(self._pods.objects.values())

    def _members(self, pods: Iterable[Object]) -> Iterable[Member]:
        born: dict[str, float] = {}
        endpoints = self._endpoints()
        for pod in pods:
            phase = _phase(pod)
            if phase is None:
                continue
            metadata = pod["metadata"]
            uid = metadata.get("uid", metadata["name"])
            born[uid] = self._born.get(uid) or self._clock() - _age(metadata)
            yield Member(
                metadata["name"],
                endpoints.get(key_of(pod), ()),
                phase,
                born[uid],
                LEAVING in (metadata.get("annotations") or {}),
            )
        self._born = born

    def _owner(self) -> str | None:
        """Who else scales the target, or why that can't be known."""
        hpas = self._owners[0]
        if not hpas.listed and hpas.condition.phase is not Listing.MISSING:
            return f"who knows who (HorizontalPodAutoscalers can't be read: {_why(hpas)})"
        for cache in self._owners:
            for item in cache.objects.values():
                if self._is_meant(item):
                    return f"{item['kind']} {item['metadata']['name']}"
        return None

    def _is_meant(self, item: Object) -> bool:
        ref = (item.get("spec") or {}).get("scaleTargetRef") or {}
        group = str(ref.get("apiVersion") or "apps/v1").rpartition("/")[0]
        kind = ref.get("kind") or "Deployment"  # as KEDA takes it
        return (group, kind, ref.get("name")) == (self.ref.group, self.ref.kind, self.ref.name)

    def _cache(
        self, resource: Resource, selector: str | None = None, *, required: bool = True
    ) -> Cache:
        return Cache(
            self._connection,
            resource,
            namespace=self.ref.namespace,
            label_selector=selector,
            settings=self._settings,
            clock=self._clock,
            required=required,
        )

    # --- changing ------------------------------------------------------------------------------

    def choosable(self, target: Target, count: int) -> Sequence[Member] | None:
        """The highest ordinals, where that is the rule."""
        if self.ref.kind not in _ORDINALS:
            return None
        return self._by_ordinal(target)[:count]

    def removable(self, target: Target, drained: Collection[str]) -> Sequence[str]:
        """The drained ones; with ordinals, only those above which nobody stays."""
        if self.ref.kind not in _ORDINALS:
            return [member.name for member in target.members if member.name in drained]
        found = []
        for member in self._by_ordinal(target):
            if member.name not in drained:
                break
            found.append(member.name)
        return found

    async def announce(self, target: Target, leaving: Sequence[str]) -> None:
        """Annotate those who go, with the lowest costs, and free everybody else from ours."""
        patches = []
        for member in target.members:
            if member.phase is Phase.LEAVING:
                continue
            if member.name in leaving:
                cost = LOWEST_COST + leaving.index(member.name)
                patches.append(self._annotate(member.name, cost))
            elif member.announced or member.name in self._announced:
                patches.append(self._annotate(member.name, None))
        self._announced = set(leaving)
        for result in await asyncio.gather(*patches, return_exceptions=True):
            if isinstance(result, KubernetesError) and not isinstance(result, NotFoundError):
                raise ActuatorError(f"{self.name}: a pod can't be annotated: {result}") from result
            if isinstance(result, BaseException) and not isinstance(result, NotFoundError):
                raise result

    async def scale(self, target: Target, replicas: int, removed: Sequence[str]) -> None:
        """Ask for so many, if the number is still what it was."""
        del removed  # their costs say so
        version = target.version
        for _ in range(_TRIES):
            try:
                await self._write(replicas, version)
                return
            except ConflictError:
                now = await self.look()
                if now.replicas != target.replicas:
                    raise MovedError(
                        f"{self.name}: {target.replicas} replicas became {now.replicas} meanwhile"
                    ) from None
                version = now.version
            except KubernetesError as error:
                raise ActuatorError(f"{self.name}: {error}") from error
        raise MovedError(f"{self.name} changes too fast")

    async def tell_need(self, needed: int) -> None:
        """An InferenceCapacity is told; other kinds have no use for it."""
        if self.ref.kind != CAPACITY_KIND or self._told_need == needed:
            return
        patch = {"metadata": {"annotations": {NEEDED_ANNOTATION: str(needed)}}}
        try:
            resource = await self._found()
            await self._objects.merge_patch(resource, self.ref.name, patch, self.ref.namespace)
        except KubernetesError as error:
            raise ActuatorError(f"{self.name}: its need can't be told: {error}") from error
        self._told_need = needed

    async def _write(self, replicas: int, version: str, *, dry_run: bool = False) -> None:
        await self._objects.merge_patch(
            await self._found(),
            self.ref.name,
            {"metadata": {"resourceVersion": version}, "spec": {"replicas": replicas}},
            self.ref.namespace,
            subresource="scale",
            dry_run=dry_run,
        )

    async def _annotate(self, pod: str, cost: int | None) -> None:
        before = self._annotation(pod, LEAVING)
        if cost is None:
            annotations = {LEAVING: None, DELETION_COST: before or None}
        else:
            had = self._annotation(pod, DELETION_COST) or ""
            annotations = {
                LEAVING: had if before is None else before,
                DELETION_COST: str(cost),
            }
        patch = {"metadata": {"annotations": annotations}}
        await self._objects.merge_patch(PODS, pod, patch, self.ref.namespace)

    def _annotation(self, pod: str, key: str) -> str | None:
        found = None if self._pods is None else self._pods.get(pod, self.ref.namespace)
        if found is None:
            return None
        value = (found["metadata"].get("annotations") or {}).get(key)
        return None if value is None else str(value)

    def _by_ordinal(self, target: Target) -> Sequence[Member]:
        """Members that are not being ended, the highest ordinal first."""
        staying = [member for member in target.members if member.phase is not Phase.LEAVING]
        return sorted(staying, key=lambda member: self._ordinal(member.name), reverse=True)

    def _ordinal(self, pod: str) -> int:
        found = None if self._pods is None else self._pods.get(pod, self.ref.namespace)
        labels = {} if found is None else found["metadata"].get("labels") or {}
        said = str(labels.get(_ORDINALS[self.ref.kind]) or pod.rpartition("-")[2])
        return int(said) if said.isdecimal() else -1


def _phase(pod: Object) -> Phase | None:
    """How far a pod is; None for one that has ended and that nobody counts."""
    status = pod.get("status") or {}
    if status.get("phase") in {"Succeeded", "Failed"}:
        return None
    if pod["metadata"].get("deletionTimestamp") is not None:
        return Phase.LEAVING
    containers = [*(status.get("initContainerStatuses") or ()),
                  *(status.get("containerStatuses") or ())]  # fmt: skip
    waits = {((one.get("state") or {}).get("waiting") or {}).get("reason") for one in containers}
    if waits & _FAILING:
        return Phase.FAILING
    if not (pod.get("spec") or {}).get("nodeName") and status.get("phase") != "Running":
        return Phase.PENDING
    return Phase.RUNNING


def _age(metadata: Object) -> float:
    """Seconds since the object was made, by the API server's clock and ours."""
    said = metadata.get("creationTimestamp")
    if not said:
        return 0.0
    try:
        made = datetime.fromisoformat(str(said)).timestamp()
    except ValueError:
        return 0.0
    return max(time.time() - made, 0.0)


def _why(cache: Cache) -> str:
    return cache.condition.message or "not answered yet"
