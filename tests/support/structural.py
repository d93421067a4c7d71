"""An API server's check of custom objects: structural OpenAPI schemas with CEL rules.

Defaults are filled in first; then types, bounds, patterns, required fields, unknown fields (which
a server drops or, asked for strict validation, refuses: here they are refused), list keys, and
``x-kubernetes-validations``, whose transition rules (``oldSelf``) hold only for changes.
"""

import copy
import re
from collections.abc import Iterator, Mapping
from typing import Any

import cel

_TYPES: Mapping[str, tuple[type, ...]] = {
    "object": (dict,),
    "array": (list,),
    "string": (str,),
    "integer": (int,),
    "number": (int, float),
    "boolean": (bool,),
}
Schema = Mapping[str, Any]


def schema_of(definition: Mapping[str, Any], version: str) -> Schema:
    """The schema of a served ``version`` of a CustomResourceDefinition."""
    (served,) = (one for one in definition["spec"]["versions"] if one["name"] == version)
    schema: Schema = served["schema"]["openAPIV3Schema"]
    return schema


def complaints(schema: Schema, value: object, old: object = None) -> list[str]:
    """What is wrong with ``value``, a line each, with its path; ``old`` is what it replaces."""
    return list(_check(schema, defaulted(schema, value), defaulted(schema, old), "object"))


def defaulted(schema: Schema, value: object) -> object:
    """``value`` with the schema's defaults where it says nothing."""
    value = copy.deepcopy(value)
    if isinstance(value, dict):
        for name, field in schema.get("properties", {}).items():
            if name not in value and "default" in field:
                value[name] = copy.deepcopy(field["default"])
            if name in value:
                value[name] = defaulted(field, value[name])
    elif isinstance(value, list) and "items" in schema:
        value = [defaulted(schema["items"], one) for one in value]
    return value


def _check(schema: Schema, value: object, old: object, path: str) -> Iterator[str]:
    wrong = list(_shape(schema, value, path))
    yield from wrong
    if wrong:
        return
    if isinstance(value, dict):
        yield from _fields(schema, value, old if isinstance(old, dict) else {}, path)
    elif isinstance(value, list):
        keys = schema.get("x-kubernetes-list-map-keys", ())
        for number, one in enumerate(value):
            before = _same_key(keys, one, old)
            yield from _check(schema["items"], one, before, f"{path}[{number}]")
    yield from _rules(schema, value, old, path)


def _shape(schema: Schema, value: object, path: str) -> Iterator[str]:
    expected = schema.get("type")
    if expected is not None:
        right = isinstance(value, _TYPES[expected])
        if not right or (isinstance(value, bool) and expected != "boolean"):
            yield f"{path}: must be of type {expected}"
            return
    if schema.get("x-kubernetes-int-or-string") and not isinstance(value, int | str):
        yield f"{path}: must be a whole number or a string"
        return
    if "enum" in schema and value not in schema["enum"]:
        yield f"{path}: must be one of {', '.join(schema['enum'])}"
    if isinstance(value, str):
        if "pattern" in schema and not re.search(schema["pattern"], value):
            yield f"{path}: must match {schema['pattern']}"
        yield from _bounds(schema, len(value), "Length", path)
    elif isinstance(value, list):
        yield from _bounds(schema, len(value), "Items", path)
        yield from _duplicates(schema, value, path)
    elif isinstance(value, dict):
        yield from _bounds(schema, len(value), "Properties", path)
    elif isinstance(value, int | float):
        yield from _bounds(schema, value, "imum", path)


def _bounds(schema: Schema, size: float, of: str, path: str) -> Iterator[str]:
    if size < schema.get(f"min{of}", size):
        yield f"{path}: min{of} is {schema[f'min{of}']}"
    if size > schema.get(f"max{of}", size):
        yield f"{path}: max{of} is {schema[f'max{of}']}"


def _duplicates(schema: Schema, value: list[Any], path: str) -> Iterator[str]:
    kind = schema.get("x-kubernetes-list-type")
    if kind == "set" and len(set(value)) != len(value):
        yield f"{path}: an entry is there twice"
    if kind == "map":
        keys = [
            tuple(one.get(key) for key in schema["x-kubernetes-list-map-keys"]) for one in value
        ]
        if len(set(keys)) != len(keys):
            yield f"{path}: a key is there twice"


def _fields(
    schema: Schema, value: dict[str, Any], old: Mapping[str, Any], path: str
) -> Iterator[str]:
    known = schema.get("properties", {})
    for name in schema.get("required", ()):
        if name not in value:
            yield f"{path}.{name}: is required"
    for name, one in value.items():
        if name in known:
            yield from _check(known[name], one, old.get(name), f"{path}.{name}")
        elif "additionalProperties" in schema:
            yield from _check(schema["additionalProperties"], one, None, f"{path}.{name}")
        elif known and not schema.get("x-kubernetes-preserve-unknown-fields"):
            yield f"{path}.{name}: unknown field"


def _rules(schema: Schema, value: object, old: object, path: str) -> Iterator[str]:
    for rule in schema.get("x-kubernetes-validations", ()):
        if "oldSelf" in rule["rule"] and old is None:
            continue
        if cel.evaluate(rule["rule"], {"self": value, "oldSelf": old}) is not True:
            yield f"{path}: {rule['message']}"


def _same_key(keys: tuple[str, ...], one: object, old: object) -> object:
    if not keys or not isinstance(one, dict) or not isinstance(old, list):
        return None
    return next(
        (other for other in old if all(other.get(key) == one.get(key) for key in keys)), None
    )
