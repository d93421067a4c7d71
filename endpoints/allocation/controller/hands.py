"""Carrying out: applying, deleting, marking and telling, each so that it may be done twice."""

import logging
import secrets
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import Final

from endpoints.allocation.controller.course import Happening
from endpoints.allocation.controller.resources import CAPACITIES, EVENTS, Kinds
from endpoints.allocation.emission.changes import Changes
from endpoints.allocation.emission.identity import MANAGER, SERVING_LABEL, Object
from endpoints.kubernetes.connection import Connection
from endpoints.kubernetes.errors import ApiError, ConflictError, KubernetesError, NotFoundError
from endpoints.kubernetes.leading.reign import DeposedError
from endpoints.kubernetes.objects import Objects
from endpoints.kubernetes.resources import PODS, Resource

_log = logging.getLogger(__name__)
_LONGEST_NOTE: Final = 1024
_LONGEST_STEM: Final = 200


class Hands:
    """Writes for the controller. With ``dry_run`` the API server only checks what it is sent.

    ``leads`` is asked before every single write: DeposedError once somebody else may write.
    """

    def __init__(
        self,
        connection: Connection,
        kinds: Kinds,
        *,
        dry_run: bool = False,
        leads: Callable[[], bool] = lambda: True,
    ) -> None:
        self._objects = Objects(connection, MANAGER)
        self._kinds = kinds
        self._dry_run = dry_run
        self._leads = leads

    async def carry_out(self, changes: Changes) -> list[str]:
        """Apply, then delete; what is refused, in words. Raises KubernetesError for no answer."""
        refused = []
        for item in changes.applied:
            resource = self.resource(item)
            self._check()
            try:
                applied = await self._objects.apply(
                    resource, item, force=True, dry_run=self._dry_run
                )
            except ApiError as error:
                refused.append(f"{resource.kind} {item['metadata']['name']}: {error.message}")
                continue
            refused += dropped(item, applied)
        for item in changes.deleted:
            await self.delete(self.resource(item), item)
        return refused

    async def delete(self, resource: Resource, item: Object) -> None:
        """Delete that very object, not one that has taken its name since."""
        metadata = item["metadata"]
        if self._dry_run:
            return
        self._check()
        try:
            await self._objects.delete(
                resource,
                metadata["name"],
                metadata["namespace"],
                uid=metadata.get("uid"),
                propagation="Background",
            )
        except (NotFoundError, ConflictError):
            return

    async def mark_serving(self, pod: Object, value: str) -> None:
        """Label a pod as one that may get requests, or not."""
        metadata = pod["metadata"]
        if self._dry_run or (metadata.get("labels") or {}).get(SERVING_LABEL) == value:
            return
        self._check()
        patch: Object = {"metadata": {"labels": {SERVING_LABEL: value}}}
        try:
            await self._objects.merge_patch(PODS, metadata["name"], patch, metadata["namespace"])
        except NotFoundError:
            return

    async def write_status(self, capacity: Object, status: Object) -> None:
        """Replace the status."""
        if self._dry_run:
            return
        self._check()
        metadata = capacity["metadata"]
        try:
            await self._objects.patch_status(
                CAPACITIES, metadata["name"], status, metadata["namespace"]
            )
        except NotFoundError:
            return

    async def tell(self, capacity: Object, happenings: Iterable[Happening]) -> None:
        """Events about the capacity. One that can't be written is only logged."""
        if self._dry_run:
            return
        for one in happenings:
            self._check()
            try:
                await self._objects.create(EVENTS, _event(capacity, one))
            except KubernetesError as error:
                _log.warning("an event can't be written: %s (%s)", one.message, error)

    def _check(self) -> None:
        if not self._leads():
            raise DeposedError("somebody else may lead by now")

    def resource(self, item: Object) -> Resource:
        """What kind of object of ours it is."""
        group = item["apiVersion"].rpartition("/")[0]
        return self._kinds.owned[group, item["kind"]]


def dropped(asked: Object, got: Object) -> list[str]:
    """Fields of ours that the API server dropped without a word, being behind a gate there."""
    lost = list(_missing(asked.get("spec", {}), got.get("spec", {}), "spec"))
    if not lost:
        return []
    name = f"{asked['kind']} {asked['metadata']['name']}"
    return [f"{name}: the API server dropped {', '.join(lost)}; a feature gate is off there"]


def _missing(asked: object, got: object, path: str) -> Iterable[str]:
    if isinstance(asked, dict):
        if not isinstance(got, dict):
            yield path
            return
        for key, value in asked.items():
            if key not in got:
                if value not in ({}, [], None, "", False):
                    yield f"{path}.{key}"
            else:
                yield from _missing(value, got[key], f"{path}.{key}")
    elif isinstance(asked, list) and isinstance(got, list) and len(asked) <= len(got):
        for index, (one, other) in enumerate(zip(asked, got, strict=False)):
            yield from _missing(one, other, f"{path}[{index}]")


def _event(capacity: Object, one: Happening) -> Object:
    metadata = capacity["metadata"]
    stem = metadata["name"][:_LONGEST_STEM]
    return {
        "metadata": {
            "name": f"{stem}.{secrets.token_hex(8)}",
            "namespace": metadata["namespace"],
        },
        "eventTime": datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%S.%fZ"),
        "reportingController": f"inferway.dev/{MANAGER}",
        "reportingInstance": MANAGER,
        "action": "Allocate",
        "reason": one.reason,
        "type": "Warning" if one.warning else "Normal",
        "note": one.message[:_LONGEST_NOTE],
        "regarding": {
            "apiVersion": capacity["apiVersion"],
            "kind": capacity["kind"],
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata["uid"],
        },
    }
