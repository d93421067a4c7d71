"""What every writer of gangs is given, and what they have in common."""

from collections.abc import Mapping

from msgspec import Struct

from endpoints.allocation.document import SchedulerSpec
from endpoints.allocation.emission.claims import claim_template
from endpoints.allocation.emission.identity import (
    SERVING,
    SERVING_LABEL,
    Object,
    Owner,
    Replica,
    owned,
    role_labels,
)
from endpoints.allocation.emission.narrowing import pod_key
from endpoints.allocation.emission.podtemplate import PodPatch, patched, place_of
from endpoints.allocation.needs import RoleNeed


class Setting(Struct, frozen=True):
    """One InferenceCapacity in one cluster.

    ``templates`` are the users' pod templates by role. ``version`` is the gang API's,
    ``claims_version`` that of ``resource.k8s.io``.
    """

    owner: Owner
    scheduler: SchedulerSpec
    templates: Mapping[str, Object]
    version: str = ""
    claims_version: str = "v1"


class Joining(Struct, frozen=True):
    """How a pod joins its gang: what is added to its labels, annotations and ``spec``."""

    labels: Mapping[str, str] = {}
    annotations: Mapping[str, str] = {}
    fields: Mapping[str, object] = {}


def shared_templates(replica: Replica, setting: Setting) -> list[Object]:
    """A claim template for each role that requests devices, which all of its pods share."""
    return [
        claim_template(setting.owner, replica.plan, role, setting.claims_version)
        for role in replica.plan.gang.roles
        if role.requests
    ]


def claims_of(
    replica: Replica, role: RoleNeed, setting: Setting, index: int | None = None
) -> Object | None:
    """The template of a role's claims, or of one of its pods'; None without requests."""
    if not role.requests:
        return None
    narrowed = {} if index is None else replica.narrowing.get(pod_key(role.name, index), {})
    return claim_template(setting.owner, replica.plan, role, setting.claims_version, narrowed)


def pod_template(
    replica: Replica,
    role: RoleNeed,
    setting: Setting,
    joining: Joining,
    index: int | None = None,
) -> Object:
    """The role's pod template, as all its pods share it, or as the pod of that ``index`` has it."""
    plan, scheduler = replica.plan, setting.scheduler
    fields = dict(joining.fields)
    if scheduler.name is not None:
        fields["schedulerName"] = scheduler.name
    if scheduler.priority_class_name is not None:
        fields["priorityClassName"] = scheduler.priority_class_name
    claims = claims_of(replica, role, setting, index)
    patch = PodPatch(
        claim_template=None if claims is None else claims["metadata"]["name"],
        place=place_of(plan, role.name, scheduler.pin, index),
        labels={
            **setting.owner.labels(),
            **replica.labels(),
            **role_labels(role.name),
            SERVING_LABEL: SERVING,
            **joining.labels,
        },
        annotations=joining.annotations,
        fields=fields,
    )
    return patched(setting.templates.get(role.name, {}), role, patch)


def own_pods(
    replica: Replica, setting: Setting, joining: Mapping[str, Joining] | None = None
) -> list[Object]:
    """Every pod of the replica, each pinned to its own planned node, and their claim templates.

    ``joining`` is by role.
    """
    made = []
    for role in replica.plan.gang.roles:
        how = Joining() if joining is None else joining[role.name]
        for index in range(role.pods):
            claims = claims_of(replica, role, setting, index)
            if claims is not None:
                made.append(claims)
            template = pod_template(replica, role, setting, how, index)
            name = f"{replica.name}-{role.name}-{index}"
            pod = {
                "apiVersion": "v1",
                "kind": "Pod",
                **template,
                "metadata": {**template["metadata"], "name": name},
            }
            made.append(owned(setting.owner, pod))
    return made


def gang_object(
    api_version: str, kind: str, name: str, spec: Object, replica: Replica, setting: Setting
) -> Object:
    """An object that stands for the replica or one role of it."""
    item = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    return owned(setting.owner, item, [replica.labels()])
