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


def claim_templates(replica: Replica, setting: Setting) -> list[Object]:
    """The claim templates of a replica; a role without requests has none."""
    return [
        claim_template(setting.owner, replica.plan, role, setting.claims_version)
        for role in replica.plan.gang.roles
        if role.requests
    ]


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
    claims = (
        claim_template(setting.owner, plan, role, setting.claims_version)["metadata"]["name"]
        if role.requests
        else None
    )
    patch = PodPatch(
        claim_template=claims,
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
    """Every pod of the replica, each pinned to its own planned node; ``joining`` is by role."""
    pods = []
    for role in replica.plan.gang.roles:
        how = Joining() if joining is None else joining[role.name]
        for index in range(role.pods):
            template = pod_template(replica, role, setting, how, index)
            name = f"{replica.name}-{role.name}-{index}"
            pods.append(
                owned(
                    setting.owner,
                    {
                        "apiVersion": "v1",
                        "kind": "Pod",
                        **template,
                        "metadata": {**template["metadata"], "name": name},
                    },
                )
            )
    return pods


def gang_object(
    api_version: str, kind: str, name: str, spec: Object, replica: Replica, setting: Setting
) -> Object:
    """An object that stands for the replica or one role of it."""
    item = {"apiVersion": api_version, "kind": kind, "metadata": {"name": name}, "spec": spec}
    return owned(setting.owner, item, [replica.labels()])
