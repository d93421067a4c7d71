"""KAI-Scheduler: a PodGroup (``scheduling.run.ai/v2alpha2``) over all roles, a subgroup each.

Pods name their PodGroup themselves, so KAI's pod-grouper makes none for them. The queue must be
there already: queues are an administrator's, and a PodGroup of an unknown queue is never
scheduled.
"""

from typing import Final

from endpoints.allocation.emission.gangs.setting import Joining, Setting, gang_object, own_pods
from endpoints.allocation.emission.identity import Object, Replica

API_VERSION: Final = "scheduling.run.ai/v2alpha2"
SCHEDULER: Final = "kai-scheduler"
DEFAULT_QUEUE: Final = "default-queue"
QUEUE_LABEL: Final = "kai.scheduler/queue"
_GROUP_ANNOTATION: Final = "pod-group-name"
_SUBGROUP_LABEL: Final = "kai.scheduler/subgroup-name"


def objects(replica: Replica, setting: Setting) -> list[Object]:
    """The PodGroup, its claim templates and its pods."""
    queue = setting.scheduler.queue or DEFAULT_QUEUE
    roles = replica.plan.gang.roles
    spec: Object = {
        "minMember": replica.plan.gang.pods,
        "queue": queue,
        "subGroups": [{"name": role.name, "minMember": role.pods} for role in roles],
    }
    if setting.scheduler.priority_class_name is not None:
        spec["priorityClassName"] = setting.scheduler.priority_class_name
    group = gang_object(API_VERSION, "PodGroup", replica.name, spec, replica, setting)
    group["metadata"]["labels"][QUEUE_LABEL] = queue
    joining = {
        role.name: Joining(
            labels={QUEUE_LABEL: queue, _SUBGROUP_LABEL: role.name},
            annotations={_GROUP_ANNOTATION: replica.name},
            fields={"schedulerName": SCHEDULER},
        )
        for role in roles
    }
    return [group, *own_pods(replica, setting, joining)]
