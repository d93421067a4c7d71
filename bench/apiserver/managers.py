"""Field managers: applying a configuration, and noting who wrote what otherwise."""

from copy import deepcopy
from dataclasses import dataclass
from typing import Any, Final

from bench.apiserver.failures import StatusError
from bench.apiserver.fields import Path, drop, from_v1, leaves, names_item, put, to_v1, words

_APPLY: Final = "Apply"
_UPDATE: Final = "Update"


@dataclass(frozen=True, slots=True)
class Manager:
    """Who writes: the name, how, and through which subresource (empty: the object itself)."""

    name: str
    operation: str
    subresource: str = ""


def applied(
    current: dict[str, Any] | None,
    configuration: dict[str, Any],
    manager: str,
    *,
    force: bool,
    subresource: str = "",
    now: str,
) -> dict[str, Any]:
    """The object after ``manager`` applied ``configuration``; `StatusError` (409): a conflict."""
    who = Manager(manager, _APPLY, subresource)
    owners = _owners(current or {})
    wanted = leaves(configuration)
    present = leaves(current or {})
    conflicts = {
        path: other.name
        for other, paths in owners.items()
        if other.name != manager
        for path in paths & wanted.keys()
        if present.get(path) != wanted[path]
    }
    if conflicts and not force:
        raise _conflict(conflicts)
    item = deepcopy(current) if current is not None else _bare(configuration)
    owned = owners.pop(who, set())
    for other in owners:
        owners[other] -= conflicts.keys()
    others = set().union(*owners.values()) if owners else set()
    for path in sorted(owned - wanted.keys() - others, key=names_item):
        drop(item, path)
    for path, value in wanted.items():
        put(item, path, deepcopy(value))
    owners[who] = set(wanted)
    _write(item, owners, who, now)
    return item


def noted(
    before: dict[str, Any] | None,
    after: dict[str, Any],
    manager: str,
    *,
    subresource: str = "",
    now: str,
) -> None:
    """Note in ``after`` that ``manager`` changed what differs from ``before``."""
    who = Manager(manager, _UPDATE, subresource)
    owners = _owners(before or {})
    old, new = leaves(before or {}), leaves(after)
    changed = {path for path, value in new.items() if path not in old or old[path] != value}
    gone = old.keys() - new.keys()
    for other in owners:
        owners[other] -= gone
        if other != who:
            owners[other] -= changed
    if changed:
        owners[who] = owners.get(who, set()) | changed
    _write(after, owners, who if changed else None, now)


def _bare(configuration: dict[str, Any]) -> dict[str, Any]:
    metadata = configuration["metadata"]
    kept = {key: metadata[key] for key in ("name", "namespace") if key in metadata}
    return {
        "apiVersion": configuration["apiVersion"],
        "kind": configuration["kind"],
        "metadata": kept,
    }


def _owners(item: dict[str, Any]) -> dict[Manager, set[Path]]:
    found = {}
    for entry in (item.get("metadata") or {}).get("managedFields") or ():
        who = Manager(entry["manager"], entry["operation"], entry.get("subresource", ""))
        found[who] = set(from_v1(entry["fieldsV1"]))
    return found


def _write(
    item: dict[str, Any], owners: dict[Manager, set[Path]], writer: Manager | None, now: str
) -> None:
    times = {
        (entry["manager"], entry["operation"], entry.get("subresource", "")): entry["time"]
        for entry in item["metadata"].get("managedFields") or ()
    }
    entries = []
    for who, paths in owners.items():
        if not paths:
            continue
        known = times.get((who.name, who.operation, who.subresource), now)
        entry: dict[str, Any] = {
            "manager": who.name,
            "operation": who.operation,
            "apiVersion": item["apiVersion"],
            "time": now if who == writer else known,
            "fieldsType": "FieldsV1",
            "fieldsV1": to_v1(paths),
        }
        if who.subresource:
            entry["subresource"] = who.subresource
        entries.append(entry)
    item["metadata"]["managedFields"] = entries


def _conflict(conflicts: dict[Path, str]) -> StatusError:
    causes = [
        {
            "reason": "FieldManagerConflict",
            "message": f'conflict with "{owner}"',
            "field": words(path),
        }
        for path, owner in sorted(conflicts.items(), key=repr)
    ]
    fields = ", ".join(f"{cause['field']} ({cause['message']})" for cause in causes)
    count = len(causes)
    return StatusError(
        409,
        "Conflict",
        f"Apply failed with {count} conflict{'s' if count > 1 else ''}: {fields}",
        {"causes": causes},
    )
