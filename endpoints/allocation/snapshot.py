"""A cluster from a file: what ``kubectl get ... -o json`` prints, read into an inventory.

    kubectl get resourceslices,deviceclasses,resourceclaims,nodes,pods -A -o json > cluster.json

Topologies of KAI, Kueue or Grove may be in it too. An object that can't be read is left out with a
note: one broken slice does not hide the cluster.
"""

from collections.abc import Callable, Iterator, Mapping

import msgspec
from msgspec import Struct

from endpoints.allocation.claimspec import role_of_claim
from endpoints.allocation.holdings import (
    IDLE_ANNOTATION,
    POOL_LABEL,
    PRIORITY_ANNOTATION,
    REPLICA_LABEL,
    Holding,
)
from endpoints.allocation.inventory import Inventory, InventoryError
from endpoints.allocation.levels import Scheme, is_topology, scheme_of
from endpoints.allocation.needs import Gang
from endpoints.allocation.raw import Raw, key_of, mapping


class Snapshot(Struct, frozen=True):
    """What a file held. ``schemes`` by the topology's name; ``notes`` say what was left out."""

    inventory: Inventory
    holdings: tuple[Holding, ...]
    schemes: Mapping[str, Scheme]
    notes: tuple[str, ...]
    counts: Mapping[str, int]


class SnapshotError(ValueError):
    """A file that is no list of objects."""


def read_snapshot(content: bytes) -> Snapshot:
    """The cluster in a file's content. Raises SnapshotError when it is no list of objects."""
    try:
        document = msgspec.json.decode(content)
    except msgspec.DecodeError as error:
        raise SnapshotError(f"it is no JSON: {error}") from None
    inventory = Inventory()
    readers: dict[str, Callable[[Raw], None]] = {
        "Node": inventory.upsert_node,
        "DeviceClass": inventory.upsert_class,
        "ResourceSlice": inventory.upsert_slice,
        "ResourceClaim": inventory.upsert_claim,
        "DeviceTaintRule": inventory.upsert_taint_rule,
    }
    schemes: dict[str, Scheme] = {}
    notes: list[str] = []
    counts: dict[str, int] = {}
    held: dict[tuple[str, str], list[Raw]] = {}
    for item in _items(document):
        kind = str(item.get("kind"))
        try:
            if is_topology(item):
                scheme = scheme_of(item)
                schemes[scheme.name] = scheme
            elif kind in readers:
                readers[kind](item)
                if kind == "ResourceClaim":
                    _hold(held, item)
            else:
                continue
        except InventoryError as error:
            notes.append(f"left out: {error}")
            continue
        counts[kind] = counts.get(kind, 0) + 1
    holdings = tuple(_holding(*key, claims) for key, claims in sorted(held.items()))
    return Snapshot(inventory, holdings, schemes, tuple(notes), counts)


def _items(document: object, kind: str = "") -> Iterator[Raw]:
    """Objects of a List, of lists of one kind (whose items may leave out theirs), of an array."""
    if isinstance(document, list):
        for one in document:
            yield from _items(one, kind)
        return
    if not isinstance(document, Mapping):
        raise SnapshotError("it holds something else than objects; expected is a List of kubectl")
    if "items" in document:
        of = str(document.get("kind", "List")).removesuffix("List")
        yield from _items(document["items"] or [], of)
        return
    if "kind" not in document and not kind:
        raise SnapshotError("it holds an object without kind; expected is a List of kubectl")
    yield document if "kind" in document else {"kind": kind, **document}


def _hold(held: dict[tuple[str, str], list[Raw]], item: Raw) -> None:
    labels = mapping(mapping(item, "metadata", "ResourceClaim"), "labels", "ResourceClaim.metadata")
    pool, replica = labels.get(POOL_LABEL), labels.get(REPLICA_LABEL)
    if pool and replica:
        held.setdefault((str(pool), str(replica)), []).append(item)


def _holding(pool: str, replica: str, claims: list[Raw]) -> Holding:
    notes = [
        mapping(mapping(one, "metadata", "ResourceClaim"), "annotations", "ResourceClaim.metadata")
        for one in claims
    ]
    priorities = [str(one[PRIORITY_ANNOTATION]) for one in notes if PRIORITY_ANNOTATION in one]
    try:
        priority = max((int(one) for one in priorities), default=0)
    except ValueError:
        priority = 0
    return Holding(
        pool,
        replica,
        priority,
        tuple(key_of(one) for one in claims),
        idle=all(one.get(IDLE_ANNOTATION) == "true" for one in notes),
        gang=_gang(pool, claims, priority),
    )


def _gang(pool: str, claims: list[Raw], priority: int) -> Gang | None:
    """What a replica of one pod needs elsewhere, as its claim says it.

    None for more pods: how near they must be to each other, their claims do not say.
    """
    if len(claims) != 1:
        return None
    try:
        role = role_of_claim(claims[0], "pod")
    except InventoryError:
        return None
    return Gang(pool, (role,), priority=priority) if role.requests else None
