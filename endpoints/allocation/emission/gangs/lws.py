"""LeaderWorkerSet (``leaderworkerset.x-k8s.io/v1``): one a role, with one group of its pods.

A group is kept whole by its controller, and by KAI's or the native gang scheduling where they
know LeaderWorkerSets; the roles of one replica are not held together by it. Each replica has
sets of its own, since a set removes its last group first, whichever we would rather lose.
"""

from typing import Final

from endpoints.allocation.emission.gangs.kai import QUEUE_LABEL
from endpoints.allocation.emission.gangs.setting import (
    Joining,
    Setting,
    gang_object,
    pod_template,
    shared_templates,
)
from endpoints.allocation.emission.identity import Object, Replica, role_labels

API_VERSION: Final = "leaderworkerset.x-k8s.io/v1"


def objects(replica: Replica, setting: Setting) -> list[Object]:
    """Claim templates, and a LeaderWorkerSet for each role."""
    queue = setting.scheduler.queue
    joining = Joining(labels={} if queue is None else {QUEUE_LABEL: queue})
    made = []
    for role in replica.plan.gang.roles:
        spec = {
            "replicas": 1,
            "startupPolicy": "LeaderCreated",
            "leaderWorkerTemplate": {
                "size": role.pods,
                "restartPolicy": "RecreateGroupOnPodRestart",
                "workerTemplate": pod_template(replica, role, setting, joining),
            },
        }
        name = f"{replica.name}-{role.name}"
        item = gang_object(API_VERSION, "LeaderWorkerSet", name, spec, replica, setting)
        item["metadata"]["labels"].update(role_labels(role.name))
        made.append(item)
    return [*shared_templates(replica, setting), *made]
