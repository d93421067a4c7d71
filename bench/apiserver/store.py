"""The objects and their history: what the API server does, without a socket or a clock.

Every write gets the next resource version and is one event of the history that watches follow.
The history is bounded; a watch from before it is answered 410. Deletion honours finalizers and
collects dependents by owner references in the background, like the real garbage collector.
"""

import itertools
import secrets
import uuid
from collections import deque
from collections.abc import Callable, Iterable
from copy import deepcopy
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final, TypeAlias

from bench.apiserver import managers
from bench.apiserver.failures import (
    already_exists,
    bad_request,
    conflict,
    expired,
    invalid,
    not_found,
)
from bench.apiserver.kinds import Kind
from bench.apiserver.selectors import Matches, everything

Item: TypeAlias = dict[str, Any]
_Place: TypeAlias = tuple[str, str]
_SERVER_SET: Final = ("uid", "creationTimestamp", "generation", "deletionTimestamp")
_ALPHABET: Final = "bcdfghjklmnpqrstvwxz2456789"


@dataclass(frozen=True, slots=True)
class Event:
    """One write: the kind it was of, what happened, the object after and before it."""

    version: int
    kind: Kind
    what: str
    item: Item
    before: Item | None


@dataclass(frozen=True, slots=True)
class Writer:
    """Who writes and how: field manager, subresource, and whether it is only tried."""

    manager: str = "unknown"
    subresource: str = ""
    dry_run: bool = False


PLAIN: Final = Writer()


class Store:
    """All objects. ``now`` gives the time as objects write it."""

    def __init__(
        self, *, history: int = 5_000, now: Callable[[], str] | None = None, first: int = 1000
    ) -> None:
        self._items: dict[Kind, dict[_Place, Item]] = {}
        self._versions = itertools.count(first + 1)
        self._history: deque[Event] = deque(maxlen=history)
        self._now = now or _time
        self.version = first
        """The resource version of the last write."""
        self.forgotten = first
        """Watches from before this version are answered 410."""
        self._listeners: list[Callable[[], None]] = []

    # --- reading ---------------------------------------------------------------------------------

    def get(self, kind: Kind, namespace: str, name: str) -> Item:
        """The object; `StatusError` (404) when there is none."""
        item = self._items.get(kind, {}).get((namespace, name))
        if item is None:
            raise not_found(kind.name, name)
        return item

    def select(self, kind: Kind, namespace: str = "", matches: Matches = everything) -> list[Item]:
        """Those of a namespace (empty: of all), in the order of their names."""
        return [
            item
            for place, item in sorted(self._items.get(kind, {}).items())
            if namespace in ("", place[0]) and matches(item)
        ]

    def since(self, version: int) -> list[Event]:
        """The events after ``version``; `StatusError` (410) when some of them are forgotten."""
        if version < self.forgotten:
            raise expired(version, self.forgotten)
        found = []
        for event in reversed(self._history):
            if event.version <= version:
                break
            found.append(event)
        found.reverse()
        return found

    def forget(self) -> None:
        """Drop the history, as compaction does: every watch must list again.

        A version passes, as if something else had been written: nobody is up to date any more.
        """
        self._history.clear()
        self.version = next(self._versions)
        self.forgotten = self.version

    def listen(self, told: Callable[[], None]) -> Callable[[], None]:
        """Have ``told`` called after each write; gives what ends that."""
        self._listeners.append(told)
        return lambda: self._listeners.remove(told)

    # --- writing ---------------------------------------------------------------------------------

    def create(self, kind: Kind, namespace: str, item: Item, writer: Writer = PLAIN) -> Item:
        """Make it; 409 when it is there."""
        item = _kinded(kind, item)
        metadata = item.setdefault("metadata", {})
        if not metadata.get("name") and metadata.get("generateName"):
            tail = "".join(secrets.choice(_ALPHABET) for _ in range(5))
            metadata["name"] = f"{metadata['generateName']}{tail}"
        name = metadata.get("name")
        if not name:
            raise invalid(kind.kind, "metadata.name: Required value: name or generateName")
        if metadata.get("namespace") not in (None, "", namespace):
            raise bad_request("the namespace of the object does not match the request's")
        if (namespace, name) in self._items.get(kind, {}):
            raise already_exists(kind.name, name)
        if kind.status and kind.kind != "Pod":
            item.pop("status", None)
        for key in (*_SERVER_SET, "resourceVersion", "managedFields"):
            metadata.pop(key, None)
        managers.noted(None, item, writer.manager, now=self._now())
        return self._born(kind, namespace, item, writer)

    def _born(self, kind: Kind, namespace: str, item: Item, writer: Writer) -> Item:
        metadata = item["metadata"]
        if kind.namespaced:
            metadata["namespace"] = namespace
        metadata["uid"] = str(uuid.uuid4())
        metadata["creationTimestamp"] = self._now()
        metadata["generation"] = 1
        _default(kind, item)
        return self._write(kind, "ADDED", item, None, writer)

    def update(
        self, kind: Kind, namespace: str, name: str, item: Item, writer: Writer = PLAIN
    ) -> Item:
        """Put it in place of what is there; 409 when its resourceVersion is another."""
        before = self.get(kind, namespace, name)
        after = self._checked(kind, before, item, writer)
        if after is not before:
            managers.noted(
                before, after, writer.manager, subresource=writer.subresource, now=self._now()
            )
        return self._replaced(kind, before, after, writer)

    def apply(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        configuration: Item,
        writer: Writer,
        *,
        force: bool = False,
    ) -> Item:
        """Server-side apply; makes the object when it is not there."""
        before = self._items.get(kind, {}).get((namespace, name))
        if before is None and writer.subresource:
            raise not_found(kind.name, name)
        if (configuration.get("metadata") or {}).get("managedFields"):
            raise bad_request("metadata.managedFields must be nil")
        configuration = _part(configuration, writer.subresource, kind)
        after = managers.applied(
            before,
            configuration,
            writer.manager,
            force=force,
            subresource=writer.subresource,
            now=self._now(),
        )
        if before is None:
            return self._born(kind, namespace, after, writer)
        return self._replaced(kind, before, after, writer)

    def delete(
        self,
        kind: Kind,
        namespace: str,
        name: str,
        options: Item | None = None,
        *,
        dry_run: bool = False,
    ) -> Item:
        """Delete it; with finalizers it only gets a deletion time, and goes with the last one."""
        item = self.get(kind, namespace, name)
        options = options or {}
        metadata = item["metadata"]
        for key, wanted in (options.get("preconditions") or {}).items():
            if metadata.get(key) != wanted:
                raise conflict(
                    kind.name,
                    name,
                    f"Precondition failed: {key} in precondition: {wanted}, "
                    f"{key} in object meta: {metadata.get(key)}",
                )
        if dry_run:
            return item
        grace = options.get("gracePeriodSeconds")
        if grace is None and kind.kind == "Pod" and (item.get("spec") or {}).get("nodeName"):
            grace = (item.get("spec") or {}).get("terminationGracePeriodSeconds", 30)
        if metadata.get("finalizers") or grace:
            if "deletionTimestamp" in metadata:
                return item
            after = deepcopy(item)
            after["metadata"]["deletionTimestamp"] = self._now()
            after["metadata"]["deletionGracePeriodSeconds"] = grace or 0
            return self._write(kind, "MODIFIED", after, item, PLAIN)
        return self._gone(kind, item, options.get("propagationPolicy") or "Background")

    # --- rules -----------------------------------------------------------------------------------

    def _checked(self, kind: Kind, before: Item, item: Item, writer: Writer) -> Item:
        """What a write leaves: the part it may change from ``item``, the rest as it was."""
        name = before["metadata"]["name"]
        metadata = item.get("metadata") or {}
        if metadata.get("name", name) != name:
            raise bad_request("the name of the object does not match the name on the URL")
        version = metadata.get("resourceVersion")
        if version and version != before["metadata"]["resourceVersion"]:
            raise conflict(
                kind.name,
                name,
                "the object has been modified; please apply your changes to the latest version "
                "and try again",
            )
        if metadata.get("uid", before["metadata"]["uid"]) != before["metadata"]["uid"]:
            raise conflict(kind.name, name, "Precondition failed: UID in precondition differs")
        if writer.subresource == "status":
            after = deepcopy(before)
            after["status"] = deepcopy(item.get("status") or {})
            if not after["status"]:
                del after["status"]
            return after
        after = deepcopy(item)
        after["apiVersion"], after["kind"] = before["apiVersion"], before["kind"]
        kept = before["metadata"]
        after["metadata"] = {**after.get("metadata", {}), "name": name}
        for key in (*_SERVER_SET, "namespace", "deletionGracePeriodSeconds", "managedFields"):
            after["metadata"].pop(key, None)
            if key in kept:
                after["metadata"][key] = deepcopy(kept[key])
        if kind.status:
            after.pop("status", None)
            if "status" in before:
                after["status"] = deepcopy(before["status"])
        return after

    def _replaced(self, kind: Kind, before: Item, after: Item, writer: Writer) -> Item:
        metadata = after["metadata"]
        for key in (*_SERVER_SET, "namespace"):
            if key in before["metadata"]:
                metadata[key] = before["metadata"][key]
        if _same(before, after):
            return before  # nothing changed: no new version, no event
        if any(before.get(key) != after.get(key) for key in _spec_keys(before, after)):
            metadata["generation"] = before["metadata"].get("generation", 0) + 1
        leaving = "deletionTimestamp" in metadata and not metadata.get("finalizers")
        if leaving and not metadata.get("deletionGracePeriodSeconds") and not writer.dry_run:
            return self._gone(kind, after, "Background")
        return self._write(kind, "MODIFIED", after, before, writer)

    def _gone(self, kind: Kind, item: Item, propagation: str) -> Item:
        place = _place(item)
        before = self._items[kind].pop(place)
        after = deepcopy(item)
        self._record(kind, "DELETED", after, before)
        if kind.kind == "Namespace" and not kind.group:
            self._empty(item["metadata"]["name"])
        if propagation != "Orphan":
            self._collect(item["metadata"]["uid"])
        return after

    def _empty(self, namespace: str) -> None:
        for kind, place, _item in self._everything():
            if place[0] == namespace and place in self._items[kind]:
                self.delete(kind, *place, {"gracePeriodSeconds": 0})

    def _collect(self, owner: str) -> None:
        """Delete what belonged to that owner and to nobody else that still exists."""
        living = {item["metadata"]["uid"] for _kind, _place_, item in self._everything()}
        for kind, place, item in self._everything():
            owners = item["metadata"].get("ownerReferences") or ()
            uids = {reference["uid"] for reference in owners}
            if owner in uids and not uids & living and place in self._items[kind]:
                self.delete(kind, *place, {"gracePeriodSeconds": 0})

    def _everything(self) -> Iterable[tuple[Kind, _Place, Item]]:
        return [
            (kind, place, item)
            for kind, items in self._items.items()
            for place, item in items.items()
        ]

    def _write(self, kind: Kind, what: str, item: Item, before: Item | None, by: Writer) -> Item:
        if by.dry_run:
            return item
        self._record(kind, what, item, before)
        self._items.setdefault(kind, {})[_place(item)] = item
        return item

    def _record(self, kind: Kind, what: str, item: Item, before: Item | None) -> None:
        self.version = next(self._versions)
        item["metadata"]["resourceVersion"] = str(self.version)
        if len(self._history) == self._history.maxlen and self._history:
            self.forgotten = self._history[0].version
        self._history.append(Event(self.version, kind, what, item, before))
        for told in tuple(self._listeners):
            told()


def _kinded(kind: Kind, item: Item) -> Item:
    """A copy that says what it is."""
    return {"apiVersion": kind.api_version(kind.versions[0]), "kind": kind.kind, **deepcopy(item)}


def _default(kind: Kind, item: Item) -> None:
    """What real servers fill in, as far as anybody here looks at it."""
    if kind.kind == "Pod" and not kind.group:
        item.setdefault("status", {}).setdefault("phase", "Pending")
    if kind.kind == "InferencePool":
        item.get("spec", {}).setdefault("appProtocol", "http")
    if kind.scale and kind.wanted_at == ("spec", "replicas"):
        item.setdefault("spec", {}).setdefault("replicas", 1)


def _part(configuration: Item, subresource: str, kind: Kind) -> Item:
    """The part of an applied configuration that counts there."""
    kept = dict(configuration)
    if subresource == "status":
        names = ("apiVersion", "kind", "status")
        kept = {key: configuration[key] for key in names if key in configuration}
        metadata = configuration.get("metadata") or {}
        kept["metadata"] = {key: metadata[key] for key in ("name", "namespace") if key in metadata}
    elif kind.status:
        kept.pop("status", None)
    return kept


def _place(item: Item) -> _Place:
    return item["metadata"].get("namespace") or "", item["metadata"]["name"]


def _spec_keys(before: Item, after: Item) -> set[str]:
    return (before.keys() | after.keys()) - {"metadata", "status", "apiVersion", "kind"}


def _same(before: Item, after: Item) -> bool:
    """Whether nothing but what the server itself writes differs."""

    def bare(item: Item) -> Item:
        metadata = {
            key: value
            for key, value in item["metadata"].items()
            if key not in {"resourceVersion", "managedFields"}
        }
        return {**item, "metadata": metadata}

    def owners(item: Item) -> list[Any]:
        entries = item["metadata"].get("managedFields") or ()
        return [(one["manager"], one["operation"], one["fieldsV1"]) for one in entries]

    return bare(before) == bare(after) and owners(before) == owners(after)


def _time() -> str:
    return datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
