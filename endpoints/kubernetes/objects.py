"""Reading and writing single objects, with the API server's own guards against lost updates.

Raises the errors of `endpoints.kubernetes.errors`: `ConflictError` for a stale resource version
or fields that somebody else owns, `NotFoundError`, `ForbiddenError`, `UnreachableError`, ...
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from endpoints.kubernetes.connection import JSON, Connection
from endpoints.kubernetes.resources import Object, Resource, items_of

FIELD_MANAGER: Final = "inferway"
_MERGE: Final = "application/merge-patch+json"
_JSON_PATCH: Final = "application/json-patch+json"
_APPLY: Final = "application/apply-patch+yaml"


@dataclass(frozen=True, slots=True)
class Scale:
    """How many replicas are wanted and there, who they are, and the version that says so."""

    replicas: int
    current: int
    selector: str
    resource_version: str


class Objects:
    """Single objects of one API server. ``manager`` names us as the owner of what we write."""

    def __init__(self, connection: Connection, manager: str = FIELD_MANAGER) -> None:
        self._connection = connection
        self.manager = manager

    async def get(self, resource: Resource, name: str, namespace: str | None = None) -> Object:
        """The object as it is now."""
        return await self._ask("GET", resource.path(namespace, name))

    async def list(
        self,
        resource: Resource,
        namespace: str | None = None,
        *,
        label_selector: str | None = None,
        field_selector: str | None = None,
        page: int = 500,
    ) -> Sequence[Object]:
        """All of them, page by page. For what is looked at again and again, use a `Cache`."""
        query = {"limit": str(page)}
        if label_selector:
            query["labelSelector"] = label_selector
        if field_selector:
            query["fieldSelector"] = field_selector
        found: list[Object] = []
        while True:
            said = await self._ask("GET", resource.path(namespace), query)
            found += items_of(said)
            token = (said.get("metadata") or {}).get("continue")
            if not token:
                return found
            query["continue"] = token

    async def create(
        self,
        resource: Resource,
        item: Object,
        namespace: str | None = None,
        *,
        dry_run: bool = False,
    ) -> Object:
        """Make it; `AlreadyExistsError` when there is one of that name."""
        path = resource.path(namespace or item["metadata"].get("namespace"))
        return await self._ask("POST", path, self._written(dry_run), _whole(resource, item))

    async def replace(
        self,
        resource: Resource,
        item: Object,
        *,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Put it in place of what is there; `ConflictError` when its version is not the last."""
        metadata = item["metadata"]
        path = resource.path(metadata.get("namespace"), metadata["name"], subresource)
        return await self._ask("PUT", path, self._written(dry_run), _whole(resource, item))

    async def apply(
        self,
        resource: Resource,
        item: Object,
        *,
        force: bool = False,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Server-side apply: ``item`` holds exactly the fields that we want to own.

        What we applied before and leave out now is removed. `ConflictError.fields` names the fields
        that others own, unless ``force`` takes them over.
        """
        metadata = item["metadata"]
        query = self._written(dry_run)
        if force:
            query["force"] = "true"
        path = resource.path(metadata.get("namespace"), metadata["name"], subresource)
        return await self._ask("PATCH", path, query, _whole(resource, item), _APPLY)

    async def merge_patch(
        self,
        resource: Resource,
        name: str,
        patch: Object,
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Change these fields (RFC 7386); a ``metadata.resourceVersion`` in it is a condition."""
        path = resource.path(namespace, name, subresource)
        return await self._ask("PATCH", path, self._written(dry_run), patch, _MERGE)

    async def json_patch(
        self,
        resource: Resource,
        name: str,
        operations: Sequence[Object],
        namespace: str | None = None,
        *,
        subresource: str | None = None,
        dry_run: bool = False,
    ) -> Object:
        """Carry out these operations (RFC 6902), all or none; ``test`` makes conditions."""
        path = resource.path(namespace, name, subresource)
        query = self._written(dry_run)
        return await self._ask("PATCH", path, query, list(operations), _JSON_PATCH)

    async def patch_status(
        self, resource: Resource, name: str, status: Object, namespace: str | None = None
    ) -> Object:
        """Merge ``status`` into the object's status."""
        patch = {"status": status}
        return await self.merge_patch(resource, name, patch, namespace, subresource="status")

    async def delete(
        self,
        resource: Resource,
        name: str,
        namespace: str | None = None,
        *,
        uid: str | None = None,
        resource_version: str | None = None,
        grace_seconds: int | None = None,
        propagation: str | None = None,
    ) -> Object:
        """Delete it, if it is still that one and that version; `ConflictError` otherwise.

        ``propagation`` is Background, Foreground or Orphan.
        """
        options: Object = {"apiVersion": "v1", "kind": "DeleteOptions"}
        guards = {"uid": uid, "resourceVersion": resource_version}
        if given := {key: value for key, value in guards.items() if value is not None}:
            options["preconditions"] = given
        if grace_seconds is not None:
            options["gracePeriodSeconds"] = grace_seconds
        if propagation is not None:
            options["propagationPolicy"] = propagation
        return await self._ask("DELETE", resource.path(namespace, name), None, options)

    async def scale(self, resource: Resource, name: str, namespace: str) -> Scale:
        """How many replicas it has and wants."""
        return _scale(await self._ask("GET", resource.path(namespace, name, "scale")))

    async def set_scale(
        self,
        resource: Resource,
        name: str,
        namespace: str,
        replicas: int,
        *,
        resource_version: str | None = None,
    ) -> Scale:
        """Want so many replicas; `ConflictError` when it is not that version any more."""
        metadata: Object = {"name": name, "namespace": namespace}
        if resource_version is not None:
            metadata["resourceVersion"] = resource_version
        item = {
            "apiVersion": "autoscaling/v1",
            "kind": "Scale",
            "metadata": metadata,
            "spec": {"replicas": replicas},
        }
        path = resource.path(namespace, name, "scale")
        return _scale(await self._ask("PUT", path, self._written(False), item))

    def _written(self, dry_run: bool) -> dict[str, str]:
        query = {"fieldManager": self.manager}
        if dry_run:
            query["dryRun"] = "All"
        return query

    async def _ask(
        self,
        method: str,
        path: str,
        query: dict[str, str] | None = None,
        body: object = None,
        content_type: str = JSON,
    ) -> Object:
        return await self._connection.request(method, path, query, body, content_type)


def _whole(resource: Resource, item: Object) -> Object:
    """With the kind and version that the API server wants to read in it."""
    return {"apiVersion": resource.api_version, "kind": resource.kind, **item}


def _scale(item: Object) -> Scale:
    spec, status = item.get("spec") or {}, item.get("status") or {}
    return Scale(
        replicas=spec.get("replicas") or 0,
        current=status.get("replicas") or 0,
        selector=status.get("selector") or "",
        resource_version=item["metadata"].get("resourceVersion") or "",
    )
