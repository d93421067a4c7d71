"""Merge patches (RFC 7386) and JSON patches (RFC 6902)."""

from copy import deepcopy
from typing import Any, Final

from bench.apiserver.failures import StatusError, bad_request, invalid
from bench.apiserver.values import Json

_MISSING: Final = object()


def merge_patch(target: Json, patch: Json) -> Json:
    """``target`` with ``patch`` merged in; the originals stay as they are."""
    if not isinstance(patch, dict):
        return deepcopy(patch)
    merged = dict(target) if isinstance(target, dict) else {}
    for key, value in patch.items():
        if value is None:
            merged.pop(key, None)
        else:
            merged[key] = merge_patch(merged.get(key), value)
    return merged


def json_patch(target: dict[str, Any], operations: Json) -> dict[str, Any]:
    """``target`` with all operations carried out; `StatusError` (422) when one can't be."""
    if not isinstance(operations, list):
        raise bad_request("a JSON patch is a list of operations")
    document: Any = deepcopy(target)
    for operation in operations:
        try:
            document = _carry_out(document, operation)
        except (KeyError, IndexError, ValueError, TypeError) as error:
            raise invalid("", f"the patch operation {operation} can't be done: {error}") from error
    if not isinstance(document, dict):
        raise bad_request("the patch replaces the whole object")
    return document


def _carry_out(document: Json, operation: dict[str, Any]) -> Json:
    kind, path = operation["op"], _parts(operation["path"])
    if kind == "test":
        if _at(document, path) != operation.get("value"):
            raise StatusError(422, "Invalid", f"testing value {operation['path']} failed")
        return document
    if kind in {"move", "copy"}:
        source = _parts(operation["from"])
        value = deepcopy(_at(document, source))
        if kind == "move":
            _remove(document, source)
        return _add(document, path, value)
    if kind == "remove":
        _remove(document, path)
        return document
    if kind == "replace":
        _at(document, path)
        if path:
            _remove(document, path)
        return _add(document, path, deepcopy(operation["value"]))
    if kind == "add":
        return _add(document, path, deepcopy(operation["value"]))
    raise ValueError(f"there is no operation {kind!r}")


def _parts(pointer: str) -> list[str]:
    if pointer and not pointer.startswith("/"):
        raise ValueError(f"{pointer!r} is no JSON pointer")
    return [part.replace("~1", "/").replace("~0", "~") for part in pointer.split("/")[1:]]


def _at(document: Json, path: list[str]) -> Json:
    for part in path:
        document = document[int(part)] if isinstance(document, list) else document[part]
    return document


def _add(document: Json, path: list[str], value: Json) -> Json:
    if not path:
        return value
    holder = _at(document, path[:-1])
    if isinstance(holder, list):
        place = len(holder) if path[-1] == "-" else int(path[-1])
        if place > len(holder):
            raise IndexError(f"there is no place {place}")
        holder.insert(place, value)
    else:
        holder[path[-1]] = value
    return document


def _remove(document: Json, path: list[str]) -> None:
    holder = _at(document, path[:-1])
    if isinstance(holder, list):
        del holder[int(path[-1])]
    else:
        del holder[path[-1]]
