"""Pods alone, for clusters without a gang scheduler.

Nothing holds a gang's first pods back while others wait, but each of them is pinned to a node
whose devices are planned for it, so that no two gangs hold half of what either needs.
"""

from endpoints.allocation.emission.gangs.setting import Setting, own_pods
from endpoints.allocation.emission.identity import Object, Replica


def objects(replica: Replica, setting: Setting) -> list[Object]:
    """The replica's claim templates and pods."""
    return own_pods(replica, setting)
