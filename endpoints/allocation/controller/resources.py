"""The kinds that the controller reads and writes, in the versions that the cluster serves."""

from collections.abc import Mapping
from typing import Final

from msgspec import Struct

from endpoints.allocation.emission.gangs import grove, kai, lws, native
from endpoints.allocation.emission.identity import Object
from endpoints.allocation.emission.served import GROUPS, GangApi, NotServedError, Served, gangs_of
from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.errors import NotFoundError
from endpoints.kubernetes.resources import PODS, Resource

CAPACITIES: Final = Resource("inferway.dev", "v1alpha1", "inferencecapacities", "InferenceCapacity")
EVENTS: Final = Resource("events.k8s.io", "v1", "events", "Event")
_DRA: Final = "resource.k8s.io"
_RULE_VERSIONS: Final = ("v1", "v1beta2", "v1alpha3")


class Kinds(Struct, frozen=True):
    """The devices' kinds; ``rules`` is None where the cluster has no DeviceTaintRules."""

    slices: Resource
    classes: Resource
    claims: Resource
    templates: Resource
    rules: Resource | None
    gangs: tuple[Resource, ...]
    """Every kind that can keep a gang whole here: what an earlier setting made is found, too."""

    @property
    def owned(self) -> Mapping[tuple[str, str], Resource]:
        """What we write, by group and kind."""
        return {(one.group, one.kind): one for one in (PODS, self.templates, *self.gangs)}


def kinds_of(served: Served) -> Kinds:
    """The kinds in this cluster. NotServedError when it has no devices of this sort at all."""
    version = served.claims()
    rules = served.version(_DRA, "devicetaintrules", _RULE_VERSIONS)
    return Kinds(
        slices=Resource(_DRA, version, "resourceslices", "ResourceSlice", namespaced=False),
        classes=Resource(_DRA, version, "deviceclasses", "DeviceClass", namespaced=False),
        claims=Resource(_DRA, version, "resourceclaims", "ResourceClaim"),
        templates=Resource(_DRA, version, "resourceclaimtemplates", "ResourceClaimTemplate"),
        rules=None
        if rules is None
        else Resource(_DRA, rules, "devicetaintrules", "DeviceTaintRule", namespaced=False),
        gangs=tuple(_gang_kinds(served)),
    )


def _gang_kinds(served: Served) -> list[Resource]:
    found = []
    for api in GangApi:
        try:
            version = gangs_of(served, api.value).version
        except NotServedError:
            continue
        if api is GangApi.KAI:
            group = kai.API_VERSION.partition("/")[0]
            found.append(Resource(group, version, "podgroups", "PodGroup"))
        elif api is GangApi.NATIVE:
            found.append(Resource(native.GROUP, version, "workloads", "Workload"))
            if served.version(native.GROUP, "podgroups", (version,)) and version != "v1alpha1":
                found.append(Resource(native.GROUP, version, "podgroups", "PodGroup"))
        elif api is GangApi.GROVE:
            group = grove.API_VERSION.partition("/")[0]
            found.append(Resource(group, version, "podcliquesets", "PodCliqueSet"))
        elif api is GangApi.LEADER_WORKER_SET:
            group = lws.API_VERSION.partition("/")[0]
            found.append(Resource(group, version, "leaderworkersets", "LeaderWorkerSet"))
    return found


async def discover(connection: Connection) -> Served:
    """What the cluster serves of the groups that matter. Raises KubernetesError."""
    found = set()
    for group in GROUPS:
        try:
            said = await connection.request("GET", f"/apis/{group}")
        except NotFoundError:
            continue
        for version in (one["version"] for one in said.get("versions") or ()):
            listed: Object = await connection.request("GET", f"/apis/{group}/{version}")
            found |= {(group, version, one["name"]) for one in listed.get("resources") or ()}
    return Served(frozenset(found))
