"""Topologies that schedulers of the cluster were given: KAI's, Kueue's, Grove's.

They are read once, at the start: their levels can't be changed.
"""

import logging
from typing import Final

from endpoints.allocation.inventory import InventoryError
from endpoints.allocation.levels import Scheme, scheme_of
from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.errors import ApiError, NotFoundError
from endpoints.kubernetes.objects import Objects
from endpoints.kubernetes.resources import Object, Resource

_log = logging.getLogger(__name__)
_KINDS: Final = {
    ("kai.scheduler", "topologies"): "Topology",
    ("kueue.x-k8s.io", "topologies"): "Topology",
    ("grove.io", "clustertopologies"): "ClusterTopology",
    ("grove.io", "clustertopologybindings"): "ClusterTopologyBinding",
}


async def topologies(connection: Connection) -> dict[str, Scheme]:
    """Those that there are, by name. What can't be read is logged and left out."""
    objects = Objects(connection)
    found = {}
    for group in dict.fromkeys(group for group, _ in _KINDS):
        try:
            resources = await _served(connection, group)
            read = [one for resource in resources for one in await objects.list(resource)]
        except ApiError as error:
            if not isinstance(error, NotFoundError):
                _log.warning("topologies of %s can't be read: %s", group, error)
            continue
        for item in read:
            try:
                scheme = scheme_of(item)
            except InventoryError as error:
                _log.warning("a topology can't be used: %s", error)
                continue
            found[scheme.name] = scheme
    return found


async def _served(connection: Connection, group: str) -> list[Resource]:
    """The kinds of the group that matter, in the version that the cluster prefers."""
    said: Object = await connection.request("GET", f"/apis/{group}")
    version = str(said["preferredVersion"]["version"])
    listed: Object = await connection.request("GET", f"/apis/{group}/{version}")
    names = {one["name"] for one in listed.get("resources") or ()}
    return [
        Resource(group, version, plural, kind, namespaced=False)
        for (of, plural), kind in _KINDS.items()
        if of == group and plural in names
    ]
