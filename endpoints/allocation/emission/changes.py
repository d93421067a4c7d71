"""What has to be applied and deleted so that the cluster has what it should have. Pure.

Claim templates come first, then what keeps gangs whole, then pods, so that nothing refers to
what is not there yet; deletions go the other way round.
"""

from collections.abc import Iterable, Sequence
from typing import Final, TypeAlias

from msgspec import Struct

from endpoints.allocation.emission import claims
from endpoints.allocation.emission.gangs import WRITERS
from endpoints.allocation.emission.gangs.setting import Setting
from endpoints.allocation.emission.identity import CONTENT_ANNOTATION, Object, Replica
from endpoints.allocation.emission.served import GangApi
from endpoints.allocation.holdings import REPLICA_LABEL

Name: TypeAlias = tuple[str, str, str]
"""Group, kind and name; all are in one namespace. (KAI and Kubernetes both have PodGroups.)"""

_ORDER: Final = (claims.KIND, "Workload", "PodGroup", "PodCliqueSet", "LeaderWorkerSet", "Pod")
_UNCHANGEABLE: Final = (claims.KIND, "Pod")
"""Kinds that are replaced by others with new names rather than changed."""


class Changes(Struct, frozen=True):
    """Objects to apply, in order, and objects to delete, in order."""

    applied: tuple[Object, ...] = ()
    deleted: tuple[Object, ...] = ()

    def __bool__(self) -> bool:
        return bool(self.applied or self.deleted)


def name_of(item: Object) -> Name:
    """What an object is called in its namespace."""
    return item["apiVersion"].rpartition("/")[0], item["kind"], item["metadata"]["name"]


def written(replicas: Iterable[Replica], setting: Setting, api: GangApi) -> list[Object]:
    """All objects of these replicas, each once. EmissionError when one can't be written."""
    found: dict[Name, Object] = {}
    for replica in replicas:
        for item in WRITERS[api](replica, setting):
            found[name_of(item)] = item
    return sorted(found.values(), key=_rank)


def changes(wanted: Iterable[Object], existing: Sequence[Object], kept: Iterable[str]) -> Changes:
    """What differs. ``existing`` are all objects that are ours; ``kept`` names of replicas.

    An object of a kept replica stays although it is not wanted: it belongs to an older revision
    and goes with its replica. So does a claim template that some pod of ours still names.
    """
    wanted_by_name = {name_of(item): item for item in wanted}
    existing_by_name = {name_of(item): item for item in existing}
    staying = frozenset(kept)
    applied = [
        item for name, item in wanted_by_name.items() if _differs(item, existing_by_name.get(name))
    ]
    going = [
        item
        for name, item in existing_by_name.items()
        if name not in wanted_by_name
        and item["kind"] != claims.KIND
        and item["metadata"].get("labels", {}).get(REPLICA_LABEL) not in staying
        and not item["metadata"].get("deletionTimestamp")
    ]
    gone = {name_of(item) for item in going}
    used = {
        template
        for name, item in existing_by_name.items()
        if name not in gone
        for template in _templates_in(item)
    }
    going += [
        item
        for name, item in existing_by_name.items()
        if item["kind"] == claims.KIND
        and name not in wanted_by_name
        and item["metadata"]["name"] not in used
        and not item["metadata"].get("deletionTimestamp")
    ]
    return Changes(tuple(sorted(applied, key=_rank)), tuple(sorted(going, key=_rank, reverse=True)))


def _differs(item: Object, existing: Object | None) -> bool:
    if existing is None:
        return True
    if item["kind"] in _UNCHANGEABLE or existing["metadata"].get("deletionTimestamp"):
        return False
    annotations = existing["metadata"].get("annotations") or {}
    return bool(
        annotations.get(CONTENT_ANNOTATION) != item["metadata"]["annotations"][CONTENT_ANNOTATION]
    )


def _templates_in(item: object) -> Iterable[str]:
    """Names of claim templates anywhere in an object: pods have them, and templates of pods."""
    if isinstance(item, dict):
        for key, value in item.items():
            if key == "resourceClaimTemplateName" and isinstance(value, str):
                yield value
            else:
                yield from _templates_in(value)
    elif isinstance(item, list):
        for one in item:
            yield from _templates_in(one)


def _rank(item: Object) -> tuple[int, str]:
    return _ORDER.index(item["kind"]), item["metadata"]["name"]
