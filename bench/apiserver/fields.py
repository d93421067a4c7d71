"""Who owns which field: what server-side apply is made of.

A field is a path of steps: ``("spec", "replicas")``; an item of a keyed list is one step, a pair of
key names and values. Lists that are not keyed are atomic: owned as a whole. ``fieldsV1`` is how
objects write such sets (``{"f:spec": {"f:replicas": {}}}``).

Source: Kubernetes "Server-Side Apply" and structured-merge-diff's fieldpath.
"""

import itertools
import json
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeAlias

from bench.apiserver.values import Json

Step: TypeAlias = str | tuple[tuple[str, Any], ...]
Path: TypeAlias = tuple[Step, ...]

_KEYS: Final[dict[str, tuple[str, ...]]] = {
    "conditions": ("type",),
    "containers": ("name",),
    "initContainers": ("name",),
    "volumes": ("name",),
    "env": ("name",),
    "ownerReferences": ("uid",),
    "imagePullSecrets": ("name",),
    "resourceClaims": ("name",),
    "listeners": ("name",),
}
"""Lists whose items are merged by these keys, by the name of the field that holds them."""

_NOT_OWNED: Final = frozenset(
    {
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "managedFields",
        "name",
        "namespace",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
    }
)


def leaves(item: dict[str, Any]) -> dict[Path, Any]:
    """Every field that somebody can own, with its value."""
    found: dict[Path, Any] = {}
    for name, value in item.items():
        if name in {"apiVersion", "kind"}:
            continue
        owned = value
        if name == "metadata":
            owned = {key: one for key, one in value.items() if key not in _NOT_OWNED}
        _collect(owned, (name,), found)
    return found


def _collect(value: object, path: Path, found: dict[Path, Any]) -> None:
    if isinstance(value, dict) and value:
        for name, inner in value.items():
            _collect(inner, (*path, name), found)
    elif (keyed := _keyed(path[-1], value)) is not None:
        for key, inner in keyed.items():
            _collect(inner, (*path, key), found)
    elif not isinstance(value, dict) or path != ("metadata",):
        found[path] = value


def _keyed(name: Step, value: object) -> dict[tuple[tuple[str, Any], ...], dict[str, Any]] | None:
    """The items of a keyed list by their keys; None for anything else."""
    names = _KEYS.get(name) if isinstance(name, str) else None
    if names is None or not isinstance(value, list) or not value:
        return None
    keyed = {}
    for item in value:
        if not isinstance(item, dict) or any(key not in item for key in names):
            return None
        keyed[tuple((key, item[key]) for key in names)] = item
    return keyed


def put(item: dict[str, Any], path: Path, value: object) -> None:
    """Set a field, making what holds it; an empty object empties nothing."""
    holder: Any = item
    for step, after in itertools.pairwise(path):
        holder = _inside(holder, step, after)
    step = path[-1]
    if isinstance(step, str) and not (value == {} and isinstance(holder.get(step), dict)):
        holder[step] = value


def _inside(holder: Json, step: Step, after: Step) -> Json:
    if isinstance(step, str):
        empty: Any = {} if isinstance(after, str) else []
        held = holder.get(step)
        if not isinstance(held, type(empty)):
            held = holder[step] = empty
        return held
    for one in holder:
        if all(one.get(key) == value for key, value in step):
            return one
    holder.append(dict(step))
    return holder[-1]


def drop(item: dict[str, Any], path: Path) -> None:
    """Remove a field, and what holds nothing any more then."""
    holders: list[Any] = [item]
    for step in path[:-1]:
        held = _find(holders[-1], step)
        if held is None:
            return
        holders.append(held)
    for depth in range(len(path) - 1, -1, -1):
        holder, step = holders[depth], path[depth]
        held = holders[depth + 1] if depth + 1 < len(path) else None
        if held:
            return
        if isinstance(step, str):
            holder.pop(step, None)
        else:
            holder[:] = [one for one in holder if one is not held]


def names_item(path: Path) -> bool:
    """Whether the field is a key of a list's item: to be dropped last, as it finds the others."""
    step = path[-2] if len(path) > 1 else ""
    return not isinstance(step, str) and path[-1] in dict(step)


def _find(holder: Json, step: Step) -> Json:
    if isinstance(step, str):
        return holder.get(step) if isinstance(holder, dict) else None
    for one in holder if isinstance(holder, list) else ():
        if all(one.get(key) == value for key, value in step):
            return one
    return None


def to_v1(paths: Iterable[Path]) -> dict[str, Any]:
    """The set as ``fieldsV1``."""
    root: dict[str, Any] = {}
    for path in sorted(paths, key=repr):
        held = root
        for step in path:
            name = f"f:{step}" if isinstance(step, str) else f"k:{json.dumps(dict(step))}"
            held = held.setdefault(name, {})
    return root


def from_v1(root: dict[str, Any], path: Path = ()) -> Iterator[Path]:
    """The set that a ``fieldsV1`` is."""
    for name, inner in root.items():
        if name == ".":
            continue
        kind, _, text = name.partition(":")
        step: Step = text if kind == "f" else tuple(json.loads(text).items())
        if inner:
            yield from from_v1(inner, (*path, step))
        else:
            yield (*path, step)


def words(path: Path) -> str:
    """A path as conflicts write it: ``.spec.replicas``."""
    parts = []
    for step in path:
        if isinstance(step, str):
            parts.append(f".{step}")
        else:
            parts.append("[" + ",".join(f"{key}={json.dumps(value)}" for key, value in step) + "]")
    return "".join(parts)
