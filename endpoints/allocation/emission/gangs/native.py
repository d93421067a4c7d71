"""Kubernetes' own gangs, ``scheduling.k8s.io``, in the version that is served.

==========================  ==================================  ==================================
version                     objects                             pods say
==========================  ==================================  ==================================
v1alpha1 (1.35)             Workload                            ``workloadRef``
v1alpha2 (1.36)             Workload, PodGroup with             ``schedulingGroup``
                            ``podGroupTemplateRef``
v1beta1, v1alpha3 (1.37)    Workload, PodGroup with             ``schedulingGroup``
                            ``workloadRef``
==========================  ==================================  ==================================

One replica is one group of all its roles' pods. More replicas are more groups: ``minCount`` can't
be changed before 1.37, and counts only while pods are scheduled.
"""

from typing import Final

from endpoints.allocation.emission.gangs.setting import Joining, Setting, gang_object, own_pods
from endpoints.allocation.emission.identity import Object, Replica
from endpoints.allocation.manifest import API_VERSION as CAPACITY_API
from endpoints.allocation.manifest import KIND as CAPACITY_KIND

GROUP: Final = "scheduling.k8s.io"
_TEMPLATE: Final = "gang"


def objects(replica: Replica, setting: Setting) -> list[Object]:
    """Workload, PodGroup where that is a kind of its own, claim templates and pods."""
    version = setting.version
    api = f"{GROUP}/{version}"
    gang = {"gang": {"minCount": replica.plan.gang.pods}}
    name = replica.name
    controller = {
        "apiGroup": CAPACITY_API.partition("/")[0],
        "kind": CAPACITY_KIND,
        "name": setting.owner.name,
    }
    if version == "v1alpha1":
        spec: Object = {
            "controllerRef": controller,
            "podGroups": [{"name": _TEMPLATE, "policy": gang}],
        }
        made = [gang_object(api, "Workload", name, spec, replica, setting)]
        field: Object = {"workloadRef": {"name": name, "podGroup": _TEMPLATE}}
    else:
        group: Object = {"schedulingPolicy": gang}
        if replica.plan.domain is not None:
            key = replica.plan.domain.label
            group["schedulingConstraints"] = {"topology": [{"key": key}]}
        templates = [{"name": _TEMPLATE, **group}]
        workload: Object = {"controllerRef": controller, "podGroupTemplates": templates}
        made = [
            gang_object(api, "Workload", name, workload, replica, setting),
            gang_object(
                api, "PodGroup", name, {**_template_of(name, version), **group}, replica, setting
            ),
        ]
        field = {"schedulingGroup": {"podGroupName": name}}
    joining = {role.name: Joining(fields=field) for role in replica.plan.gang.roles}
    return [*made, *own_pods(replica, setting, joining)]


def _template_of(workload: str, version: str) -> Object:
    if version == "v1alpha2":
        reference = {"workloadName": workload, "podGroupTemplateName": _TEMPLATE}
        return {"podGroupTemplateRef": {"workload": reference}}
    return {"workloadRef": {"workloadName": workload, "templateName": _TEMPLATE}}
