"""Grove: a PodCliqueSet (``grove.io/v1alpha1``) of one replica, a clique a role.

Grove makes the PodGang, and the scheduler behind it (KAI) keeps it whole. A clique's pods share
one template, so they are pinned to the planned nodes together, not each to its own.
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
from endpoints.allocation.emission.identity import EmissionError, Object, Replica

API_VERSION: Final = "grove.io/v1alpha1"
_LONGEST_NAME: Final = 63
_POD_SUFFIX: Final = len("-0--xxxxx")  # <set>-0-<clique>-xxxxx


def objects(replica: Replica, setting: Setting) -> list[Object]:
    """Claim templates and the PodCliqueSet. EmissionError when names of pods would get too long."""
    queue = setting.scheduler.queue
    joining = Joining(labels={} if queue is None else {QUEUE_LABEL: queue})
    cliques = []
    for role in replica.plan.gang.roles:
        length = len(replica.name) + len(role.name) + _POD_SUFFIX
        if length > _LONGEST_NAME:
            raise EmissionError(
                f"Grove's pods of role {role.name} would have names of {length} characters; "
                f"{_LONGEST_NAME} are allowed: shorten the InferenceCapacity's or the role's name"
            )
        template = pod_template(replica, role, setting, joining)
        metadata = template["metadata"]
        cliques.append(
            {
                "name": role.name,
                "labels": metadata["labels"],
                "annotations": metadata.get("annotations", {}),
                "spec": {
                    "roleName": role.name,
                    "replicas": role.pods,
                    "minAvailable": role.pods,
                    "podSpec": template["spec"],
                },
            }
        )
    body: Object = {"cliques": cliques}
    if setting.scheduler.priority_class_name is not None:
        body["priorityClassName"] = setting.scheduler.priority_class_name
    spec = {"replicas": 1, "template": body}
    item = gang_object(API_VERSION, "PodCliqueSet", replica.name, spec, replica, setting)
    return [*shared_templates(replica, setting), item]
