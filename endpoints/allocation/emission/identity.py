"""Whose objects they are: labels, owner references, and names made from their content.

Templates can't be changed, so each revision has a name of its own, a hash of what it says.
Everything else carries that hash as an annotation, and is applied again when it differs.
"""

import copy
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any, Final, TypeAlias

import msgspec
from msgspec import Struct

from endpoints.allocation.holdings import POOL_LABEL, REPLICA_LABEL, ROLE_LABEL
from endpoints.allocation.manifest import API_VERSION, KIND
from endpoints.allocation.plan import Plan

Object: TypeAlias = dict[str, Any]

MANAGED_BY_LABEL: Final = "app.kubernetes.io/managed-by"
MANAGER: Final = "inferway-capacity"
"""The value of that label, and the field manager of what is applied."""
CAPACITY_LABEL: Final = "inferway.dev/capacity"
REVISION_LABEL: Final = "inferway.dev/revision"
SERVING_LABEL: Final = "inferway.dev/serving"
"""On pods: whether they may get requests. A pool that selects by it drops pods that drain."""
SERVING: Final = "true"
NOT_SERVING: Final = "false"
CONTENT_ANNOTATION: Final = "inferway.dev/content"
_HASH_LENGTH: Final = 10


class EmissionError(ValueError):
    """A plan that can't be written for the scheduler that is asked for; the message says why."""


class Owner(Struct, frozen=True):
    """The InferenceCapacity that everything belongs to; with it, everything goes."""

    name: str
    namespace: str
    uid: str
    pool: str

    def reference(self) -> Object:
        """As ``metadata.ownerReferences`` has it."""
        return {
            "apiVersion": API_VERSION,
            "kind": KIND,
            "name": self.name,
            "uid": self.uid,
            "controller": True,
            "blockOwnerDeletion": True,
        }

    def labels(self) -> dict[str, str]:
        """What all of its objects are found by."""
        return {
            MANAGED_BY_LABEL: MANAGER,
            CAPACITY_LABEL: self.name,
            POOL_LABEL: label_value(self.pool),
        }


class Replica(Struct, frozen=True):
    """One replica with its plan. ``revision`` is the hash of the needs that it was planned for.

    ``narrowing``: by pod (``role/index``) and request, one more selector for its claim.
    """

    name: str
    revision: str
    plan: Plan
    narrowing: Mapping[str, Mapping[str, str]] = {}

    def labels(self) -> dict[str, str]:
        """What its objects are found by, besides the owner's."""
        return {REPLICA_LABEL: self.name, REVISION_LABEL: self.revision}


def selector(owner: str) -> str:
    """The label selector of one InferenceCapacity's objects."""
    return f"{MANAGED_BY_LABEL}={MANAGER},{CAPACITY_LABEL}={owner}"


def role_labels(role: str) -> dict[str, str]:
    """What objects of one role are found by, besides those."""
    return {ROLE_LABEL: role}


def label_value(text: str) -> str:
    """``text`` as a label's value; what is too long for one is replaced by its hash."""
    return text if len(text) <= 63 else f"x{content_hash(text)}"


def content_hash(content: object) -> str:
    """A short name of what it says: the same for equal content, whatever its order of keys."""
    ordered = msgspec.json.encode(content, order="deterministic")
    return hashlib.sha256(ordered).hexdigest()[:_HASH_LENGTH]


def owned(owner: Owner, item: Object, labels: Iterable[dict[str, str]] = ()) -> Object:
    """``item`` as the owner's: namespace, owner reference, labels and content annotation."""
    item = copy.deepcopy(item)
    metadata = item["metadata"]
    metadata["namespace"] = owner.namespace
    metadata["ownerReferences"] = [owner.reference()]
    given = metadata.setdefault("labels", {})
    for some in (owner.labels(), *labels):
        given.update(some)
    metadata.setdefault("annotations", {})[CONTENT_ANNOTATION] = content_hash(item)
    return item
